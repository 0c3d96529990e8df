"""What the checker says of stores and of answers."""

from __future__ import annotations

from typing import Any

import msgspec


class TrialView(msgspec.Struct):
    """What the checker judged since the weight was changed last. epoch: of that change; settled: identities;
    mismatches: of them, those held against new; lost: of these, those that new has lost; rate: 0-1, null without any;
    samples: a few of them.
    """

    epoch: int
    settled: int
    mismatches: int
    lost: int
    rate: float | None
    samples: list[dict[str, Any]]


class ProbeView(msgspec.Struct):
    """The probes that a live check sends. sent: when the last one was, or empty; passed: it was as it should be, null
    before the first; error: what was not, or null; failures: in a row; visible: by side, seconds until it was shown
    """

    sent: str
    passed: bool | None
    error: str | None
    failures: int
    visible: dict[str, float]


class CheckView(msgspec.Struct):
    """One live check: the stores of these routes.

    record: `three-way`, or why the ledger has no say; alive: the checker's process is there; checked_until: every
    window before is judged, behind_s: seconds ago; settle_s: seconds from a window's end until it is judged;
    pending, late: windows in which something is still owed, and that could not be judged yet; trouble: why, or null
    classes: identities by class, ever; checked: those that are neither pending nor somebody else's; windows: ever
    visible: by side, seconds until 99 % of events were visible in its store; probe: null where none is sent
    unused_rules: those that nothing matched since the checker began
    """

    routes: list[str]
    record: str
    alive: bool
    checked_until: str
    behind_s: float
    settle_s: float
    pending: int
    late: int
    trouble: str | None
    classes: dict[str, int]
    checked: int
    mismatches: int
    windows: int
    since_change: TrialView
    visible: dict[str, float]
    probe: ProbeView | None
    unused_rules: list[str]


class AnswersView(msgspec.Struct):
    """What both sides answered to the same events of a route, compared on a sample, since the checker began.

    comparing: the route is compared now; compared, different: events; unread: those in a coding that is not read;
    beyond_noise: of those that differ, the ones that do so at a path where old differs from itself much less often;
    noise_compared: events that were sent to old twice
    fields: by path, shares 0-1: `different` of events; of those that old was asked twice `different_twice`, and `noise`
    where old differed from itself, null while none was; samples: a few events; trouble: why noise is not known, or null
    """

    route: str
    comparing: bool
    compared: int
    unread: int
    different: int
    beyond_noise: int
    noise_compared: int
    fields: dict[str, dict[str, float | None]]
    samples: list[dict[str, Any]]
    trouble: str | None


class Checks(msgspec.Struct):
    """All live checks, in the order of the configuration, and routes whose answers are compared."""

    checks: list[CheckView]
    answers: list[AnswersView]
