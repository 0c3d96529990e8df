"""What both services take (memory, CPU), read from a Prometheus over a time and held against what it was.

The time is cut into tenths, and each tenth stands for the median of its readings: one odd scrape decides nothing, and a
rise in the middle of it is seen. What a Prometheus does not say is no answer, never a yes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from typing import Final

import msgspec

from config.gates import Resources
from proxy.core.gate import NO, NO_ANSWER, YES

LOOK: Final = 10.0
"""Seconds between readings, at most."""
READINGS: Final = 30
"""That there are at least."""
TENTHS: Final = 10

Ask = Callable[[Resources, str], Awaitable[float | str]]
"""One query's value, or why there is none. It never raises."""


class ResourceValue(msgspec.Struct, frozen=True):
    """What one query of a gate gave over a recording: the median; null, and why, when it gave nothing."""

    gate: str
    name: str
    query: str
    value: float | None
    trouble: str = ""


class Usage:
    """Readings of one set of queries. recorded: by name, what a value is held against; of others the first tenth is."""

    def __init__(self, settings: Resources, ask: Ask, recorded: Mapping[str, float] | None = None) -> None:
        self._settings = settings
        self._ask = ask
        self._recorded = recorded or {}
        self._values: dict[str, list[list[float]]] = {name: [[] for _ in range(TENTHS)] for name in settings.queries}
        self._trouble: dict[str, str] = {}
        """By query, why it gave nothing when it was asked in vain last."""

    async def read(self, share: float) -> None:
        """Ask all of them once. share: of the time that is over, 0-1."""
        queries = self._settings.queries
        found = await asyncio.gather(*(self._ask(self._settings, query) for query in queries.values()))
        for name, value in zip(queries, found, strict=True):
            if isinstance(value, str):
                self._trouble[name] = value
            else:
                self._values[name][min(int(share * TENTHS), TENTHS - 1)].append(value)

    def medians(self, gate: str) -> list[ResourceValue]:
        """Of each query over all of the time. gate: its name, by which it is known later."""
        found = []
        for name, query in self._settings.queries.items():
            values = [value for tenth in self._values[name] for value in tenth]
            trouble = "" if values else self._trouble.get(name, "it was not asked")
            found.append(ResourceValue(gate, name, query, median(values) if values else None, trouble))
        return found

    def judged(self) -> tuple[str, str]:
        """The answer for all of them, and what was seen: first of those that are no yes."""
        said = [self._judged(name) for name in self._settings.queries]
        for answer in (NO, NO_ANSWER, YES):
            texts = [text for each, text in said if each == answer]
            if texts:
                return answer, "; ".join(texts)
        raise AssertionError("a configuration has one query at least")

    def _judged(self, name: str) -> tuple[str, str]:
        tenths, within = self._values[name], self._settings.within
        silent = sum(not values for values in tenths)
        known = [median(values) for values in tenths if values]
        is_recorded = name in self._recorded
        unknown = f"{name}: nothing in {silent} of {TENTHS} tenths of the time: {self._trouble.get(name, 'not asked')}"
        if not known or not (is_recorded or tenths[0]):
            return NO_ANSWER, unknown
        against = self._recorded[name] if is_recorded else known[0]
        what = "in the baseline" if is_recorded else "at the beginning"
        if not against:
            return NO_ANSWER, f"{name} was 0 {what}: nothing can be held against that"
        worst = max(known, key=lambda value: abs(value / against - 1))
        change = worst / against - 1
        text = f"{name} {change:+.1%} of what it was {what} ({worst:.6g} and {against:.6g})"
        if abs(change) > within:
            return NO, f"{text}, limit ±{within:.1%}"
        return (NO_ANSWER, unknown) if silent else (YES, text)
