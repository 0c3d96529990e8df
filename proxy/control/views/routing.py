"""Routes, their two sides, and what a change of the routing does or would do."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.control.baselines import Baseline


class LedgerCounts(msgspec.Struct):
    """Events owed to one side, by state; owed is their sum."""

    owed: int
    pending: int
    deferred: int
    delivered: int
    refused: int
    dead: int
    discarded: int
    lost: int
    released: int
    oldest_age_s: float
    marked_buckets: int


class EndpointView(msgspec.Struct):
    """One address of a backend. state: up, out (left out after failures in some worker) or unhealthy (by its probe).

    outstanding and connections: of all workers; trouble: why it failed last, null when it did not.
    """

    address: str
    state: str
    outstanding: int
    connections: int
    trouble: str | None


class ConsumerView(msgspec.Struct):
    """A backend that connects itself. for_s: seconds since it is fed, or is not; told: events that it has had since the
    ledger's process began.
    """

    connected: bool
    for_s: float
    told: int


class SideView(msgspec.Struct):
    """One side of a route over the last ten seconds.

    error_rate and quantiles are null without an event in that time, healthy without a verdict of its probe, ledger
    until that has told of itself, consumer likewise, and for a backend with a url.
    """

    backend: str
    url: str
    rate: float
    error_rate: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    breaker: str
    healthy: bool | None
    paused: str
    ledger: LedgerCounts | None
    endpoints: list[EndpointView]
    consumer: ConsumerView | None = None


class VerdictView(msgspec.Struct):
    """What the guard thinks of new. name: pass, fail, inconclusive or nodata; samples, failed: answers of new since
    weight or copy was changed last, and those of them that were failures.
    """

    name: str
    reasons: list[str]
    samples: int
    failed: int


class FreezeView(msgspec.Struct):
    """A freeze: until then the routing of a route only goes back. actor: who began it, and why."""

    since: str
    until: str
    actor: str
    reason: str


class DrillView(msgspec.Struct):
    """The last drill of a route. running: it fails copies, or what it failed is not all told of yet; delay_s: that
    copies are held back, 0 but for `slow`; ended_at: null before; noticed_s: seconds until the guard saw cause for a
    revert, cause: which; reverted_epoch: of the revert, null where there was none.
    """

    route: str
    running: bool
    fault: str
    seconds: float
    delay_s: float
    actor: str
    reason: str
    began_at: str
    ended_at: str | None
    noticed_s: float | None
    cause: str | None
    reverted_epoch: int | None
    epoch: int
    dry_run: bool


class RolloutAtAGlance(msgspec.Struct):
    """How far the last staged plan is. step: from 1, of so many; paused_by, paused_at: null while it is not paused."""

    phase: str
    step: int
    of: int
    weight: float
    reason: str
    paused_by: str | None
    paused_at: str | None


class FilePosition(msgspec.Struct):
    """Where the configuration file says that a route begins."""

    stage: str
    weight: float


class RouteView(msgspec.Struct):
    """One route. weight_observed and its 95 % interval are null without events since the last change, rollout before
    the first one, frozen while it is not, drill without one under way. file: where the configuration says it begins.
    """

    name: str
    stage: str
    weight_target: float
    weight_observed: float | None
    weight_observed_interval: tuple[float, float] | None
    copy: str
    latched: bool
    latch_reason: str | None
    old_incomplete_since: str | None
    frozen: FreezeView | None
    drill: DrillView | None
    rate: float
    accepted_total: int
    verdict: VerdictView
    rollout: RolloutAtAGlance | None
    baseline: Baseline | None
    file: FilePosition
    sides: dict[str, SideView]


class BaselineView(msgspec.Struct):
    """What old's answers were like. left_s: seconds until what is being recorded is known, or null; trouble: why the
    last recording kept nothing, or null.
    """

    route: str
    left_s: float | None
    baseline: Baseline | None
    trouble: str | None


class Routes(msgspec.Struct):
    """The startup settings of all routes, as the configuration file names them, and the addresses for clients.

    listen: those for plain HTTP; listen_tls: those for HTTPS. Durations in seconds, sizes in bytes, shares 0-1.
    """

    listen: list[str]
    listen_tls: list[str]
    routes: list[dict[str, Any]]


class Position(msgspec.Struct):
    """A route's position."""

    weight: float
    copy: str
    stage: str
    latched: bool


class AppliedView(msgspec.Struct):
    """How many workers use the new epoch, of how many, seconds after the change was asked for."""

    workers: int
    of: int
    seconds: float


class KeysView(msgspec.Struct):
    """A number of distinct keys: an estimate with its 95 % interval. is_least: there may be any number more."""

    estimate: int
    low: int
    high: int
    is_least: bool


class SideMoves(msgspec.Struct):
    """Events per second that a side gets, as authority or as a copy, before and after a change."""

    before: float
    after: float


class MovesView(msgspec.Struct):
    """What a change would move to another authority, by the events of the last `window_seconds`.

    to: the side that would answer them; buckets_percent: 0-100; keys, all_keys: that move, and of the route;
    rate, all_rate: events per second likewise, counted by bucket, for keys are not equally busy.
    """

    window_seconds: float
    to: str
    buckets_percent: float
    keys: KeysView
    all_keys: KeysView
    rate: float
    all_rate: float
    sides: dict[str, SideMoves]


class RoutingChanged(msgspec.Struct):
    """A change of the routing; without `changed` nothing had to be done and the epoch stands.

    applied: null on a dry run. moves: of a dry run alone; null when no event was seen in the last minutes.
    """

    route: str
    before: Position
    after: Position
    epoch: int
    previous_epoch: int
    changed: bool
    dry_run: bool
    notes: list[str]
    next: str
    applied: AppliedView | None
    moves: MovesView | None = None


class RouteFreeze(msgspec.Struct):
    """A route's freeze before and after a change; null: not frozen."""

    route: str
    before: FreezeView | None
    after: FreezeView | None
    changed: bool


class FreezeChanged(msgspec.Struct):
    """Freezes that were begun or ended; the epoch stands, for the routing is the same."""

    routes: list[RouteFreeze]
    epoch: int
    changed: bool
    dry_run: bool
    notes: list[str]
