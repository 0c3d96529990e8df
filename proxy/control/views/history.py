"""What was: figures, decisions, and the last revert."""

from __future__ import annotations

import msgspec

from proxy.control.audit import Entry


class FiguresOfSide(msgspec.Struct):
    """One side of a route over some past time.

    answers, failed: of the backend, and those that were failures; error_rate and quantiles are null without answers
    body_bytes: of events that it has accepted; pending, oldest_age_s: the most that the ledger had for it in that time,
    null while the ledger was not connected
    """

    answers: int
    failed: int
    error_rate: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    body_bytes: int
    pending: int | None
    oldest_age_s: float | None


class FiguresPoint(msgspec.Struct):
    """A route from `at` on. seconds: how much of the time is counted here; what is missing was not watched.

    epoch, weight_target: at its end; verdict: the worst in it, null before there was one; mismatches: by class, of all
    routes whose stores are checked together, null while no checker was heard; sessions: open WebSocket sessions of all
    routes, the most in it
    """

    at: str
    seconds: float
    epoch: int
    weight_target: float
    weight_observed: float | None
    verdict: str | None
    accepted: int
    rate: float
    sides: dict[str, FiguresOfSide]
    mismatches: dict[str, int] | None
    sessions: int


class FiguresView(msgspec.Struct):
    """What was counted of a route in a span. began: when its history begins, null without one.

    step_s: of the points; those of which nothing is known are left out; finest_s: what is kept of the last day;
    total: all points together, null without any.
    """

    route: str
    since: str
    until: str
    began: str | None
    step_s: int
    finest_s: int
    points: list[FiguresPoint]
    total: FiguresPoint | None


class History(msgspec.Struct):
    """Audit entries, newest first. damaged_lines: lines that could not be read."""

    entries: list[Entry]
    damaged_lines: int


class Why(msgspec.Struct):
    """The last revert of a route, if any.

    seconds_to_detect: from the first that went wrong, as far as that is known, to the decision; at most
    seconds_to_recover: from there until every worker had applied it; each is null where nobody knows
    changes: of the routing, newest first: the last ones since, and those just before; now, next: what is so, what
    happens by itself and what a person does; empty without a revert
    """

    route: str
    entry: Entry | None
    seconds_to_detect: float | None
    seconds_to_recover: float | None
    latched: bool
    text: str
    changes: list[Entry] = []
    now: str = ""
    next: str = ""
