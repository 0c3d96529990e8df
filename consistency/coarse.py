"""Which rows of a span need to be read at all, by what both stores say of them in sums.

    fingerprints of both, a page of windows at a time --> same: so many rows are equal, and are not read
                                                      --> not the same, or unread: the rows of these series

For stores that make the same kind of fingerprints and are compared with each other alone: the ledger wants to know of
every single row. What is not seen: changes within one window and series of InfluxDB that leave count, sum, least and
greatest value as they are, such as values that changed places; and a row that stands twice in both. Who has to know
reads all rows.
"""

from __future__ import annotations

import asyncio
from math import isclose
from typing import Final, NamedTuple

from config.consistency import Check
from consistency.identity import PROBE
from consistency.rows import Span
from consistency.rules import tokens
from consistency.stores.protocol import Fingerprint, Fingerprints, Store

PAGE: Final = 60
"""Windows of one question."""
_SAME: Final = 2.3e-16
"""Share by which sums of the same values may differ for the order in which they were added, for each value."""


class Plan(NamedTuple):
    """equal: rows that are not to be read; series: to be read, None for all."""

    equal: int
    series: frozenset[str] | None


READ_ALL: Final = Plan(0, None)


def is_possible(check: Check, old: Store, new: Store) -> bool:
    """Whether fingerprints of these two say something: patterns are asked of equal values as well."""
    kind = old.traits.fingerprint
    return bool(kind) and kind == new.traits.fingerprint and all(rule.compare != "regex" for rule in check.rules)


class Coarse:
    """Fingerprints of two stores. size: of a window, nanoseconds; others, at the ends of a span, are read."""

    def __init__(self, check: Check, old: Store, new: Store, size: int, end: int) -> None:
        self._old, self._new = old, new
        self._size = size
        self._end = end
        self._ignored = _ignored(check)
        self._may_have_more = check.only_new == "ignore"
        self._named = {tokens(rule.path)[0] for rule in check.rules}
        self._page = Span(0, 0)
        self._old_figures: dict[int, dict[str, Fingerprint]] = {}
        self._new_figures: dict[int, dict[str, Fingerprint]] = {}
        """By start of a window and series."""
        self._unread: frozenset[str] = frozenset()

    async def plan(self, window: Span) -> Plan:
        """What to do with a window; windows come in order of time, or once more. Raises StoreError."""
        if window.end - window.start != self._size:
            return READ_ALL
        if not self._page.start <= window.start < self._page.end:
            await self._turn(window.start)
        old, new = self._old_figures.get(window.start, {}), self._new_figures.get(window.start, {})
        equal = 0
        series: set[str] = set()
        for name in old.keys() | new.keys():
            if PROBE in name:
                continue
            a, b = old.get(name), new.get(name)
            if name not in self._unread and a is not None and b is not None and self._are_same(a, b):
                equal += a.rows
            else:
                series.add(name)
        return Plan(equal, frozenset(series))

    async def _turn(self, start: int) -> None:
        number = min(PAGE, max(1, (self._end - start) // self._size))
        page = Span(start, start + number * self._size)
        asked = (self._old.fingerprints(page, self._size), self._new.fingerprints(page, self._size))
        old, new = await asyncio.gather(*asked, return_exceptions=True)
        if isinstance(old, BaseException):
            raise old
        if isinstance(new, BaseException):
            raise new
        self._old_figures, self._new_figures = _by_start(old), _by_start(new)
        self._unread = old.unread | new.unread
        self._page = page

    def _are_same(self, old: Fingerprint, new: Fingerprint) -> bool:
        if old.rows != new.rows:
            return False
        a, b = ({name: value for name, value in each.figures.items() if self._counts(name)} for each in (old, new))
        if self._may_have_more:
            fields = {_field(name) for name in a} | self._named
            b = {name: value for name, value in b.items() if _field(name) in fields}
        return a.keys() == b.keys() and all(_is_same(value, b[name], old.rows) for name, value in a.items())

    def _counts(self, figure: str) -> bool:
        return _field(figure) not in self._ignored


def _by_start(said: Fingerprints) -> dict[int, dict[str, Fingerprint]]:
    found: dict[int, dict[str, Fingerprint]] = {}
    for segment, fingerprint in said.segments.items():
        found.setdefault(segment.start, {})[segment.series] = fingerprint
    return found


def _field(figure: str) -> str:
    """The field of a figure such as `temperature float sum`."""
    return figure.rsplit(" ", 2)[0]


def _is_same(old: float, new: float, rows: int) -> bool:
    return old == new or (float in (type(old), type(new)) and isclose(old, new, rel_tol=_SAME * rows))


def _ignored(check: Check) -> frozenset[str]:
    """Fields that no rule asks anything of."""
    about: dict[str, list[str]] = {}
    for rule in check.rules:
        about.setdefault(tokens(rule.path)[0], []).append(f"{rule.compare} {rule.path}")
    return frozenset(name for name, said in about.items() if said == [f"ignore /{name}"])
