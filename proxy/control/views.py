"""What the admin API answers, as types: the responses and their descriptions in openapi.json are made from these.

Weights are percent 0-100, rates events per second, times seconds unless their name says otherwise, moments
ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.control.audit import Entry


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


class SideView(msgspec.Struct):
    """One side of a route over the last ten seconds.

    error_rate and quantiles are null without an event in that time, healthy without a probe's verdict.
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
    ledger: LedgerCounts
    endpoints: list[EndpointView]


class VerdictView(msgspec.Struct):
    """What the guard thinks of new. name: pass, fail, inconclusive or nodata; samples: answers of new since weight or
    copy was changed last.
    """

    name: str
    reasons: list[str]
    samples: int


class RolloutAtAGlance(msgspec.Struct):
    """How far the last staged plan is. step: from 1, of so many."""

    phase: str
    step: int
    of: int
    weight: float
    reason: str


class RouteView(msgspec.Struct):
    """One route. weight_observed and its 95 % interval are null without events since the last change, rollout before
    the first one.
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
    rate: float
    accepted_total: int
    verdict: VerdictView
    rollout: RolloutAtAGlance | None
    sides: dict[str, SideView]


class RolloutStepView(msgspec.Struct):
    """One stop. weight: percent; hold_s: seconds at it; samples: answers of new that it takes; predicted_s: how long it
    lasts at the present rate of events, null when no events come.
    """

    weight: float
    hold_s: float
    samples: int
    predicted_s: float | None


class RolloutView(msgspec.Struct):
    """The last rollout of a route. phase: moving, holding, waiting, paused, done, reverted or aborted; step: from 1;
    held_s: seconds at it; reason: what it waits for, or why it ended; notes: what a person should know of it.
    """

    route: str
    phase: str
    step: int
    held_s: float
    reason: str
    auto_promote: bool
    started_at: str
    actor: str
    dry_run: bool
    steps: list[RolloutStepView]
    notes: list[str]


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


class Routes(msgspec.Struct):
    """The startup settings of all routes, as the configuration file names them, and the addresses for clients.

    listen: those for plain HTTP; listen_tls: those for HTTPS. Durations in seconds, sizes in bytes, shares 0-1.
    """

    listen: list[str]
    listen_tls: list[str]
    routes: list[dict[str, Any]]


class WorkerView(msgspec.Struct):
    """One worker. Figures of one that is not alive are its last.

    sessions: open WebSocket sessions, which are clients, too; held_bytes of budget_bytes: what clients make it hold,
    of its share of limits.memory; sheds: why it turns requests or clients away at the moment, null when it does not.
    """

    index: int
    pid: int
    epoch: int
    in_flight: int
    clients: int
    sessions: int
    rss_bytes: int
    alive: bool
    restarts: int
    held_bytes: int
    budget_bytes: int
    sheds: str | None


class SessionsView(msgspec.Struct):
    """WebSocket sessions of all routes. open: at the moment; the others: messages so far.

    from_client: each an event; to_client: of the side that answers; dropped: of one that does not.
    """

    open: int
    from_client: int
    to_client: int
    dropped: int


class LedgerView(msgspec.Struct):
    """The ledger process; balanced: every side's owed is the sum of its states."""

    alive: bool
    pid: int
    pending: int
    deferred: int
    dead: int
    balanced: bool
    segments: int
    bytes_on_disk: int
    disk_free: int
    low_disk: bool
    gaps: int
    commit_p99_s: float
    receipts: int


class DependencyView(msgspec.Struct):
    """A service behind a backend. healthy: null before the first look."""

    backend: str
    name: str
    address: str
    healthy: bool | None
    detail: str


class CertificateView(msgspec.Struct):
    """A certificate that clients are shown. trouble: why what is on disk now is not in use, null when it is.

    loaded_at is the earliest of all workers.
    """

    listen: str
    file: str
    names: list[str]
    expires_at: str
    loaded_at: str
    trouble: str | None


class Status(msgspec.Struct):
    """Everything at a glance. not_ready: why /readyz says no.

    default: the backend that gets what fits no route, null when that is answered with 404; passed_through: how much;
    sessions: null when no route takes any.
    """

    version: str
    epoch: int
    started_at: str
    ready: bool
    not_ready: list[str]
    draining: bool
    routes: list[RouteView]
    default: str | None
    passed_through: int
    workers: list[WorkerView]
    sessions: SessionsView | None
    ledger: LedgerView
    consistency: list[CheckView]
    answers: list[AnswersView]
    dependencies: list[DependencyView]
    certificates: list[CertificateView]
    counters: dict[str, int]
    warnings: list[str]


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


class History(msgspec.Struct):
    """Audit entries, newest first. damaged_lines: lines that could not be read."""

    entries: list[Entry]
    damaged_lines: int


class Why(msgspec.Struct):
    """The last revert of a route, if any."""

    route: str
    entry: Entry | None
    latched: bool
    text: str


class LedgerSide(msgspec.Struct):
    """One side in the record. backend: empty for a route that left the configuration; balance: events by state."""

    route: str
    side: str
    backend: str
    balance: dict[str, int]
    oldest_pending_age: float
    marked: int
    paused: str


class LedgerSummary(msgspec.Struct):
    """The record as the ledger sums it up."""

    balanced: bool
    sides: list[LedgerSide]
    segments: int
    gaps: list[dict[str, Any]]


class Receipts(msgspec.Struct):
    """One page of events; ask again with next_after_seq until it is null."""

    events: list[dict[str, Any]]
    next_after_seq: int | None


class ReceiptsOfEvent(msgspec.Struct):
    """Everything recorded under one event id."""

    receipts: list[dict[str, Any]]


class Recorded(msgspec.Struct):
    """Receipts as short rows: seq, id, accepted_ns, event_time, identities, then state and attempts of old and of new.

    after_seq: where the next question goes on; more: there are further receipts already. States are numbers, see
    `proxy.core.owed`.
    """

    rows: list[list[Any]]
    after_seq: int
    more: bool


class Settled(msgspec.Struct):
    """The same rows of receipts that were asked for by their numbers."""

    rows: list[list[Any]]


class Covered(msgspec.Struct):
    """Of which times the record says everything: since when, but for gaps. Nanoseconds since 1970.

    last_seq: number of the newest receipt; when it is less than before, this is another record.
    """

    from_ns: int | None
    last_seq: int
    gaps: list[list[int]]


class Replayed(msgspec.Struct):
    """Events that are pending again, and how many could not be because their body is gone."""

    replayed: int
    without_body: int
    dry_run: bool


class Moved(msgspec.Struct):
    """Dead letters that were moved."""

    moved: int
    dry_run: bool


class Draining(msgspec.Struct):
    """The instance is on its way out."""

    draining: bool
    dry_run: bool


class TokenView(msgspec.Struct):
    """A token without its secret."""

    name: str
    role: str
    created_at: str


class TokenList(msgspec.Struct):
    """All tokens."""

    tokens: list[TokenView]


class TokenCreated(msgspec.Struct):
    """A new token; its secret is shown this once. Empty on a dry run."""

    name: str
    role: str
    token: str
    dry_run: bool


class TokenRevoked(msgspec.Struct):
    """A token that is worthless now."""

    name: str
    dry_run: bool


class Health(msgspec.Struct):
    """The supervisor answers."""

    status: str


class Readiness(msgspec.Struct):
    """May traffic come? reasons: why not."""

    ready: bool
    reasons: list[str]


class ProblemView(msgspec.Struct):
    """An error, RFC 9457; some have further members, such as epoch or routes."""

    type: str
    title: str
    status: int
    detail: str
