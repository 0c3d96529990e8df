"""Turns: under `ordering: strict` the events of one key go out one at a time, across all workers.

    want(e1), want(e2) of one key  -->  e1 has its turn  -->  done(e1)  -->  e2 has its turn

An event is done when each side it is owed to is settled, parked or handed to the ledger, or when its
worker is gone. The table is of one life of the ledger; at the next start it is made anew from the
events that workers are still on, in the order in which they came. Until all of them had time to say what
they are on, the turns are held: the event before may be of a worker that is not back yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

Place: TypeAlias = tuple[int, int]
"""Stream id and number of an event."""


class Turns:
    """Who is in line for each (route, key). grant: called with each event whose turn has come."""

    def __init__(self, grant: Callable[[Place], object]) -> None:
        self._grant = grant
        self._lines: dict[tuple[str, str], deque[Place]] = {}
        self._is_held = False

    def hold(self) -> None:
        """Grant nothing until `release`."""
        self._is_held = True

    def release(self, order: Callable[[Place], tuple[int, int]]) -> None:
        """Put each line in order, and give its first the turn."""
        self._is_held = False
        for name, line in self._lines.items():
            self._lines[name] = deque(sorted(line, key=order))
            self._grant(self._lines[name][0])

    def want(self, route: str, key: str, place: Place) -> None:
        """Get in line; granted at once when nobody is before."""
        line = self._lines.setdefault((route, key), deque())
        line.append(place)
        if len(line) == 1 and not self._is_held:
            self._grant(place)

    def done(self, route: str, key: str, place: Place) -> None:
        """Leave the line, from its head (then the next has its turn) or from within; unknown places are ignored."""
        line = self._lines.get((route, key))
        if line is None or place not in line:
            return
        was_head = line[0] == place
        line.remove(place)
        if not line:
            del self._lines[route, key]
        elif was_head and not self._is_held:
            self._grant(line[0])

    def holders(self, stream: int) -> list[Place]:
        """The events of a stream whose turn it is: said again to a worker that comes back."""
        if self._is_held:
            return []
        return [line[0] for line in self._lines.values() if line[0][0] == stream]

    def __len__(self) -> int:
        """How many keys have somebody in line."""
        return len(self._lines)
