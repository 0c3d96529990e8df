"""Events that may be taken back for a while: settled on disk, and received by a backend that may still lose them.

settled --begin()--> kept, with context and body --its window is over, or there is no room--> ended
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from proxy.ledger.entry import Entry

MARGIN: Final = 1_000_000_000
"""Nanoseconds beyond a window. A worker that sees a connection lost at the very end of it has a moment to say so."""
MOST: Final = 200_000
MOST_BYTES: Final = 128 * 2**20
"""Entries that are kept, some 1 KB each, and bytes of their contexts and bodies. More shorten windows."""


class Windows:
    """Of all routes. lengths: by route, nanoseconds for which what a backend received may be taken back."""

    __slots__ = ("_bytes", "_count", "_kept", "lengths", "longest")

    def __init__(self, lengths: Mapping[str, int]) -> None:
        self.lengths = dict(lengths)
        self.longest = max(self.lengths.values(), default=0)
        self._kept: dict[str, deque[Entry]] = {route: deque() for route in self.lengths}
        """By route, in the order in which their windows end."""
        self._count = self._bytes = 0

    def begin(self, entry: Entry, now_ns: int) -> None:
        """The window of an entry begins, unless it has."""
        if entry.until:
            return
        entry.until = now_ns + entry.window + MARGIN
        entry.kept_bytes = len(entry.body) + len(entry.context)
        self._kept[entry.route].append(entry)
        self._count += 1
        self._bytes += entry.kept_bytes

    def ended(self, now_ns: int) -> list[Entry]:
        """Those whose windows are over, taken out."""
        found: list[Entry] = []
        if self._count:
            for kept in self._kept.values():
                while kept and kept[0].until <= now_ns:
                    found.append(self._take_out(kept))
        return found

    def cut(self, route: str) -> list[Entry]:
        """Those that there is no room for, taken out: this route's own, first."""
        found: list[Entry] = []
        while self.is_full:
            kept = self._kept[route] or next(each for each in self._kept.values() if each)
            found.append(self._take_out(kept))
        return found

    @property
    def is_full(self) -> bool:
        """Is there something to be cut?"""
        return self._count > MOST or self._bytes > MOST_BYTES

    def _take_out(self, kept: deque[Entry]) -> Entry:
        entry = kept.popleft()
        self._count -= 1
        self._bytes -= entry.kept_bytes
        return entry
