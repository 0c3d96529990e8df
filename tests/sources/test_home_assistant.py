"""Messages of a Home Assistant, one by one: what of them are events, and what they are answered with."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from config.sources import HomeAssistantSource
from proxy.core.known_states import KnownStates
from proxy.sources.event import Denied, SourceEvent
from proxy.sources.home_assistant import HomeAssistant

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:05+00:00"
SUBSCRIPTION, STATES = 2, 4
"""Ids of what is asked first: supported_features, subscribe_events, get_config, get_states."""
DEEP = "[" * 300 + "]" * 300


class Talk:
    """A conversation that is authenticated, unless said otherwise."""

    def __init__(self, known: dict[str, str] | None = None, *, is_in: bool = True, **more: str) -> None:
        self.counts: Counter[str] = Counter()
        self.known = KnownStates((known or {}) | more, is_established=True, tells_first=False)
        settings = HomeAssistantSource.model_validate({"url": "ws://h", "token": "secret"})
        self.home = HomeAssistant(settings, "secret", self.known, self.count, lambda: NOW)
        if is_in:
            self.hear({"type": "auth_required"})
            self.hear({"type": "auth_ok"})

    def count(self, name: str) -> None:
        self.counts[name] += 1

    def hear(self, message: Any) -> list[SourceEvent]:
        taken = self.home.take(message if isinstance(message, str) else orjson.dumps(message))
        return [event for event in taken if event is not None]

    def said(self) -> list[dict[str, Any]]:
        said, self.home.outbox[:] = [orjson.loads(each) for each in self.home.outbox], []
        return said


def state(name: str, version: str = EARLY) -> dict[str, Any]:
    return {"entity_id": name, "state": "on", "last_updated": version, "context": {"id": "c"}}


def changed(name: str, version: str = EARLY) -> dict[str, Any]:
    data = {"entity_id": name, "old_state": None, "new_state": state(name, version)}
    return {
        "id": SUBSCRIPTION,
        "type": "event",
        "event": {"event_type": "state_changed", "data": data, "time_fired": version},
    }


def result(value: Any, number: int = STATES) -> dict[str, Any]:
    return {"id": number, "type": "result", "success": True, "result": value}


def test_the_token_is_said_once() -> None:
    talk = Talk(is_in=False)
    talk.hear({"type": "auth_required"})
    assert talk.said() == [{"type": "auth", "access_token": "secret"}]
    talk.hear({"type": "auth_required"})
    talk.hear({"type": "auth_ok"})
    talk.hear({"type": "auth_required"})
    assert [each["type"] for each in talk.said()].count("auth") == 0
    assert talk.counts["unknown"] == 2


def test_a_token_is_refused_before_anything_else() -> None:
    talk = Talk(is_in=False)
    talk.hear({"type": "auth_required"})
    with pytest.raises(Denied, match="no such token"):
        talk.hear({"type": "auth_invalid", "message": "no such token"})


@pytest.mark.parametrize("entry", [{"type": "auth_invalid"}, result(None), 7, {"type": "event"}, {}])
def test_whatever_else_a_list_has_its_events_are_told(entry: Any) -> None:
    talk = Talk(a=EARLY)
    events = talk.hear([changed("a", LATE), entry, changed("b", LATE)])
    assert [event.state for event in events] == ["a", "b"]
    assert talk.counts["unknown"] + talk.counts["unreadable"] == 1


def test_a_snapshot_of_thousands_leaves_the_loop_its_turns() -> None:
    """Between two turns there are a few hundred states, whether they are news or not."""
    known = {f"sensor.s{n}": EARLY for n in range(20_000)}
    talk = Talk(known)
    fresh = [state(name, LATE if n % 10_000 == 0 else EARLY) for n, name in enumerate(known)]
    turns = [*talk.home.take(orjson.dumps([changed("x"), result(fresh), changed("y")]))]
    events = [event.state for event in turns if event is not None]
    assert events == ["x", "sensor.s0", "sensor.s10000", "y"], "in the order of the connection"
    assert turns.count(None) >= 40


def test_a_state_without_a_time_is_known_by_what_it_is() -> None:
    talk = Talk()
    untimed = {"entity_id": "a", "state": "on", "last_updated": 7}
    talk.hear(result([untimed]))
    before = talk.known.versions["a"]
    talk.known.connected()
    talk.home.wake()
    talk.home._ask_snapshot()
    number = next(each["id"] for each in talk.said() if each["type"] == "get_states" and each["id"] != STATES)
    assert talk.hear(result([untimed | {"state": "off"}], number))[0].version != before


def test_a_state_that_cannot_be_read_is_counted_and_not_gone() -> None:
    talk = Talk(a=EARLY, b=EARLY, c=EARLY)
    deep = f'{{"entity_id":"a","attributes":{{"x":{DEEP}}}}}'
    other = orjson.dumps(state("b", LATE)).decode()
    events = talk.hear(f'{{"id":{STATES},"type":"result","success":true,"result":[{deep},{other}]}}')
    assert [(event.state, event.version) for event in events] == [("b", LATE), ("c", None)]
    assert talk.counts == {"unreadable": 1}


@pytest.mark.parametrize(
    "refusal",
    [{"id": STATES, "type": "result", "success": False, "error": {"message": "busy"}}, result("none", STATES)],
)
def test_what_a_refused_snapshot_leaves_goes_with_the_next_one(refusal: dict[str, Any]) -> None:
    talk = Talk()
    talk.hear(refusal)
    assert talk.home.trouble.startswith("it gives us no states: ")
    talk.said()
    talk.home.wake()
    (number,) = [each["id"] for each in talk.said() if each["type"] == "get_states"]
    talk.hear(result([], number))
    assert talk.home.trouble == ""


def test_a_snapshot_leaves_what_is_wrong_with_a_subscription() -> None:
    talk = Talk()
    talk.hear({"id": SUBSCRIPTION, "type": "result", "success": False, "error": {"message": "Unauthorized"}})
    talk.hear(result([]))
    assert talk.home.trouble == "it lets us have no events of type state_changed: Unauthorized"
