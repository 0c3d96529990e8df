"""A `state_changed` event, as Home Assistant's WebSocket API tells it, and the point that it is in InfluxDB.

    {"event_type": "state_changed",                        measurement   the entity's domain: sensor, light, ...
     "data": {"entity_id": ..., "old_state": ...,          tag           entity_id
              "new_state": {"state": ...,                  field         state, as text
                            "attributes": {...},                         value, when the state is a finite number
                            "last_updated": ...}},                       unit, when it has one
     "time_fired": ..., "context": {"id": ...}}            time          last_updated, in whole microseconds

An entity that was removed has no new state: its point has `removed` alone, at the time when the event was fired.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from influxdb_client.client.write.point import Point

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Entity = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")]


class State(msgspec.Struct):
    """A state of an entity."""

    state: str
    last_updated: _Time
    attributes: dict[str, Any] = {}


class Data(msgspec.Struct):
    """What changed."""

    entity_id: _Entity
    new_state: State | None


class Event(msgspec.Struct):
    """One event; `enrichment` has what the new side knows about it beyond that."""

    event_type: Literal["state_changed"]
    data: Data
    time_fired: _Time
    enrichment: dict[str, float | str] = {}


decode: Final = msgspec.json.Decoder(Event).decode
"""Raises msgspec.DecodeError with the place that is wrong."""


def line_of(event: Event, id: str) -> bytes:
    """The point that is written for an event, as a line. id: its writer's own name for it, another one each time."""
    entity, state = event.data.entity_id, event.data.new_state
    at = event.time_fired if state is None else state.last_updated
    point = {
        "measurement": entity.partition(".")[0],
        "tags": {"entity_id": entity},
        "fields": {"id": id} | _fields(state) | event.enrichment,
        "time": (at - _EPOCH) // timedelta(microseconds=1) * 1000,
    }
    line: str = Point.from_dict(point).to_line_protocol()
    return line.encode()


def _fields(state: State | None) -> dict[str, bool | float | str]:
    if state is None:
        return {"removed": True}
    found: dict[str, bool | float | str] = {"state": state.state}
    value = _number(state.state)
    if value is not None:
        found["value"] = value
    unit = state.attributes.get("unit_of_measurement")
    if unit is not None:
        found["unit"] = str(unit)
    return found


def _number(text: str) -> float | None:
    """The finite number that a state is, if it is one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
