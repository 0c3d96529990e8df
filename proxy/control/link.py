"""What the supervisor and the other processes say to each other over a Unix stream socket.

Framed like the ledger's protocol (4-byte length, msgpack). Workers and the ledger connect, register,
and connect again to a new supervisor; they keep serving the last epoch while there is none.

    worker, ledger, checker                     supervisor
      Register("worker", 0, pid)    -->
                                    <--         SetRouting(routing)
      Applied(epoch)                -->
      WorkerStats / LedgerStats     -->         every 250 ms
      RouteSpread                   -->         every 10 s and route: where its events lie
      AnsweredPairs                 -->         what both sides answered: passed on to the checker
      CheckerStats                  -->         from the checker, every 500 ms
      Spans                         -->         what is told of traces, with the figures
                                    <--         RunSource, StopSource   to a worker: sources, one worker each
      SourceProgress, SourceStopped -->         how far a source is; it does not run here any more
                                    <--         BackendHealth(...)     what the probes found
                                    <--         SetFaults(...)         drills: to workers and the ledger
                                    <--         SetLogLevel(...)       for a while
                                    <--         BackendRecovered(...)  deliveries to it go on: to the workers
                                    <--         SetSettings(...)       other live keys: to workers that lack them
                                    <--         Drain(...)             what is in flight is the last of it
      ProposeSettings(...)          -->         of a process that has read the changed file, which waits for
                                    <--         Decided(refused)
                                    <--         Ask(id, op, args)      to the ledger alone
      Reply(id, result | error)     -->
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy.core.answers import AnsweredPair, AnswerStats
from proxy.core.breaker import BreakerTrouble
from proxy.core.checked import CheckStats
from proxy.core.drill import Fault
from proxy.core.routing import Routing
from proxy.core.trace import Span

STATS_INTERVAL: Final = 0.25
"""Seconds between two reports of a process."""
CHECKER_INTERVAL: Final = 0.5
"""The same, of the checker."""
SPREAD_EVERY: Final = 40
"""Reports from one `RouteSpread` of a route to the next."""


class Register(msgspec.Struct, tag="register"):
    """kind: worker, ledger, checker or loader; index: the worker's, else 0; life: random name of this process's turn.

    since: when the turn began, seconds since 1970: of two workers with one index the later one has the place;
    configuration: digest of the settings that a worker goes by.
    """

    kind: str
    index: int
    pid: int
    life: str
    since: float = 0.0
    configuration: str = ""


class Applied(msgspec.Struct, tag="applied"):
    """From the next event on, this process uses this epoch."""

    epoch: int


class Requests(msgspec.Struct, array_like=True):
    """Answers (or failures) of one backend in one role. code_class: 2xx, 3xx, 4xx, 5xx or error.

    role: authority, copy or stream. Latency is a `proxy.core.sketch.Sketch`'s buckets, in seconds. body_bytes: of the
    events that it has accepted.
    """

    route: str
    side: int
    backend: str
    role: str
    code_classes: dict[str, int]
    latency: dict[int, int]
    body_bytes: int = 0


class CertificateStats(msgspec.Struct, array_like=True):
    """A certificate in use. listen: the listener's address; loaded_at, expires_at: seconds since 1970.

    trouble: why what is on disk now is not in use, or empty.
    """

    listen: str
    file: str
    names: tuple[str, ...]
    expires_at: float
    loaded_at: float
    trouble: str


class EndpointStats(msgspec.Struct, array_like=True):
    """An endpoint of a backend as one process sees it. state: up, out or unhealthy.

    outstanding: events on their way to it; open: connections; trouble: why it failed last, or empty.
    """

    backend: str
    address: str
    state: str
    outstanding: int
    open: int
    trouble: str


class SourceStats(msgspec.Struct, array_like=True):
    """A source that this worker runs. state: connecting, connected or unhealthy; trouble: why, or empty.

    generation: of its lease; unaccepted: events that it has brought and that are not accepted yet.
    """

    name: str
    generation: int
    state: str
    trouble: str
    unaccepted: int


class WorkerStats(msgspec.Struct, tag="worker_stats"):
    """Cumulative counts since the process started.

    accepted: answered or promised events by route; chosen: by route, how many had (old, new) as authority;
    breakers: state by backend; open_connections: to each backend; clients: open client connections;
    in_flight: events not answered yet; counters: everything else by its metric-like name, such as
    `copies_lost`, `failovers`, `handed`, `refused_400`, `ledger_unavailable`.
    """

    epoch: int
    accepted: dict[str, int]
    chosen: dict[str, tuple[int, int]]
    requests: list[Requests]
    breakers: dict[str, str]
    open_connections: dict[str, int]
    clients: int
    in_flight: int
    counters: dict[str, int]
    rss_bytes: int = 0
    certificates: list[CertificateStats] = []
    endpoints: list[EndpointStats] = []
    lookups: dict[str, str] = {}
    """By backend, why its names could not be looked up last; empty when they could."""
    held_bytes: int = 0
    budget_bytes: int = 0
    """What clients make it hold, and its share of `limits.memory`."""
    sheds: str = ""
    """Why it turns requests or clients away at the moment; empty when it does not."""
    sessions: int = 0
    """Open WebSocket sessions; they are clients, too."""
    left_out: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
    """By route and side (old, new): answers and failures among them that the test of failures leaves out."""
    outstanding: dict[str, tuple[int, int]] = {}
    """By route, how many events (old, new) has been sent and has not answered at the moment."""
    answered: dict[str, int] = {}
    failed: dict[str, int] = {}
    """Requests and messages whose client was answered, and those among them that were answered 5xx, by route."""
    sources: list[SourceStats] = []
    loop_lag: float = 0.0
    """Seconds that the loop was late by lately, at most: `proxy.core.loop_lag`."""
    breaker_troubles: dict[str, BreakerTrouble] = {}
    """By backend, why its breaker is not closed."""
    configuration: str = ""
    """Digest of the settings that it goes by."""
    refusals: dict[str, str] = {}
    """By backend, what it has against WebSocket sessions that the other side lets in."""


class RouteSpread(msgspec.Struct, tag="route_spread"):
    """How a route's events of the last `seconds` lie over the buckets: `proxy.core.spread` of one worker.

    counts: 10,000 unsigned 32-bit numbers in this machine's order, by bucket; empty without an event.
    seen: the sample's bits; chosen_new: how many of these events new was to answer; epoch: of the dials that said so, 0
    when they were turned meanwhile or other things than they decide as well.
    """

    route: str
    seconds: float
    counts: bytes
    seen: bytes
    chosen_new: int = 0
    epoch: int = 0


class AnsweredPairs(msgspec.Struct, tag="answered_pairs"):
    """Answers of both sides to some events."""

    pairs: list[AnsweredPair]


class Spans(msgspec.Struct, tag="spans"):
    """What is told of traces. dropped: how many more there were for which there was no room."""

    spans: list[Span]
    dropped: int = 0


class SideStats(msgspec.Struct):
    """One side of one route in the ledger. balance: `proxy.core.owed.Balance.as_dict()`.

    oldest_pending_age: seconds, 0 without one; marked: buckets with a backlog; paused: why
    deliveries to this side are paused (a status that says our credential is wrong), or empty;
    is_open: false while no deliveries are made because the backend itself seems to fail, for whatever reason;
    is_failing: that is certain, it is not one event alone that fails;
    delivered_bytes: bodies that this ledger process has delivered to it.
    """

    route: str
    side: int
    backend: str
    balance: dict[str, int]
    oldest_pending_age: float
    marked: int
    paused: str = ""
    is_open: bool = True
    is_failing: bool = False
    delivered_bytes: int = 0


class ConsumerStats(msgspec.Struct, array_like=True):
    """A backend that connects itself. seconds: since when it is fed, or not; told: events that it has had since the
    ledger's process began, each counted once.
    """

    backend: str
    is_fed: bool
    seconds: float
    told: int


class LedgerStats(msgspec.Struct, tag="ledger_stats"):
    """The ledger's present state; counters are cumulative since its start."""

    epoch: int
    sides: list[SideStats]
    receipts: int
    commits: int
    commit_p99: float
    segments: int
    bytes_on_disk: int
    disk_free: int
    low_disk: bool
    gaps: int
    counters: dict[str, int]
    last_gap: float = 0.0
    """Where the last one ends, seconds since 1970; 0 without one."""
    rss_bytes: int = 0
    breakers: dict[str, str] = {}
    """State by backend, as the ledger's own deliveries see it."""
    remembered: dict[str, int] = {}
    """Ids by route, of those that have a dedupe window."""
    loop_lag: float = 0.0
    """As of a worker."""
    breaker_troubles: dict[str, BreakerTrouble] = {}
    """As of a worker."""
    consumers: list[ConsumerStats] = []
    """Backends that connect themselves."""


class CheckerStats(msgspec.Struct, tag="checker_stats"):
    """The live checker's figures, in the order of the configuration."""

    checks: list[CheckStats]
    answers: list[AnswerStats] = []
    """By route whose answers are compared."""
    rss_bytes: int = 0
    loop_lag: float = 0.0
    """As of a worker."""


class KeyChange(msgspec.Struct, array_like=True):
    """A `config.changes.Change`. why: of a fixed key, why it cannot change and what to do instead."""

    key: str
    before: str
    after: str
    kind: str
    why: str = ""


class FileError(msgspec.Struct, array_like=True):
    """A `config.errors.ConfigError`."""

    path: str
    line: int
    column: int
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{place}: {self.message}" + (f" (did you mean '{self.suggestion}'?)" if self.suggestion else "")


class ProposeSettings(msgspec.Struct, tag="propose_settings"):
    """What a changed file would change. file: its path; text: digest of what it holds; digest: of its settings.

    errors: everything that is wrong with it; nothing else is known then. moved: routes whose initial position in the
    file is another one, with stage and weight; left: routes that it has no more.
    """

    file: str
    text: str
    digest: str = ""
    errors: list[FileError] = []
    changes: list[KeyChange] = []
    moved: dict[str, tuple[str, float | None]] = {}
    left: list[str] = []


class Decided(msgspec.Struct, tag="decided"):
    """What becomes of it. refused: why it is not applied; empty: it may be."""

    refused: list[str]


class SetSettings(msgspec.Struct, tag="set_settings"):
    """Go by these settings, of which only live keys (`config.changes`) are others. settings: a pickle of them.

    digest: of them; instead_of: digests of those in whose place they may be put.
    """

    digest: str
    instead_of: list[str]
    settings: bytes


class Drain(msgspec.Struct, tag="drain"):
    """The instance is about to stop: answers close their connections, and others are still taken.

    deliver_for: seconds that the ledger may go on delivering once the workers are gone, until nothing is pending.
    """

    deliver_for: float = 0.0


class SetRouting(msgspec.Struct, tag="set_routing"):
    """Apply this routing to the next event and answer with Applied."""

    routing: Routing


class SetFaults(msgspec.Struct, tag="set_faults"):
    """What drills do to copies to new, by route: these and no others. Each ends by itself as well."""

    faults: dict[str, Fault]


class SetLogLevel(msgspec.Struct, tag="set_log_level"):
    """Log at this level for so many seconds; an empty one: at the configured level again."""

    level: str
    seconds: float


class BackendHealth(msgspec.Struct, tag="backend_health"):
    """Backends that have an active probe, and whether they are healthy; endpoints: the same by address of each."""

    healthy: dict[str, bool]
    endpoints: dict[str, dict[str, bool]] = {}


class BackendRecovered(msgspec.Struct, tag="backend_recovered"):
    """Backends that take the ledger's deliveries again: a worker's breaker need not wait for an event to try with."""

    backends: list[str]


class Ask(msgspec.Struct, tag="ask"):
    """A question to the ledger. op and args: see proxy/ledger/queries.py."""

    id: int
    op: str
    args: dict[str, Any]


class Reply(msgspec.Struct, tag="reply"):
    """Its answer: result when error is empty."""

    id: int
    result: Any = None
    error: str = ""


class RunSource(msgspec.Struct, tag="run_source"):
    """This worker runs the source from now on, until it stops or is told to. generation: of the lease, rising.

    is_established: `states` are what its states are held against, by `proxy.core.known_states`; had_connection: some
    worker had one before, so what lies between is a gap.
    """

    name: str
    generation: int
    is_established: bool = False
    had_connection: bool = False
    states: dict[str, str] = {}


class StopSource(msgspec.Struct, tag="stop_source"):
    """This lease of a source is over: stop it, and say so."""

    name: str
    generation: int


class SourceProgress(msgspec.Struct, tag="source_progress"):
    """What of a source's states was accepted under this lease. None: the state is gone.

    is_whole: these are all of its states; otherwise those that are new since the last message.
    """

    name: str
    generation: int
    is_whole: bool
    is_established: bool
    had_connection: bool
    states: dict[str, str | None]


class SourceStopped(msgspec.Struct, tag="source_stopped"):
    """The source does not run here any more, and nothing of it is on its way."""

    name: str
    generation: int


ToSupervisor = (
    Register
    | Applied
    | WorkerStats
    | RouteSpread
    | AnsweredPairs
    | Spans
    | LedgerStats
    | CheckerStats
    | Reply
    | SourceProgress
    | SourceStopped
    | ProposeSettings
)
FromSupervisor = (
    SetRouting
    | SetSettings
    | SetFaults
    | SetLogLevel
    | BackendHealth
    | BackendRecovered
    | Ask
    | AnsweredPairs
    | RunSource
    | StopSource
    | Drain
    | Decided
)

encoder: Final = msgspec.msgpack.Encoder()
to_supervisor: Final = msgspec.msgpack.Decoder(ToSupervisor)
from_supervisor: Final = msgspec.msgpack.Decoder(FromSupervisor)


class _Tagged(msgspec.Struct):
    type: str


_tagged: Final = msgspec.msgpack.Decoder(_Tagged)


def known(decoder: msgspec.msgpack.Decoder[Any], payload: bytes) -> Any:
    """A message; None for one of a kind that this version does not know. Raises msgspec.DecodeError for garbage.

    During an upgrade both ends may be of different versions, for seconds: what only the later one knows is passed over,
    and members that only it knows are ignored or have their defaults.
    """
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError:
        kinds = {kind.__struct_config__.tag for kind in decoder.type.__args__}
        if _tagged.decode(payload).type in kinds:
            raise
        return None
