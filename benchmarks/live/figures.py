"""What was measured, and what it is held against: values alone."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks.report import Target

RATE_BOUND: Final = 5_000.0
"""Events per second of a rollback."""
ENOUGH: Final = 0.97
"""Of the rate that is asked for: the first and the last moment of an open loop have a few less."""


class Revert(NamedTuple):
    """The proxy's own. seconds: until every worker had weight 0; trigger, text, evidence: as the audit has them."""

    seconds: float
    trigger: str
    text: str
    evidence: dict[str, Any]

    @property
    def quantile(self) -> float | None:
        """The one that was found slower, 0 to 1; None when it was something else."""
        found = self.evidence.get("test", {}).get("quantile")
        return None if found is None else float(found)


class Reverts(NamedTuple):
    """What was found in each round, None where nothing was; what clients saw of all of them."""

    found: list[Revert | None]
    events: int
    errors: int


class Turned(NamedTuple):
    """Rollbacks under load. reached: events per second, at most; asked, answered: meanwhile; applied: seconds until
    every worker had each; errors, lost, misordered: of all events, at both stores.
    """

    events: int
    reached: float
    asked: float
    answered: float
    applied: list[float]
    errors: int
    lost: int
    misordered: int


class Carried(NamedTuple):
    """A carry-over. events: that old got late; seconds: from the rollback until none was left; missing: in the end, of
    either store; live: events that clients sent meanwhile; errors: of all clients.
    """

    events: int
    seconds: float
    missing: int
    misordered: int
    live: int
    errors: int

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


def reverted(name: str, measured: Reverts, bound: float, quantile: float | None = None) -> Target:
    """All within the bound (seconds), and where that is said by this quantile."""
    found = measured.found
    reverts = [each for each in found if each is not None]
    limit = f"<= {bound:g} s" + (f" by p{100 * quantile:g}" if quantile is not None else "")
    if len(reverts) < len(found):
        return Target(name, f"not reverted in {len(found) - len(reverts)} of {len(found)} runs", limit, False)
    seconds = [each.seconds for each in reverts]
    causes = Counter(cause(each) for each in reverts)
    by = ", ".join(f"{each} {number}" for each, number in causes.most_common())
    took = f"median {median(seconds):.2f} s, worst {max(seconds):.2f} s of {len(found)} ({by})"
    text = f"{took}; {measured.errors} client errors"
    is_seen = quantile is None or all(each.quantile == quantile for each in reverts)
    return Target(name, text, limit, max(seconds) <= bound and is_seen)


def cause(revert: Revert) -> str:
    """The trigger, and the quantile if it was one."""
    return revert.trigger + (f" p{100 * revert.quantile:g}" if revert.quantile is not None else "")


def undisturbed(name: str, seconds: float, noise: str, revert: Revert | None) -> Target:
    """Nothing was reverted for so many seconds."""
    text = f"none in {seconds:.0f} s with {noise}"
    if revert is not None:
        text = f"reverted after {revert.seconds:.1f} s: {revert.text}"
    return Target(name, text, "no revert", revert is None)


def rolled_back(found: Turned) -> list[Target]:
    """A rate that was not reached is a missed target of its own, and the others are of the rate that was."""
    is_kept = found.answered >= ENOUGH * RATE_BOUND
    rate = f"{found.answered:,.0f}/s of {found.asked:,.0f}/s" + ("" if is_kept else f", at most {found.reached:,.0f}/s")
    applied = f"median {1000 * median(found.applied):.1f} ms, worst {1000 * max(found.applied):.1f} ms"
    text = (
        f"{found.errors}, {found.lost}, {found.misordered} of {found.events:,}; {len(found.applied)} rollbacks, on all "
        f"workers in {applied}"
    )
    is_well = not (found.errors or found.lost or found.misordered)
    return [
        Target("rollback: requests and messages answered", rate, f"{RATE_BOUND:,.0f}/s", is_kept),
        Target("rollback from 50 %: client errors, lost, out of order", text, "0, 0, 0", is_well),
    ]


def carried(found: Carried, least: int) -> Target:
    """All of them, in order, and nobody heard of it. least: how many it has to be."""
    name = f"carry-over of {found.events:,}: missing, out of order, client errors"
    text = (
        f"{found.missing}, {found.misordered}, {found.errors}; {found.rate:,.0f}/s for {found.seconds:.1f} s, "
        f"beside {found.live:,} live events"
    )
    is_well = found.events >= least and not (found.missing or found.misordered or found.errors)
    return Target(name, text, f"0, 0, 0 of >= {least:,}", is_well)
