"""What a consumer says and hears, without a connection."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.core.event import Event
from proxy.core.template import Unfit
from proxy.fanout.commands import MOST_SUBSCRIPTIONS, Broken, Commands, auth_required, event_message, read_token
from proxy.fanout.home_event import HomeEvent, home_event
from tests.fanout.rig import changed

STATES = [b'{"entity_id":"a.b","state":"on"}', b'{"entity_id":"a.c","state":"off"}']


def say(commands: Commands, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Messages, each by itself, and what is answered."""
    return [orjson.loads(answer) for each in messages for answer in commands.take(orjson.dumps(each).decode())]


def fresh() -> Commands:
    return Commands("2024.3.3", lambda: STATES)


def test_what_services_ask_for_is_answered() -> None:
    subscribed, states, config, features, pong = say(
        fresh(),
        {"id": 1, "type": "subscribe_events", "event_type": "state_changed"},
        {"id": 2, "type": "get_states"},
        {"id": 5, "type": "get_config"},
        {"id": 6, "type": "supported_features", "features": {"coalesce_messages": 1}},
        {"id": 7, "type": "ping"},
    )
    assert subscribed == {"id": 1, "type": "result", "success": True, "result": None}
    assert states["result"] == [orjson.loads(each) for each in STATES]
    assert (config["result"]["version"], config["result"]["state"]) == ("2024.3.3", "RUNNING")
    assert (features["success"], pong) == (True, {"id": 7, "type": "pong"})


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"id": 4, "type": "get_panels"}, "unknown_command"),
        ({"id": 3, "type": "get_states"}, "id_reuse"),
        ({"id": 2, "type": "ping"}, "id_reuse"),
        ({"type": "ping"}, "invalid_format"),
        ({"id": "9", "type": "ping"}, "invalid_format"),
        ({"id": True, "type": "ping"}, "invalid_format"),
        ({"id": 0, "type": "ping"}, "invalid_format"),
        ({"id": 4}, "invalid_format"),
        ({"id": 4, "type": "subscribe_events", "event_type": 7}, "invalid_format"),
        ({"id": 4, "type": "unsubscribe_events", "subscription": "1"}, "invalid_format"),
        ({"id": 4, "type": "unsubscribe_events", "subscription": 9}, "not_found"),
        ([4], "invalid_format"),
    ],
)
def test_anything_else_is_an_error_and_the_connection_goes_on(message: Any, code: str) -> None:
    commands = fresh()
    say(commands, {"id": 3, "type": "subscribe_events"})
    (answer,) = say(commands, message)
    assert (answer["success"], answer["error"]["code"]) == (False, code)
    assert answer["id"] == (message.get("id") if isinstance(message, dict) else 0)
    assert commands.subscriptions == {3: "*"}
    assert commands.unknown == (code == "unknown_command")
    (pong,) = say(commands, {"id": 99, "type": "ping"})
    assert pong["type"] == "pong"


def test_a_list_is_as_many_messages() -> None:
    commands = fresh()
    answers = commands.take('[{"id":1,"type":"ping"},{"id":2,"type":"ping"}]')
    assert [orjson.loads(each)["id"] for each in answers] == [1, 2]


def test_answers_are_made_one_after_the_other() -> None:
    """All states for each of a thousand commands in one message would fill the memory."""
    asked: list[int] = []

    def states() -> list[bytes]:
        asked.append(len(asked))
        return STATES

    commands = Commands("2024.3.3", states)
    message = orjson.dumps([{"id": n, "type": "get_states"} for n in range(1, 1001)]).decode()
    for n, answer in enumerate(commands.take(message), 1):
        assert orjson.loads(answer)["id"] == len(asked) == n
    assert len(asked) == 1000


def test_a_connection_has_so_many_subscriptions_at_most() -> None:
    commands = fresh()
    answers = say(commands, *({"id": n, "type": "subscribe_events"} for n in range(1, MOST_SUBSCRIPTIONS + 2)))
    assert [each["success"] for each in answers] == [True] * MOST_SUBSCRIPTIONS + [False]
    assert answers[-1]["error"]["code"] == "not_allowed"
    (freed, taken) = say(
        commands,
        {"id": 100, "type": "unsubscribe_events", "subscription": 1},
        {"id": 101, "type": "subscribe_events"},
    )
    assert (freed["success"], taken["success"]) == (True, True)
    assert len(commands.subscriptions) == MOST_SUBSCRIPTIONS


@pytest.mark.parametrize("message", [b"\x00", "{", ""])
def test_what_cannot_be_read_ends_the_conversation(message: str | bytes) -> None:
    with pytest.raises(Broken):
        fresh().take(message)


@pytest.mark.parametrize(
    ("message", "token"),
    [
        ('{"type":"auth","access_token":"t"}', "t"),
        ('{"type":"auth","access_token":""}', None),
        ('{"type":"auth","access_token":5}', None),
        ('{"type":"auth"}', None),
        ('{"type":"get_states","access_token":"t"}', None),
        ("[]", None),
        ("{", None),
        (b'{"type":"auth","access_token":"t"}', None),
    ],
)
def test_the_token_of_an_auth_message(message: str | bytes, token: str | None) -> None:
    assert read_token(message) == token


def test_the_first_message_is_home_assistants() -> None:
    assert orjson.loads(auth_required("2024.3.3")) == {"type": "auth_required", "ha_version": "2024.3.3"}


def event(body: bytes, head: bytes = b"POST / HTTP/1.1\r\n") -> Event:
    return Event(1, "an-id", "r", "k", 0, 1, 0, 3, 3, 0, False, 17, "http", head, body)


def test_an_event_is_what_home_assistant_told() -> None:
    made = home_event(event(changed(1, recovered=True)), 7, 2**20)
    assert isinstance(made, HomeEvent)
    told = orjson.loads(changed(1))
    del told["entity_id"]
    assert orjson.loads(made.body) == told
    assert (made.type, made.state, made.seq) == ("state_changed", "sensor.a", 7)
    assert made.value is not None
    assert orjson.loads(made.value)["state"] == "1"
    assert orjson.loads(event_message(4, made.body)) == {"id": 4, "type": "event", "event": told}


def test_a_state_that_is_gone_and_events_of_other_types() -> None:
    gone = home_event(
        event(orjson.dumps({"event_type": "state_changed", "data": {"entity_id": "a.b", "new_state": None}})), 7, 99
    )
    other = home_event(event(b'{"event_type":"call_service","data":{"entity_id":"a.b","new_state":{}}}'), 7, 99)
    assert isinstance(gone, HomeEvent)
    assert isinstance(other, HomeEvent)
    assert (gone.state, gone.value) == ("a.b", None)
    assert orjson.loads(gone.body)["context"] == {"id": "an-id", "parent_id": None, "user_id": None}
    assert (other.type, other.state) == ("call_service", "")


@pytest.mark.parametrize("body", [b"", b"[]", b"x", b'{"data":{}}', b'{"event_type":7}', b'{"event_type":""}'])
def test_what_is_no_event_of_home_assistant_is_unfit(body: bytes) -> None:
    assert isinstance(home_event(event(body), 7, 99), Unfit)


def test_what_is_nested_too_deeply_is_unfit_and_no_id() -> None:
    deep = "[" * 500 + "]" * 500
    made = home_event(event(f'{{"event_type":"x","data":{deep}}}'.encode()), 7, 2**20)
    assert made == Unfit("it is nested too deeply")
    (answer,) = fresh().take(f'{{"id":{deep},"type":"ping"}}')
    assert orjson.loads(answer)["error"]["code"] == "invalid_format"


class Subscribing(RuleBasedStateMachine):
    """Subscriptions and unsubscriptions in any order: wanted is what was asked for and not given back."""

    def __init__(self) -> None:
        super().__init__()
        self.commands = fresh()
        self.number = 0
        self.model: dict[int, str] = {}

    @rule(event_type=st.sampled_from(["a", "b", "*"]), skipped=st.integers(1, 3))
    def subscribe(self, event_type: str, skipped: int) -> None:
        self.number += skipped
        (answer,) = say(self.commands, {"id": self.number, "type": "subscribe_events", "event_type": event_type})
        assert answer["success"] == (len(self.model) < MOST_SUBSCRIPTIONS)
        if answer["success"]:
            self.model[self.number] = event_type

    @rule(subscription=st.integers(0, 12))
    def unsubscribe(self, subscription: int) -> None:
        self.number += 1  # also where nobody knew the last one: its id is free
        asked = {"id": self.number, "type": "unsubscribe_events", "subscription": subscription}
        (answer,) = say(self.commands, asked)
        assert answer["success"] == (self.model.pop(subscription, None) is not None)

    @rule(number=st.integers(-2, 12), command=st.sampled_from(["subscribe_events", "ping", "nonsense"]))
    def repeat(self, number: int, command: str) -> None:
        if number <= self.number:
            (answer,) = say(self.commands, {"id": number, "type": command})
            assert not answer["success"]

    @rule()
    def ask_what_nobody_knows(self) -> None:
        (answer,) = say(self.commands, {"id": self.number + 1, "type": "nonsense"})
        assert answer["error"]["code"] == "unknown_command"

    @invariant()
    def wants_what_was_asked_for(self) -> None:
        for event_type in ("a", "b", "c"):
            assert self.commands.wanted(event_type) == [n for n, of in self.model.items() if of in (event_type, "*")]


TestSubscribing = Subscribing.TestCase
