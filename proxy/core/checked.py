"""What the live checker says of a route's stores: its figures, as the control plane judges and shows them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

MISMATCHES: Final = frozenset({"lost", "unrecorded", "different", "duplicate"})
"""Classes of identities that count against a side; `consistency.classes` says what each is."""


class Trial(msgspec.Struct):
    """What was judged since the weight of one of the routes was changed last: evidence about new as it is used now.

    epoch: of that change, 0 before the first one is known; weights: percent, by route; settled: identities;
    mismatches: those held against new, alone or with old; lost: those of them that new has lost; samples: a few of
    them, as reports have findings
    """

    epoch: int = 0
    weights: dict[str, float] = {}
    settled: int = 0
    mismatches: int = 0
    lost: int = 0
    samples: list[dict[str, Any]] = []

    @property
    def rate(self) -> float | None:
        """Share of mismatches, 0 to 1; None when nothing is settled."""
        return self.mismatches / self.settled if self.settled else None


class ProbeStats(msgspec.Struct):
    """The probes that a live checker sends. at: when it sent the last one, nanoseconds since the epoch, 0 before the
    first; error: what was wrong with it, with the step it was found at; empty when nothing was
    failures: in a row; against_new: in a row, and since the weight was changed, those that old's store showed in time
    and new's did not. visible: by side, seconds until the store showed the last one; route: by which that went, empty
    when it is not on record
    """

    at: int = 0
    route: str = ""
    error: str = ""
    failures: int = 0
    against_new: int = 0
    visible: dict[str, float] = {}


class CheckStats(msgspec.Struct):
    """One check: the stores of one route, or of several that keep their events together.

    epoch: of the routing that the checker goes by; record: `three-way`, or why the ledger has no say
    judged_until: nanoseconds since the epoch; every window before is judged; settle: seconds from a window's end until
    it is judged; pending, late: windows in which something is still owed, and that should have been judged and were
    not; trouble: why not, or what is wrong with a store; empty when nothing is
    classes: identities by class, ever; never falls, so one that turned out to be of another class is in both.
    checked: identities that are neither pending nor somebody else's, once each. judged: windows, ever
    visible: by side, seconds until 99 % of events were visible in its store, of those that were looked for
    probe: None where none is sent again and again
    unused_rules: those that nothing matched of all that was compared since the checker began, once that is much
    """

    routes: list[str]
    epoch: int = 0
    record: str = ""
    judged_until: int = 0
    settle: float = 0.0
    pending: int = 0
    late: int = 0
    trouble: str = ""
    classes: dict[str, int] = {}
    checked: int = 0
    judged: int = 0
    trial: Trial = msgspec.field(default_factory=Trial)
    visible: dict[str, float] = {}
    probe: ProbeStats | None = None
    unused_rules: list[str] = []
