"""An event of a fanout route as Home Assistant tells it to those who subscribe.

What a source added for us, the `entity_id` at the top and `recovered`, is taken out again: a consumer gets what it
would get of Home Assistant itself. One that a snapshot told as gone has no context, which consumers do not expect: it
has one made of the event's id.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from proxy.core.event import Event
from proxy.core.template import Unfit
from proxy.http.rendering import read_body

_STATE_CHANGED: Final = "state_changed"


class HomeEvent(NamedTuple):
    """One event. body: its JSON; state: name of the entity whose state it tells, or empty; value: that state as JSON,
    None when it is gone; seq: its place in the record.
    """

    id: str
    type: str
    body: bytes
    state: str
    value: bytes | None
    seq: int


def home_event(event: Event, seq: int, max_decoded: int) -> HomeEvent | Unfit:
    """What consumers get of an event, or why nothing. max_decoded: bytes of a compressed body."""
    body = read_body(event, event.context, max_decoded)
    try:
        said = orjson.loads(body) if body is not None else None
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict) or not isinstance(event_type := said.get("event_type"), str) or not event_type:
        return Unfit("it is no event of Home Assistant: a JSON object with an event_type")
    said.pop("entity_id", None)
    said.pop("recovered", None)
    if not isinstance(said.get("context"), dict):
        said["context"] = {"id": event.id, "parent_id": None, "user_id": None}
    try:
        name, value = _state_of(event_type, said.get("data"))
        return HomeEvent(event.id, event_type, orjson.dumps(said), name, value, seq)
    except orjson.JSONEncodeError:
        return Unfit("it is nested too deeply")


def _state_of(event_type: str, data: Any) -> tuple[str, bytes | None]:
    """Name and value of the state that an event tells; no name where it tells none."""
    if event_type != _STATE_CHANGED or not isinstance(data, dict):
        return "", None
    name, state = data.get("entity_id"), data.get("new_state")
    if not isinstance(name, str) or not name or not (state is None or isinstance(state, dict)):
        return "", None
    return name, None if state is None else orjson.dumps(state)
