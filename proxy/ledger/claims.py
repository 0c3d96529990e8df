"""A worker's claims on event ids: what it has asked the ledger, and what was answered.

    ask(n, ...)  --> Claims --> ledger --> Verdicts --> first() | done(status) | conflict()
    fail()       --> unsafe()    the ledger is away for too long

A claim that was granted is said again to a restarted ledger until its event's answer was said: by then its event has
been recorded, and frames are kept. Nothing of this is kept otherwise.
"""

from __future__ import annotations

from typing import Protocol

from proxy.core.dedupe import DONE, FIRST
from proxy.ledger.protocol import ClaimRow, Claims, Verdict


class Claimant(Protocol):
    """Who waits for a verdict, until `until` (monotonic seconds). After any of these calls it waits no more."""

    until: float

    def expired(self) -> None:
        """Nothing was heard until `until`."""

    def first(self) -> None:
        """No twin is known: go on."""

    def done(self, status: int) -> None:
        """A twin was accepted, its client was told this."""

    def conflict(self) -> None:
        """The id belongs to something else."""

    def unsafe(self) -> None:
        """The ledger is away for too long."""


class ClaimBook:
    """All claims of one worker. waiting: by the number of the event."""

    def __init__(self) -> None:
        self.has_news = False
        """There is something to say to the ledger."""
        self.is_used = False
        """Something was asked in this life, so a ledger may believe that it still is."""
        self.waiting: dict[int, Claimant] = {}
        self._rows: dict[int, ClaimRow] = {}
        """Waiting and granted ones."""
        self._asked: list[ClaimRow] = []
        self._withdrawn: list[int] = []

    def ask(self, n: int, route: str, id: bytes, fingerprint: bytes, claimant: Claimant) -> None:
        """Ask with the next flush whether an event is the first of its id. id: its digest."""
        self.waiting[n] = claimant
        self._rows[n] = row = (n, route, id, fingerprint, False)
        self._asked.append(row)
        self.has_news = self.is_used = True

    def withdraw(self, n: int) -> None:
        """Its client left, or it is not sent although it is the first."""
        self.waiting.pop(n, None)
        if self._rows.pop(n, None) is not None:
            self._withdrawn.append(n)
            self.has_news = True

    def answered(self, n: int) -> None:
        """Its event was recorded and its outcome is said: nothing is left to say of the claim."""
        self._rows.pop(n, None)

    def take(self) -> Claims:
        """What is new."""
        news = Claims([row for row in self._asked if row[0] in self._rows], self._withdrawn)
        self._asked, self._withdrawn, self.has_news = [], [], False
        return news

    def all(self) -> Claims:
        """Everything, for a ledger that we come back to."""
        self.take()
        return Claims(list(self._rows.values()), anew=True)

    def hear(self, verdicts: list[Verdict]) -> None:
        """What the ledger says. Nobody may wait any more."""
        for n, kind, status in verdicts:
            claimant = self.waiting.pop(n, None)
            if claimant is None:
                continue
            if kind == FIRST:
                number, route, id, fingerprint, _ = self._rows[n]
                self._rows[n] = (number, route, id, fingerprint, True)
                claimant.first()
            else:
                del self._rows[n]
                if kind == DONE:
                    claimant.done(status)
                else:
                    claimant.conflict()

    def check_time(self, now: float) -> None:
        """Give up what waits for too long."""
        for n, claimant in [(n, each) for n, each in self.waiting.items() if each.until <= now]:
            self.withdraw(n)
            claimant.expired()

    def fail(self) -> None:
        """The ledger is away for too long: nobody waits for it."""
        for n, claimant in list(self.waiting.items()):
            self.withdraw(n)
            claimant.unsafe()
