"""Events with faults whose number and names are known: what a checker must find, and nothing else.

Events look like Home Assistant's state changes. Of each kind of fault, some events have it; what the checker is to say
of them stands in `expected`, by identity.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from config.rules import FieldRule
from consistency.classes import Class, Record
from consistency.recorded import Recorded
from consistency.rows import Row
from proxy.core import owed

STEP = 10_000_000
"""Nanoseconds between two events."""
BOTH = Record.of(owed.DELIVERED, owed.DELIVERED)
RULES = (
    FieldRule(path="/temperature", compare="tolerance", abs=1e-6),
    FieldRule(path="/attributes/tags", compare="set"),
    FieldRule(path="/attributes/received", compare="ignore"),
)


class Generated:
    """Rows of both stores, what is on record, and what is to be said of it."""

    def __init__(
        self, count: int, seed: int, *, faults: float = 0.01, weight: float | None = None, delay: int = 0
    ) -> None:
        """count: events; faults: share of events with one; weight: of a split without copies, 0 to 1; delay: until a
        second copy is written, where new's times are those of writing.
        """
        self.delay = delay
        self._random = random.Random(seed)
        self.old: list[Row] = []
        self.new: list[Row] = []
        self.recorded: list[Recorded] = []
        self.expected: dict[str, Class] = {}
        self.only_truncated: set[str] = set()
        self.count = count
        for number in range(count):
            self._event(number, faults, weight)
        # Stores give rows by time; among equal times, in any order.
        self.old.sort(key=lambda row: row.at)
        self.new.sort(key=lambda row: (row.at, self._random.random()))

    @property
    def span(self) -> tuple[int, int]:
        """Event time of all of them."""
        return 0, self.count * STEP + STEP

    def _event(self, number: int, faults: float, weight: float | None) -> None:
        identity, at = f"sensor.{number % 997}-{number:08d}", number * STEP + 123
        row = Row(identity, at, self._fields(number))
        copy = Row(identity, at, self._fields(number))
        if weight is not None:
            is_new = self._random.random() < weight
            (self.new if is_new else self.old).append(row)
            sides = (owed.NOT_OWED, owed.DELIVERED) if is_new else (owed.DELIVERED, owed.NOT_OWED)
            self._record(identity, at, Record.of(*sides), Class.ONE_SIDED)
        elif self._random.random() < faults:
            self._random.choice(FAULTS)(self, row, copy)
        else:
            self.old.append(row)
            self.new.append(copy)
            self._record(identity, at, BOTH, Class.EQUAL)

    def _fields(self, number: int) -> dict[str, Any]:
        return {
            "state": ["on", "off", "unknown"][number % 3],
            "temperature": number % 400 / 10,
            "humidity": number % 100,
            "unit": "°C",
            "ok": number % 7 != 0,
            "attributes": {"friendly_name": f"Sensor {number % 997}", "tags": ["a", "b"], "received": number},
        }

    def _record(self, identity: str, at: int, record: Record | None, expected: Class) -> None:
        if record is not None:
            self.recorded.append(Recorded(identity, record, at, (identity,)))
        self.expected[identity] = expected

    def _later(self, copy: Row) -> Row:
        """The same at the same time, or where new notes when it came: in another window."""
        return copy._replace(at=copy.at + self.delay * self._random.randrange(2))

    def lost(self, row: Row, copy: Row) -> None:
        """New acknowledged it and has it not, or old, or both."""
        which = self._random.randrange(3)
        self.old += [row] * (which == 0)
        self.new += [copy] * (which == 1)
        self._record(row.identity, row.at, BOTH, Class.LOST)

    def duplicated(self, row: Row, copy: Row) -> None:
        """New wrote it twice at one delivery."""
        self.old.append(row)
        self.new += [copy, self._later(copy)]
        self._record(row.identity, row.at, BOTH, Class.DUPLICATE)

    def redelivered(self, row: Row, copy: Row) -> None:
        """Twice at two deliveries."""
        self.old.append(row)
        self.new += [copy, self._later(copy)]
        self._record(row.identity, row.at, Record.of(owed.DELIVERED, owed.DELIVERED, 1, 2), Class.REDELIVERED)

    def changed(self, row: Row, copy: Row) -> None:
        """One of many ways to be different."""
        change: Callable[[dict[str, Any]], None] = self._random.choice(CHANGES)
        change(copy.fields)
        self.old.append(row)
        self.new.append(copy)
        self._record(row.identity, row.at, BOTH, Class.DIFFERENT)

    def truncated(self, row: Row, copy: Row) -> None:
        """New keeps milliseconds."""
        self.old.append(row)
        self.new.append(copy._replace(at=copy.at // 1_000_000 * 1_000_000))
        self.only_truncated.add(row.identity)
        self._record(row.identity, row.at, BOTH, Class.DIFFERENT)

    def jittered(self, row: Row, copy: Row) -> None:
        """The last digits of a float, and the order of a set."""
        copy.fields["temperature"] += 1e-9
        copy.fields["attributes"]["tags"] = ["b", "a"]
        self.old.append(row)
        self.new.append(copy)
        self._record(row.identity, row.at, BOTH, Class.TOLERATED)

    def enriched(self, row: Row, copy: Row) -> None:
        """New knows the weather, and received it at another time."""
        copy.fields["weather"] = {"wind": 3.5}
        copy.fields["attributes"]["received"] += 17
        self.old.append(row)
        self.new.append(copy)
        self._record(row.identity, row.at, BOTH, Class.EQUAL)

    def pending(self, row: Row, copy: Row) -> None:
        """New is still owed it, and may have it."""
        self.old.append(row)
        self.new += [copy] * self._random.randrange(2)
        self._record(row.identity, row.at, Record.of(owed.DELIVERED, owed.PENDING), Class.PENDING)

    def refused(self, row: Row, copy: Row) -> None:
        """New said 400; a partial write stored it all the same."""
        self.old.append(row)
        self.new += [copy] * self._random.randrange(2)
        self._record(row.identity, row.at, Record.of(owed.DELIVERED, owed.REFUSED), Class.REFUSED)

    def foreign(self, row: Row, copy: Row) -> None:
        """Somebody else wrote it, into one or both."""
        self.old.append(row)
        self.new += [copy] * self._random.randrange(2)
        self._record(row.identity, row.at, None, Class.FOREIGN)


def _drop_field(fields: dict[str, Any]) -> None:
    del fields["humidity"]


def _int_to_float(fields: dict[str, Any]) -> None:
    fields["humidity"] = float(fields["humidity"])


def _text(fields: dict[str, Any]) -> None:
    fields["unit"] = "\xb0C"[::-1]


def _flip(fields: dict[str, Any]) -> None:
    fields["ok"] = not fields["ok"]


def _beyond_tolerance(fields: dict[str, Any]) -> None:
    fields["temperature"] += 2e-6


def _null(fields: dict[str, Any]) -> None:
    fields["attributes"]["friendly_name"] = None


def _nested(fields: dict[str, Any]) -> None:
    fields["attributes"]["tags"] = ["a", "b", "c"]


CHANGES = (_drop_field, _int_to_float, _text, _flip, _beyond_tolerance, _null, _nested)
FAULTS = (
    Generated.lost,
    Generated.duplicated,
    Generated.redelivered,
    Generated.changed,
    Generated.truncated,
    Generated.jittered,
    Generated.enriched,
    Generated.pending,
    Generated.refused,
    Generated.foreign,
)
