"""Event ids for events whose client gave none: 28 hex digits, ordered by time within a worker."""

from __future__ import annotations


class IdSource:
    """Makes ids: 12 digits of milliseconds, 8 of the stream, 8 of a counter.

    stream: a random 32-bit number of this life of this worker; given, so that core needs no random.
    """

    __slots__ = ("_count", "_stream")

    def __init__(self, stream: int) -> None:
        self._stream = f"{stream & 0xFFFFFFFF:08x}"
        self._count = 0

    def make(self, wall_ns: int) -> str:
        """The next id, for an event accepted at `wall_ns` (nanoseconds since the epoch)."""
        self._count = count = (self._count + 1) & 0xFFFFFFFF
        return f"{wall_ns // 1_000_000:012x}{self._stream}{count:08x}"
