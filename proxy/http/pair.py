"""Both answers to one sampled event, put aside for the checker once they are whole."""

from __future__ import annotations

from proxy.core.answers import LONGEST, MOST, Answered, AnsweredPair
from proxy.core.event import NEW, OLD, Event
from proxy.http.leg import Leg


class Pair:
    """The answers of one event. held: where it is put when both are here; one that is not whole, or long, is never."""

    __slots__ = ("_answers", "_event", "_held", "_request")

    def __init__(self, held: list[AnsweredPair], event: Event) -> None:
        self._held = held
        self._event = event
        self._answers: list[Answered | None] = [None, None]
        self._request = b""
        """The head of what old was sent: it may have been rewritten for it."""

    def take(self, leg: Leg) -> None:
        """A leg has ended."""
        head = leg.head
        if head is None or leg.is_started or leg.truncated or len(leg.body) > LONGEST:
            return
        if leg.side == OLD:
            self._request = leg.request.partition(b"\r\n\r\n")[0]
        self._answers[leg.side] = Answered(leg.status, head.start, bytes(leg.body))
        old, new = self._answers[OLD], self._answers[NEW]
        if old is not None and new is not None and len(self._held) < MOST:
            event = self._event
            self._held.append(AnsweredPair(event.route, event.id, self._request, event.body, old, new))
            self._answers = [None, None]
