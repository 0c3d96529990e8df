"""New events whose answers are about to come: the next group may leave them for the one after it.

Written before its answers, an event costs the ledger two or three times as much: its body goes to disk and is taken
away again, and its row is written twice. With many events on their way that was every sixth.

    frames  1   2   3   4   5      unsettled and young: the first is in frame 4
            [ this group ] [ the next ]

A frame is durable as a whole and in its order, so all that comes behind goes with it; and nobody misses two groups.
"""

from __future__ import annotations

from bisect import bisect_right

from proxy.ledger.entry import Entry, Stream


class Young:
    """What is known of the new events' frames."""

    __slots__ = ("_frames", "_held_back", "_missed")

    def __init__(self) -> None:
        self._frames: list[tuple[int, Stream, int]] = []
        """Where the events of each begin among the new ones, its stream, its number."""
        self._missed = 0
        """So many of the new events have missed a group."""
        self._held_back: dict[int, int] = {}
        """By stream, the first frame that was left for the next group."""

    def said(self, at: int, stream: Stream, number: int) -> None:
        """A frame has events, which begin at this place among the new ones."""
        self._frames.append((at, stream, number))

    def split(self, new: list[Entry], since_ns: int) -> list[Entry]:
        """Take out of the new events, and return, what may be left. since_ns: older ones may not, wall clock."""
        frames = self._frames
        first = place = len(new)
        while place > self._missed and new[place - 1].accepted_ns > since_ns:
            place -= 1
            if new[place].held:
                first = place
        frame = bisect_right([at for at, _, _ in frames], first) - 1 if first < len(new) else len(frames)
        if any(not stream.is_connected for _, stream, _ in frames[frame:]):
            frame = len(frames)  # nobody would say again what is not on disk when its stream is closed
        if frame == len(frames):
            return self.all()
        cut = frames[frame][0]
        self._frames = [(at - cut, stream, number) for at, stream, number in frames[frame:]]
        self._held_back = {stream.id: number for _, stream, number in reversed(self._frames)}
        left = new[cut:]
        del new[cut:]
        self._missed = len(left)
        return left

    def all(self) -> list[Entry]:
        """Leave nothing."""
        self._frames = []
        self._held_back = {}
        self._missed = 0
        return []

    @property
    def streams(self) -> list[int]:
        """Ids of those of which something was left."""
        return list(self._held_back)

    def durable(self, stream: Stream) -> int:
        """The last of a stream's frames that is on disk with the group that was taken."""
        number = self._held_back.get(stream.id)
        return stream.received if number is None else number - 1
