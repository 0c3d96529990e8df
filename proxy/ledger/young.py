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

    __slots__ = ("_frames", "_left", "_missed")

    def __init__(self) -> None:
        self._frames: list[tuple[int, Stream, int]] = []
        """Where the events of each begin among the new ones, its stream, its number."""
        self._missed = 0
        """So many of the new events have missed a group."""
        self._left: dict[int, tuple[int, int]] = {}
        """By stream, the first frame that is left for the next group, and when its first event was accepted."""

    def said(self, at: int, stream: Stream, number: int) -> None:
        """A frame has events, which begin at this place among the new ones."""
        self._frames.append((at, stream, number))

    def cut_off(self, new: list[Entry], since_ns: int) -> list[Entry]:
        """Remove from the end of the new events what the next group is to leave, and return it.

        That begins with the frame of the first event that is unsettled and was accepted after `since_ns`, wall clock.
        """
        frames = self._frames
        first = place = len(new)
        while place > self._missed and new[place - 1].accepted_ns > since_ns:
            place -= 1
            if new[place].held:
                first = place
        frame = bisect_right([at for at, _, _ in frames], first) - 1 if first < len(new) else len(frames)
        cut = frames[frame][0] if frame < len(frames) else len(new)
        is_alive = all(stream.is_connected for _, stream, _ in frames[frame:])  # a closed one is written once
        if not is_alive or any(entry.backlog & ~entry.held for entry in new[cut:]):  # the ledger is to deliver those
            frame, cut = len(frames), len(new)
        left = new[cut:]
        del new[cut:]
        self._missed = len(left)
        self._frames = [(at - cut, stream, number) for at, stream, number in frames[frame:]]
        self._left = {stream.id: (number, left[at].accepted_ns) for at, stream, number in reversed(self._frames)}
        return left

    def leave_nothing(self) -> None:
        """The next group has everything."""
        self._frames = []
        self._left = {}
        self._missed = 0

    @property
    def streams(self) -> list[int]:
        """Ids of those of which something was left."""
        return list(self._left)

    def durable(self, stream: Stream, now_ns: int) -> tuple[int, int]:
        """The last of a stream's frames that is on disk with the group, and until when all that it said is."""
        left = self._left.get(stream.id)
        return (stream.received, now_ns) if left is None else (left[0] - 1, min(left[1], now_ns))
