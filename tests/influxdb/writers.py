"""What writers of line protocol send: batches as Telegraf and Home Assistant make them, and what InfluxDB then has."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from deploy.influxdb import Points

START = 1_790_000_000_000_000_000
"""Time of the first point, nanoseconds."""
SECOND = 1_000_000_000
TELEGRAF = {
    "User_Agent": "Telegraf/1.29.5 Go/1.21.6",
    "Content_Type": "text/plain; charset=utf-8",
    "Content_Encoding": "gzip",
}


class Point(NamedTuple):
    """One point of one series. at: nanoseconds."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: dict[str, float | int | str | bool]
    at: int

    def series(self) -> bytes:
        """Measurement and tags, as line protocol has them."""
        names = [_escaped(self.measurement, ", ")]
        names += [f"{_escaped(name, ',= ')}={_escaped(value, ',= ')}" for name, value in sorted(self.tags)]
        return ",".join(names).encode()

    def line(self) -> bytes:
        """The point in line protocol."""
        fields = ",".join(f"{_escaped(name, ',= ')}={_field(value)}" for name, value in self.fields.items())
        return b"%b %b %d\n" % (self.series(), fields.encode(), self.at)


def _escaped(text: str, characters: str) -> str:
    return re.sub(f"([{characters}])", r"\\\1", text)


def _field(value: float | int | str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value}i" if isinstance(value, int) else repr(value)


def body(points: Iterable[Point]) -> bytes:
    """A batch."""
    return b"".join(point.line() for point in points)


def stored(points: Iterable[Point]) -> Points:
    """What an InfluxDB that has these points, and no others, holds."""
    found: Points = {}
    for point in points:
        rows = found.setdefault((point.measurement, tuple(sorted(point.tags))), {})
        rows[point.at] = rows.get(point.at, {}) | point.fields
    return found


def telegraf(host: str, number: int) -> list[Point]:
    """One interval of one agent: several series with the same time."""
    at = START + number * 10 * SECOND
    points = [
        Point(
            "cpu", (("cpu", f"cpu{n}"), ("host", host)), {"usage_idle": 90.0 + n + number / 128, "usage_user": 1.5}, at
        )
        for n in range(4)
    ]
    points.append(Point("mem", (("host", host),), {"free": 2**40 + number, "used_percent": 12.25}, at))
    disk = (("device", "sda1"), ("host", host), ("path", "/srv/my, data=1"))
    points.append(Point("disk", disk, {"free": number, "mode": 'rw "quoted"', "is_full": False}, at))
    return points


def home_assistant(number: int) -> list[Point]:
    """A batch of state changes: the measurement is the unit, each entity a series."""
    at = START + number * SECOND + 123_456_000
    rooms = ("attic", "küche", "living room")
    return [
        Point(
            "°C",
            (("domain", "sensor"), ("entity_id", f"{room}_temperature")),
            {"value": 20.5 + n, "device_class_str": "temperature", "friendly_name_str": f"{room} °C"},
            at + n,
        )
        for n, room in enumerate(rooms)
    ]


def one_sensor(sensor: int, number: int) -> Point:
    """A writer of one series."""
    return Point("power", (("meter", f"m{sensor:03d}"),), {"watts": sensor + number / 8}, START + number * SECOND)


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    """Telegraf compresses while it sends, so its bodies come in chunks."""
    packed = gzip.compress(data)
    for start in range(0, len(packed), 100):
        yield packed[start : start + 100]
