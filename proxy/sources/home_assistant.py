"""The conversation with a Home Assistant over its WebSocket API, without the connection.

    auth_required --> auth --> auth_ok --> supported_features, subscribe_events of each type, get_config, get_states
                           \\--> auth_invalid: Denied

https://developers.home-assistant.io/docs/api/websocket: ids rise; messages may come several in a list, once that was
said to be supported. Subscriptions come before the snapshot, so that no change falls between the two; all messages of a
connection are in the order in which the things happened.

A state's event and the same state in a snapshot have one id, made of entity, `last_updated` and context, so that an
event which is told a second time is known again. What cannot be read is counted and left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec
import orjson
from xxhash import xxh3_128_hexdigest

from config.sources import HomeAssistantSource
from proxy.core.known_states import KnownStates
from proxy.sources.event import Denied, SourceEvent
from proxy.sources.pieces import Named, answer_in, entries, named_in

_STATE_CHANGED: Final = "state_changed"
_CONFIG: Final = "get_config"
_STATES: Final = "get_states"
_FEATURES: Final = "supported_features"
_SUBSCRIBE: Final = "subscribe_events"
_STATES_AT_ONCE: Final = 500
"""States of a snapshot that are looked at in one iteration of the loop: a quarter of a millisecond."""
_UNREADABLE: Final = "unreadable"
"""Version of a state that no event can be made of: it is there, and counted where its event is made."""


class HomeAssistant:
    """A `Conversation`. known: outlives the connection; count: of what is counted, by name; now: wall clock."""

    def __init__(
        self,
        settings: HomeAssistantSource,
        token: str,
        known: KnownStates,
        count: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._token = token
        self._known = known
        self._count = count
        self._now = now
        self._number = 0
        self._asked: dict[int, tuple[str, str]] = {}
        """By id, what was asked and has no answer yet, and of what."""
        self._subscriptions: set[int] = set()
        self._is_running = True
        """What it says of itself; one that says nothing of it is taken for started."""
        self._is_whole = False
        """A snapshot of a Home Assistant that had started was taken."""
        self._has_said_token = False
        self._denied = self._stateless = ""
        """What is wrong with subscriptions, and with snapshots."""
        self.outbox: list[str] = []
        self.is_ready = False
        known.connected()

    @property
    def trouble(self) -> str:
        """What is not as it should be, or empty."""
        return self._denied or self._stateless

    def ping(self) -> bool:
        """Its own ping: that is answered by what sends the events."""
        if self.is_ready:
            self._ask("ping")
        return self.is_ready

    def wake(self) -> None:
        """The snapshot of one that was still starting lacks states."""
        if self.is_ready and not self._is_whole and not self._is_asking(_STATES):
            self._ask_snapshot()

    def take(self, message: str | bytes) -> Iterator[SourceEvent | None]:
        """The events of a message, or of each of a list; None where others are to have their turn."""
        for piece in entries(message if isinstance(message, bytes) else message.encode()):
            states = self._states_in(piece)
            if states is None:
                yield from self._take_short(piece)
            else:
                yield None
                yield from self._snapshot(states)

    def _states_in(self, message: bytes | memoryview) -> list[msgspec.Raw] | None:
        """The states that were asked for; None where it is another message."""
        answer = answer_in(message) if self._is_asking(_STATES) else None
        if answer is None or answer.type != "result" or not answer.success:
            return None
        if self._asked.get(answer.id, ("", ""))[0] != _STATES:
            return None
        del self._asked[answer.id]
        return answer.result

    def _take_short(self, message: bytes | memoryview) -> Iterable[SourceEvent]:
        try:
            return self._take(orjson.loads(message))
        except orjson.JSONDecodeError:
            self._count("unreadable")
            return []

    def _take(self, said: object) -> Iterable[SourceEvent]:
        if not isinstance(said, dict):
            self._count("unreadable")
            return []
        match said.get("type"):
            case "event" if self.is_ready:
                return self._event(said)
            case "result" if self.is_ready:
                return self._result(said)
            case "pong":
                pass
            case "auth_required" if not self._has_said_token:
                self._has_said_token = True
                self._say({"type": "auth", "access_token": self._token})
            case "auth_ok" if not self.is_ready:
                self._subscribe()
            case "auth_invalid" if not self.is_ready:
                raise Denied(f"the token is refused: {_text(said.get('message'))}")
            case _:
                self._count("unknown")
        return []

    # what is said

    def _say(self, message: Mapping[str, Any]) -> None:
        self.outbox.append(orjson.dumps(message).decode())

    def _ask(self, what: str, of: str = "", **more: Any) -> int:
        self._number += 1
        self._say({"id": self._number, "type": what, **more})
        if what != "ping":
            self._asked[self._number] = (what, of)
        return self._number

    def _is_asking(self, what: str) -> bool:
        return any(asked == what for asked, _ in self._asked.values())

    def _subscribe(self) -> None:
        self.is_ready = True
        self._ask(_FEATURES, features={"coalesce_messages": 1})
        for event_type in self._settings.event_types:
            more = {} if event_type == "*" else {"event_type": event_type}
            self._subscriptions.add(self._ask(_SUBSCRIBE, event_type, **more))
        if self._settings.snapshot == "off" or not {_STATE_CHANGED, "*"}.intersection(self._settings.event_types):
            self._is_whole = True
        else:
            self._ask_snapshot()

    def _ask_snapshot(self) -> None:
        self._ask(_CONFIG)
        self._ask(_STATES)

    # what is heard

    def _result(self, said: dict[str, Any]) -> Iterable[SourceEvent]:
        number = said.get("id")
        what, of = self._asked.pop(number, ("", "")) if isinstance(number, int) else ("", "")
        if not what:
            self._count("unknown")
        elif said.get("success") is not True:
            self._refused(what, of, said.get("error"))
        elif what == _CONFIG:
            config = said.get("result")
            self._is_running = not isinstance(config, dict) or config.get("state", "RUNNING") == "RUNNING"
        elif what == _STATES:
            self._count("unreadable")
            self._stateless = "it gives us no states: they are no list"
        return []

    def _refused(self, what: str, of: str, error: object) -> None:
        why = _text(error.get("message")) if isinstance(error, dict) else "no reason given"
        if what == _SUBSCRIBE:
            self._count("refused_subscriptions")
            self._denied = f"it lets us have no events of type {of}: {why}"
        elif what == _STATES:
            self._count("refused_snapshots")
            self._stateless = f"it gives us no states: {why}"
        # An older one knows no supported_features, and need not.

    def _event(self, said: dict[str, Any]) -> list[SourceEvent]:
        event = said.get("event")
        if said.get("id") not in self._subscriptions or not isinstance(event, dict):
            self._count("unknown")
            return []
        made = self._read(lambda: _state_event(event) or _other_event(event))
        if made is None:
            return []
        if made.state:
            self._known.heard(made.state, made.version)
        return [made]

    def _snapshot(self, result: list[msgspec.Raw]) -> Iterator[SourceEvent | None]:
        """What of the states is news, and what is not there any more."""
        self._stateless = ""
        self._is_whole = is_whole = self._is_running
        states: dict[str, msgspec.Raw] = {}
        found: dict[str, str] = {}
        for number, state in enumerate(result, 1):
            if number % _STATES_AT_ONCE == 0:
                yield None
            named = named_in(state)
            if named is None or not isinstance(named.entity_id, str) or not named.entity_id:
                self._count("unreadable")
                continue
            states[named.entity_id] = state
            found[named.entity_id] = _version_of(named, state)
        yield None
        before = dict(self._known.versions)
        news = self._known.compare(found, is_whole=is_whole)
        yield None
        for name in news.changed:
            event = self._read(partial(_recovered_of, name, states[name]))
            if event is not None:
                yield event
        now = self._now().isoformat()
        for name in news.gone:
            yield _gone(name, before[name], now)

    def _read(self, made: Callable[[], SourceEvent | None]) -> SourceEvent | None:
        """None for what is no event, or nested deeper than JSON is written here."""
        try:
            event = made()
        except (orjson.JSONEncodeError, orjson.JSONDecodeError):
            event = None
        if event is None:
            self._count("unreadable")
        return event


def _text(value: object) -> str:
    """What a server says, short enough for a line of status."""
    return str(value)[:200]


def _version(state: Mapping[str, Any]) -> str:
    updated = state.get("last_updated")
    if isinstance(updated, str) and updated:
        return updated
    try:
        return xxh3_128_hexdigest(orjson.dumps(state, option=orjson.OPT_SORT_KEYS))
    except orjson.JSONEncodeError:
        return _UNREADABLE


def _version_of(named: Named, state: msgspec.Raw) -> str:
    """The same of a state that is not decoded, as far as it need not be."""
    if isinstance(named.last_updated, str) and named.last_updated:
        return named.last_updated
    try:
        return _version(orjson.loads(bytes(state)))
    except orjson.JSONDecodeError:
        return _UNREADABLE


def _id(*parts: object) -> str:
    return xxh3_128_hexdigest(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))


def _context_id(holder: Mapping[str, Any]) -> object:
    context = holder.get("context")
    return context.get("id") if isinstance(context, dict) else None


def _state_event(event: dict[str, Any]) -> SourceEvent | None:
    """Of a changed state; None for anything else."""
    data = event.get("data")
    if event.get("event_type") != _STATE_CHANGED or not isinstance(data, dict):
        return None
    name, state = data.get("entity_id"), data.get("new_state")
    if not isinstance(name, str) or not name or not (state is None or isinstance(state, dict)):
        return None
    body = orjson.dumps({"entity_id": name, **event})
    if state is None:
        old = data.get("old_state")
        return SourceEvent(_gone_id(name, _version(old) if isinstance(old, dict) else ""), body, name)
    return SourceEvent(_state_id(name, state), body, name, _version(state))


def _other_event(event: dict[str, Any]) -> SourceEvent | None:
    """Of any other type; None for what has none, or is a state that cannot be read."""
    data, event_type = event.get("data"), event.get("event_type")
    if not isinstance(event_type, str) or event_type == _STATE_CHANGED:
        return None
    name = data.get("entity_id") if isinstance(data, dict) else None
    named = {"entity_id": name} if isinstance(name, str) and name else {}
    made = _id(event_type, event.get("time_fired"), _context_id(event), data)
    return SourceEvent(made, orjson.dumps({**named, **event}))


def _state_id(name: str, state: Mapping[str, Any]) -> str:
    return _id(_STATE_CHANGED, name, _version(state), _context_id(state))


def _gone_id(name: str, version: str) -> str:
    """version: of the state that was there last."""
    return _id(_STATE_CHANGED, name, version, "gone")


def _recovered_of(name: str, state: msgspec.Raw) -> SourceEvent:
    return _recovered(name, orjson.loads(bytes(state)))


def _recovered(name: str, state: dict[str, Any]) -> SourceEvent:
    """A state of a snapshot as the event that nobody heard. What it was before is not known."""
    body = _body(name, state, state.get("last_updated"), state.get("context"))
    return SourceEvent(_state_id(name, state), body, name, _version(state), True)


def _gone(name: str, version: str, now: str) -> SourceEvent:
    """When it went is not known: its time is that of the snapshot."""
    return SourceEvent(_gone_id(name, version), _body(name, None, now, None), name, None, True)


def _body(name: str, state: dict[str, Any] | None, fired: object, context: object) -> bytes:
    return orjson.dumps(
        {
            "entity_id": name,
            "event_type": _STATE_CHANGED,
            "data": {"entity_id": name, "old_state": None, "new_state": state},
            "origin": "LOCAL",
            "time_fired": fired,
            "context": context,
            "recovered": True,
        }
    )
