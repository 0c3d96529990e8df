"""The startup settings: every key a configuration file may have, with its unit, default and meaning.

The JSON Schema, the reference page and the error messages are made from these classes, so the
`description` of a field is what a user reads. All times are seconds and all sizes bytes once loaded.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from config.units import AddressText, Duration, HttpUrl, Percent, Ratio, Size, SourceText

SCHEMA_VERSION = 1
Name = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limits(_Frozen):
    """What a client may send before it is refused."""

    max_event_size: Size = Field(2**20, description="largest request body, buffered in memory; larger: 413")
    max_head_size: Size = Field(16 * 2**10, description="request line and headers together; larger: 431")
    max_headers: int = Field(100, ge=1, le=1000, description="header lines of a request; more: 431")
    max_target_size: Size = Field(8 * 2**10, description="request target; larger: 414")
    head_timeout: Duration = Field(10.0, description="from the first byte of a head to its end; slower: 408")
    body_timeout: Duration = Field(30.0, description="from the end of a head to the end of its body; slower: 408")
    keepalive_timeout: Duration = Field(75.0, description="an idle client connection is closed after this")
    max_connections: int = Field(10_000, ge=1, description="open client connections per worker; more are closed")


class Health(_Frozen):
    """Active probe of a backend: GET, any 2xx or 3xx is healthy."""

    path: str = Field("/health", pattern=r"^/", description="path that the probe asks for")
    interval: Duration = Field(1.0, description="from one probe to the next")
    timeout: Duration = Field(1.0, description="a slower answer counts as a failure")
    healthy: int = Field(2, ge=1, description="successes in a row until the backend counts as healthy")
    unhealthy: int = Field(3, ge=1, description="failures in a row until it counts as unhealthy")


class Breaker(_Frozen):
    """Circuit breaker of a backend, one in each worker."""

    failures: int = Field(5, ge=1, description="failures in a row (connect, timeout, 5xx) that open it")
    reset: Duration = Field(2.0, description="open for this long, then one trial event")


class Backend(_Frozen):
    """A named upstream."""

    url: HttpUrl = Field(description="http://host:port")
    connections: int = Field(128, ge=1, description="open connections per worker")
    pending: int = Field(1024, ge=0, description="events per worker that may wait for a connection; more: 503")
    connect_timeout: Duration = Field(1.0, description="TCP connect; slower: 502")
    response_timeout: Duration = Field(10.0, description="from the last byte sent to the end of the response head; 504")
    idle_timeout: Duration = Field(30.0, description="an unused connection is closed after this")
    health: Health | None = Field(None, description="active probe; without it only events tell")
    breaker: Breaker = Field(Breaker(), description="circuit breaker")
    dependencies: dict[str, str] = Field(
        default_factory=dict,
        description="health addresses of services behind this backend, shown in status: http://… or tcp://host:port",
    )


class Match(_Frozen):
    """What a route takes: every given condition must hold."""

    host: str | None = Field(None, description="Host of the request without port; any when absent")
    path: str = Field(description="exact (/a/b), parameters (/a/{id}) or prefix (/a/*)", pattern=r"^/")
    methods: tuple[str, ...] = Field(("POST", "PUT", "PATCH", "DELETE"), description="HTTP methods")


class Trigger(_Frozen):
    """When the proxy itself moves a route's weight to 0 and latches it."""

    on_breaker: bool = Field(True, description="new's breaker open in any worker")
    error_rate: Ratio = Field(0.05, description="share of failed events at new, within `window`")
    min_samples: int = Field(50, ge=1, description="events at new within `window` before the rate is judged")
    window: Duration = Field(10.0, description="sliding window of the error rate")


class Route(_Frozen):
    """A match and the policy for what it matches."""

    name: str = Name
    match: Match
    old: str = Field("old", description="name of the old backend")
    new: str = Field("new", description="name of the new backend")
    stage: Literal["off", "shadow", "dualwrite", "live", "split", "rampdown", "complete"] = Field(
        "off", description="both dials when there is no live state yet; later changes are made with proxyctl"
    )
    weight: Percent | None = Field(None, description="weight 0-100 of the stages live and split at the first start")
    key: SourceText = Field("client", description="what events are sticky and ordered by")
    key_missing: Literal["event-id", "reject", "old"] = Field(
        "event-id", description="without a key: use the event id, refuse with 400, or send to old alone"
    )
    event_id: tuple[SourceText, ...] = Field(
        ("header:X-Event-Id", "header:Idempotency-Key"),
        description="where the event id is looked for, in order; generated when none has it",
    )
    event_time: SourceText | None = Field(None, description="the event's own time, kept in its receipt")
    identities: tuple[SourceText, ...] = Field((), description="values that name the event in the stores, kept in its receipt")
    durability: Literal["before-send", "before-ack", "off"] = Field("before-ack", description="what an answer waits for")
    ack: Literal["authority", "both", "accepted"] = Field("authority", description="whose success the client is told")
    ordering: Literal["answered", "strict", "none"] = Field("answered", description="order of events of one key")
    copy_order: Literal["parallel", "sequential"] = Field("parallel", description="copy with, or after, the authority's 2xx")
    on_authority_down: Literal["failover", "accept", "fail"] = Field(
        "failover", description="answer from the other side, 202 once durable, or the failure itself"
    )
    carry_over: bool = Field(True, description="in split, keep what new answered for old, for a complete rollback")
    copy_wait: Duration = Field(0.005, description="wait for a copy after the authority's answer before the ledger takes it")
    drain_wait: Duration = Field(1.0, description="wait for a backlog of the event's bucket at its authority to drain")
    trigger: Trigger = Field(Trigger(), description="plain automatic revert")


class Ledger(_Frozen):
    """The durable record."""

    commit_interval: Duration = Field(0.05, description="longest time a record waits for its commit when nobody waits for it")
    segment_size: Size = Field(256 * 2**20, description="a segment file is closed at this size")
    segment_age: Duration = Field(3600.0, description="or at this age")
    retain: Duration = Field(86400.0, description="settled receipts are kept this long; segments are dropped whole")
    retain_bodies: bool = Field(False, description="keep bodies of settled events too, so that `ledger replay` can refeed a backend")
    carry_over_for: Duration = Field(7 * 86400.0, description="deferred events are kept this long, then released")
    reserve: Size = Field(64 * 2**20, description="preallocated file given back to the disk when it is full")
    min_free: Size = Field(64 * 2**20, description="below this much free disk new events get 503")
    replay_concurrency: int = Field(64, ge=1, description="deliveries in flight per backend")
    retry_initial: Duration = Field(0.1, description="first wait after a failed delivery")
    retry_max: Duration = Field(30.0, description="longest wait between deliveries of one key")
    dead_after: int = Field(10, ge=1, description="5xx answers to one event, while others succeed, that make it a dead letter")


class Admin(_Frozen):
    """Where the admin API listens."""

    socket: str | None = Field(None, description="Unix socket; default: admin.sock in the state directory")
    tcp: AddressText | Literal["off"] = Field("127.0.0.1:9900", description="TCP address, or off")
    tls_cert: str | None = Field(None, description="PEM certificate chain; needed when `tcp` is not loopback")
    tls_key: str | None = Field(None, description="PEM private key")
    hosts: tuple[str, ...] = Field((), description="further Host names that are believed, for a reverse proxy")


class Log(_Frozen):
    """Structured logs on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level written")
    format: Literal["json", "text"] = Field("json", description="one JSON object or one plain line per entry")


class Settings(_Frozen):
    """A whole configuration file."""

    version: Literal[1] = Field(description="schema version of this file")
    listen: tuple[AddressText, ...] = Field(("127.0.0.1:8080",), min_length=1, description="addresses for clients")
    workers: int = Field(2, ge=1, le=64, description="data plane processes")
    state_dir: str = Field("crossfade-state", description="ledger, live state and sockets; relative to this file")
    salt: str = Field(min_length=8, description="salt of the key hash; the same on every replica, never changed in a migration")
    backends: dict[str, Backend] = Field(min_length=1, description="named upstreams")
    routes: tuple[Route, ...] = Field(min_length=1, description="first match wins")
    default: str | None = Field(None, description="backend for what no route matches, passed through; without it: 404")
    limits: Limits = Field(Limits())
    ledger: Ledger = Field(Ledger())
    admin: Admin = Field(Admin())
    log: Log = Field(Log())
    stop_grace: Duration = Field(20.0, description="in-flight events may take this long when stopping")
