"""What clients saw of switches under load, and what it is held against: values alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from benchmarks.report import Target
from proxy.demo.record import Promise

SLOWER_BOUND: Final = 3.0
"""p99 during switches over that of the rest of the same run."""
ENOUGH: Final = 0.97
"""Of the rate that is asked for."""
BACK_BOUND: Final = 2.0
"""Seconds until a session of a killed worker is open again, at most, for 99 of 100: its client waits 0.1 s of them."""


class Span(NamedTuple):
    """A switch, from what began it until it was done; perf_counter seconds."""

    began: float
    ended: float


class Seen(NamedTuple):
    """A run of switches of one kind under load.

    events: accepted; asked, answered: events per second; unsent: of those asked for, what was due on sessions that were
    closed just then; errors: by kind, for a person; refused: connections that were not taken, answers that were not
    2xx, and what was no answer at all; broken: requests and handshakes without an answer; closed: sessions that ended
    before their client ended them; excused: connections of processes that were killed, which may end; lost,
    misordered: of events, over both stores; normal, switching: p99 (seconds) of answers outside of switches and
    meanwhile; again: of those that were sent twice; away: of sessions from their end until they are open again;
    told_to_go: those of `closed` that were closed with 1001; exits: seconds that each drain took to its end.
    """

    spans: list[Span]
    events: int
    asked: float
    answered: float
    errors: str
    refused: int
    broken: int
    closed: int
    excused: int
    lost: int
    misordered: int
    normal: float
    switching: float
    unsent: float = 0.0
    again: float = 0.0
    away: float = 0.0
    told_to_go: int = 0
    exits: Sequence[float] = ()

    @property
    def ratio(self) -> float:
        """How much slower answers are during switches."""
        return self.switching / self.normal if self.normal else 0.0


class Moved(msgspec.Struct):
    """What clients noticed of the proxy put in and taken out. events: accepted; failed: all that was no 2xx; reopened:
    sent again, for their connection had been closed for idleness; through: accepted by the proxy; lost: accepted and in
    no store; one_sided: accepted while both were to have them, and in one store alone; p99: of direct answers, and of
    those while the proxy was put in or taken out, seconds; spans: of both, seconds.
    """

    events: int
    failed: int
    failures: list[str]
    reopened: int
    through: int
    lost: int
    one_sided: int
    p99_direct: float
    p99_moving: float
    spans: list[float]


def targets(name: str, seen: Seen) -> list[Target]:
    """Whether nobody noticed but the clients of processes that were killed. name: of the switches, in the plural."""
    hurt = seen.broken + seen.closed
    limit = "0, 0, 0, 0" if not seen.excused else f"0, at most {seen.excused} of the killed, 0, 0"
    text = f"{seen.refused}, {hurt}, {seen.lost}, {seen.misordered} of {seen.events:,}; {seen.errors}"
    is_well = not (seen.refused or seen.lost or seen.misordered) and hurt <= seen.excused
    seconds = sorted(span.ended - span.began for span in seen.spans)
    took = f"median {seconds[len(seconds) // 2]:.2f} s, worst {seconds[-1]:.2f} s"
    what = f"{len(seconds)} {name} ({took})"
    slower = f"{1000 * seen.switching:.1f} ms, {1000 * seen.normal:.1f} ms else: {seen.ratio:.2f}"
    if seen.again:
        slower += f"; {1000 * seen.again:.1f} ms of what had to be sent again"
    is_back = seen.away <= BACK_BOUND
    back = [Target(f"{name}: sessions open again, p99", f"{seen.away:.2f} s", f"<= {BACK_BOUND:g} s", is_back)]
    is_enough = seen.answered + seen.unsent >= ENOUGH * seen.asked
    rate = f"{seen.answered:,.0f}/s"
    if seen.unsent:
        rate += f", and {seen.unsent:,.0f}/s were due on sessions that were closed"
    return [
        Target(f"{what}: refused, broken, lost, out of order", text, limit, is_well),
        Target(f"{name}: p99 meanwhile", slower, f"< {SLOWER_BOUND:g} x", seen.ratio < SLOWER_BOUND),
        Target(f"{name}: events answered", rate, f"{seen.asked:,.0f}/s", is_enough),
        *(back if seen.excused else []),
    ]


def drain_targets(seen: Seen, grace: float) -> list[Target]:
    """Whether no request met an error, and all was done in time. grace: seconds from SIGTERM to the end."""
    odd = seen.closed - seen.told_to_go
    text = f"{seen.refused}, {seen.broken}, {odd}, {seen.lost}, {seen.misordered} of {seen.events:,}; {seen.errors}"
    is_well = not (seen.refused or seen.broken or odd or seen.lost or seen.misordered)
    what = "refused, broken, sessions closed but told to go (1001), lost, out of order"
    exits = sorted(seen.exits)
    took = f"median {exits[len(exits) // 2]:.2f} s, worst {exits[-1]:.2f} s"
    return [
        Target(f"{len(exits)} drains: {what}", text, "0, 0, 0, 0, 0", is_well),
        Target("drains: from SIGTERM to the end", took, f"<= {grace:g} s", exits[-1] <= grace),
    ]


def moved_targets(moved: Moved) -> list[Target]:
    """Whether nobody noticed that the proxy was put in and taken out."""
    text = f"{moved.failed}, {moved.lost}, {moved.one_sided} of {moved.events:,}; {moved.through:,} by the proxy"
    text += f"; sent again on another connection: {moved.reopened}"
    is_well = not (moved.failed or moved.lost or moved.one_sided) and moved.through > 0
    put_in, taken_out = moved.spans
    what = f"insertion ({put_in:.2f} s) and removal ({taken_out:.2f} s)"
    ratio = moved.p99_moving / moved.p99_direct if moved.p99_direct else 0.0
    slower = f"{1000 * moved.p99_moving:.1f} ms, {1000 * moved.p99_direct:.1f} ms direct: {ratio:.2f}"
    return [
        Target(f"{what}: failed, lost, in one store alone", text, "0, 0, 0", is_well),
        Target("insertion and removal: p99 meanwhile", slower, "told, not bounded", True),
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """Of values in any order; 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def split(promises: Iterable[Promise], spans: Sequence[Span]) -> tuple[list[float], list[float], list[float]]:
    """Seconds until the answer, of events outside of all spans, of those that were on their way during one, and of
    those that had to be sent again, from then on: their first attempts are errors, which are counted.

    spans: in order, none within another.
    """
    begins, ends = [span.began for span in spans], [span.ended for span in spans]
    outside: list[float] = []
    inside: list[float] = []
    again: list[float] = []
    for promise in promises:
        if promise.tried:
            again.append(promise.answered - promise.tried)
            continue
        # Spans that had ended when it was sent, and those that had begun when it was answered.
        is_inside = bisect_left(ends, promise.sent) < bisect_right(begins, promise.answered)
        (inside if is_inside else outside).append(promise.answered - promise.sent)
    return outside, inside, again
