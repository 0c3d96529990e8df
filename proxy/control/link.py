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
                                    <--         BackendHealth(...)     what the probes found
                                    <--         BackendRecovered(...)  deliveries to it go on: to the workers
                                    <--         Ask(id, op, args)      to the ledger alone
      Reply(id, result | error)     -->
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy.core.answers import AnsweredPair, AnswerStats
from proxy.core.checked import CheckStats
from proxy.core.routing import Routing

STATS_INTERVAL: Final = 0.25
"""Seconds between two reports of a process."""
SPREAD_EVERY: Final = 40
"""Reports from one `RouteSpread` of a route to the next."""


class Register(msgspec.Struct, tag="register"):
    """kind: worker, ledger or checker; index: the worker's, else 0; life: random name of this process."""

    kind: str
    index: int
    pid: int
    life: str


class Applied(msgspec.Struct, tag="applied"):
    """From the next event on, this process uses this epoch."""

    epoch: int


class Requests(msgspec.Struct, array_like=True):
    """Answers (or failures) of one backend in one role. code_class: 2xx, 3xx, 4xx, 5xx or error.

    role: authority, copy or stream. Latency is a `proxy.core.sketch.Sketch`'s buckets, in seconds.
    """

    route: str
    side: int
    backend: str
    role: str
    code_classes: dict[str, int]
    latency: dict[int, int]


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


class RouteSpread(msgspec.Struct, tag="route_spread"):
    """How a route's events of the last `seconds` lie over the buckets: `proxy.core.spread` of one worker.

    counts: 10,000 unsigned 32-bit numbers in this machine's order, by bucket; empty without an event.
    seen: the sample's bits.
    """

    route: str
    seconds: float
    counts: bytes
    seen: bytes


class AnsweredPairs(msgspec.Struct, tag="answered_pairs"):
    """Answers of both sides to some events."""

    pairs: list[AnsweredPair]


class SideStats(msgspec.Struct):
    """One side of one route in the ledger. balance: `proxy.core.owed.Balance.as_dict()`.

    oldest_pending_age: seconds, 0 without one; marked: buckets with a backlog; paused: why
    deliveries to this side are paused (a status that says our credential is wrong), or empty;
    is_open: false while no deliveries are made because the backend itself fails, for whatever reason.
    """

    route: str
    side: int
    backend: str
    balance: dict[str, int]
    oldest_pending_age: float
    marked: int
    paused: str = ""
    is_open: bool = True


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
    rss_bytes: int = 0
    breakers: dict[str, str] = {}
    """State by backend, as the ledger's own deliveries see it."""
    remembered: dict[str, int] = {}
    """Ids by route, of those that have a dedupe window."""


class CheckerStats(msgspec.Struct, tag="checker_stats"):
    """The live checker's figures, in the order of the configuration."""

    checks: list[CheckStats]
    answers: list[AnswerStats] = []
    """By route whose answers are compared."""


class SetRouting(msgspec.Struct, tag="set_routing"):
    """Apply this routing to the next event and answer with Applied."""

    routing: Routing


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


ToSupervisor = Register | Applied | WorkerStats | RouteSpread | AnsweredPairs | LedgerStats | CheckerStats | Reply
FromSupervisor = SetRouting | BackendHealth | BackendRecovered | Ask | AnsweredPairs

encoder: Final = msgspec.msgpack.Encoder()
to_supervisor: Final = msgspec.msgpack.Decoder(ToSupervisor)
from_supervisor: Final = msgspec.msgpack.Decoder(FromSupervisor)
