"""What the admin API answers, as types: the responses and their descriptions in openapi.json are made from these.

Weights are percent 0-100, rates events per second, times seconds unless their name says otherwise, moments
ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.control.audit import Entry
from proxy.control.baselines import Baseline
from proxy.control.doctor.finding import Finding


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

    error_rate and quantiles are null without an event in that time, healthy without a probe's verdict, consumer for a
    backend with a url, and while the ledger is away.
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


class ReceiverView(msgspec.Struct):
    """A receiver of notifications, since the supervisor began. waiting: entries that it has not been told yet.

    last_success, last_failure: of tries, null without any; trouble: why the last one failed, null when it did not
    """

    name: str
    kind: str
    waiting: int
    delivered: int
    dropped: int
    last_success: str | None
    last_failure: str | None
    trouble: str | None


class AvailabilityView(msgspec.Struct):
    """How much of the time clients could be served. observed_s: seconds; down_s: of these; ratio: 0-1, null before
    anything was seen.
    """

    observed_s: float
    down_s: float
    ratio: float | None


class RolloutStepView(msgspec.Struct):
    """One stop. weight: percent; hold_s: seconds at it; samples: answers of new that it takes; predicted_s: how long it
    lasts at the present rate of events, null when no events come; before, gates, after: names of gates.
    """

    weight: float
    hold_s: float
    samples: int
    predicted_s: float | None
    before: tuple[str, ...]
    gates: tuple[str, ...]
    after: tuple[str, ...]


class LatencyView(msgspec.Struct):
    """Seconds that new's quantiles may have at a step; null: any."""

    p50: float | None
    p95: float | None


class GateView(msgspec.Struct):
    """A gate of the present step. answer: yes, no, or no answer; text: in its own words; on_fail: what a no does."""

    name: str
    answer: str
    text: str
    on_fail: str


class RolloutView(msgspec.Struct):
    """The last rollout of a route. phase: preparing, moving, applying, holding, waiting, paused, reverting, done,
    reverted or aborted; step: from 1; held_s: seconds at it, before it was paused; reason: what it waits for, or why it
    ended; gates: what those of the present step said last; on_revert: those that are told of one; notes: what a person
    should know of it; paused_by, paused_at: null while it is not paused.
    """

    route: str
    phase: str
    step: int
    held_s: float
    reason: str
    auto_promote: bool
    latency: LatencyView
    started_at: str
    actor: str
    dry_run: bool
    steps: list[RolloutStepView]
    gates: list[GateView]
    on_revert: tuple[str, ...]
    notes: list[str]
    paused_by: str | None
    paused_at: str | None


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


class ProcessView(msgspec.Struct):
    """A process in a switch. state: waits, starts, done, failed, put-back (its predecessor serves again) or kept."""

    name: str
    state: str
    pid: int
    reason: str


class SwitchView(msgspec.Struct):
    """The replacement of processes that runs, or ran last; number 0 where there was none.

    kind: upgrade or reload; phase: checking, replacing, watching, launcher, putting-back or ended; result: empty while
    it runs, else done, refused, put-back or failed; detail: what it shows of itself.
    """

    number: int
    kind: str
    phase: str
    result: str
    reason: str
    began_at: str | None
    ended_at: str | None
    version_before: str
    version_after: str
    processes: list[ProcessView]
    detail: dict[str, Any]
    dry_run: bool


class DeathsView(msgspec.Struct):
    """A process that has died. died: how often since the instance started; last_end: how, the last time.

    crash_loop: it dies soon after each start, and waits longer each time; short_lives: how often in a row.
    """

    name: str
    died: int
    crash_loop: bool
    short_lives: int
    last_end: str


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


class SourceView(msgspec.Struct):
    """A source. kind: home_assistant or websocket; state: connected, connecting, unhealthy, or waiting for a worker.

    trouble: why it is not well, or null; worker: that runs it, null when none does; rate: accepted events per second
    over the last ten; unaccepted: read and not accepted yet. The others are totals: of accepted events those that a
    snapshot told are recovered; refused: for good, by the route's authority; repeated: told before; retried: tries
    beyond the first; gaps: connections behind the first one; unreadable: messages that could not be read, and unknown
    ones.
    """

    name: str
    kind: str
    route: str
    state: str
    trouble: str | None
    worker: int | None
    rate: float
    unaccepted: int
    accepted: int
    recovered: int
    refused: int
    repeated: int
    retried: int
    gaps: int
    unreadable: int


class FileErrorView(msgspec.Struct):
    """Something that is wrong with a configuration file. line, column: from 1, 0 where the whole file is meant."""

    path: str
    line: int
    column: int
    message: str
    suggestion: str


class TroubleView(msgspec.Struct):
    """Why the configuration file, as it was looked at last, is not served. errors: in it; refused: what stands against
    it.
    """

    since: str
    errors: list[FileErrorView]
    refused: list[str]


class LastSwitch(msgspec.Struct):
    """The replacement of processes that runs, or ran last. kind: upgrade or reload; result: empty while it runs."""

    number: int
    kind: str
    phase: str
    result: str
    reason: str


class ConfigView(msgspec.Struct):
    """Which configuration is served. digest: names it; actor, reason: who had it applied, null for the first one.

    workers: how many go by it, of how many; reload: when the file is read again; trouble: why it is not served as it is
    now, or null; switch: the last replacement of processes, or null; settings: every key, with secrets hidden.
    """

    file: str
    digest: str
    loaded_at: str
    epoch: int
    actor: str | None
    reason: str | None
    workers: int
    of: int
    reload: str
    trouble: TroubleView | None
    switch: LastSwitch | None
    settings: dict[str, str]


class ServedView(msgspec.Struct):
    """Which configuration is served, at a glance; as in `ConfigView`."""

    file: str
    digest: str
    loaded_at: str
    workers: int
    of: int
    trouble: TroubleView | None


class KeyChangeView(msgspec.Struct):
    """A key with another value. kind: live, startup or fixed; why: of a fixed one, why, and what to do instead."""

    key: str
    before: str
    after: str
    kind: str
    why: str | None


class ReloadView(msgspec.Struct):
    """What a reload changes. refused: what stands against it; begun: it is being applied: the configuration of `digest`
    is served soon, under an epoch after `epoch`.
    """

    file: str
    digest: str
    epoch: int
    changes: list[KeyChangeView]
    refused: list[str]
    dry_run: bool
    begun: bool


class Status(msgspec.Struct):
    """Everything at a glance. not_ready: why /readyz says no.

    default: the backend that gets what fits no route, null when that is answered with 404; passed_through: how much;
    sessions: null when no route takes any; scraped_s: seconds since somebody read the metrics, null when nobody did;
    switch: the last replacement of processes, null before there was one; deaths: of processes that have died.
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
    switch: SwitchView | None
    deaths: list[DeathsView]
    sessions: SessionsView | None
    ledger: LedgerView
    consistency: list[CheckView]
    answers: list[AnswersView]
    sources: list[SourceView]
    dependencies: list[DependencyView]
    certificates: list[CertificateView]
    availability: AvailabilityView
    scraped_s: float | None
    notifications: list[ReceiverView]
    configuration: ServedView
    counters: dict[str, int]
    warnings: list[str]


class Lately(msgspec.Struct):
    """One side of a route over the last two seconds or three; null without an answer in that time."""

    rate: float
    error_rate: float | None
    p50: float | None
    p99: float | None


class Snapshot(msgspec.Struct):
    """What a stream tells again and again. lately: by route and side; rollouts: by route, the last one it had."""

    at: str
    status: Status
    lately: dict[str, dict[str, Lately]]
    rollouts: dict[str, RolloutView]


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


class DependentView(msgspec.Struct):
    """Something that still needs old. route: empty where it is no route's; kind: in a word; detail: what was seen;
    remedy: what ends it.
    """

    route: str
    kind: str
    detail: str
    remedy: str


class LastEventView(msgspec.Struct):
    """When old of a route was sent an event last, to ten seconds. at, ago_s: null when none is on record; since: when
    that record, of a month at most, begins, null without one.
    """

    route: str
    backend: str
    at: str | None
    ago_s: float | None
    since: str | None


class DecommissionView(msgspec.Struct):
    """May old be switched off? clear: nothing depends on it; quiet_s: how long it was to have had no event."""

    clear: bool
    epoch: int
    quiet_s: float
    dependents: list[DependentView]
    last_events: list[LastEventView]


class History(msgspec.Struct):
    """Audit entries, newest first. damaged_lines: lines that could not be read."""

    entries: list[Entry]
    damaged_lines: int


class Welcome(msgspec.Struct):
    """The first event of a stream. role: what its caller may do, viewer or operator; token: its name, empty without."""

    role: str
    token: str


class Why(msgspec.Struct):
    """The last revert of a route, if any.

    seconds_to_detect: from the first that went wrong, as far as that is known, to the decision; at most
    seconds_to_recover: from there until every worker had applied it; each is null where nobody knows
    """

    route: str
    entry: Entry | None
    seconds_to_detect: float | None
    seconds_to_recover: float | None
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


class Diagnosis(msgspec.Struct):
    """What the doctor found. result: the worst state of a finding, ok, warn or fail."""

    result: str
    version: str
    findings: list[Finding]


class LogLevelSet(msgspec.Struct):
    """The log level that processes have meanwhile. told: how many heard of it; until: null for the configured one."""

    level: str
    process: str
    told: int
    until: str | None
    dry_run: bool


class Draining(msgspec.Struct):
    """The instance is on its way out."""

    draining: bool
    dry_run: bool


class HookOutcome(msgspec.Struct):
    """What became of a trigger at a route. outcome: reverted, paused or nothing."""

    route: str
    action: str
    outcome: str
    detail: str


class HookDone(msgspec.Struct):
    """What a hook did. idle: how many alerts did nothing, by the reason: resolved, unmatched, known (they did it
    before) or ignored (older than max_age).
    """

    outcomes: list[HookOutcome]
    idle: dict[str, int]
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
