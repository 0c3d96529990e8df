"""The startup settings: every key a configuration file may have, with its unit, default and meaning.

The JSON Schema, the reference page and the error messages are made from these classes, so the
`description` of a field is what a user reads. All times are seconds and all sizes bytes once loaded.
One long file, as it is one table: whoever looks for a key finds it here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from config.answers import CompareAnswers
from config.consistency import Check
from config.deliver import AS_RECEIVED, Delivering, DeliveryForm
from config.fanout import Consumer, Fanout
from config.frozen import Frozen
from config.gates import Gate
from config.hooks import Hooks
from config.log import Log
from config.messages import MessageRule
from config.notifications import Receiver
from config.patterns import HeaderName, HeaderValue, HostName, Method, Name, PathPattern, PathPrefix
from config.plan import Plan
from config.replies import ReplyRule
from config.sources import Source
from config.tracing import Tracing
from config.units import (
    AddressOrOff,
    AddressText,
    Duration,
    HealthUrl,
    NetworkText,
    Percent,
    Ratio,
    ShortDuration,
    Size,
    SomeBytes,
    SomeShortTime,
    SomeTime,
    SourceText,
    Urls,
    Written,
    parse_backend_url,
)

SCHEMA_VERSION = 1


class Certificate(Frozen):
    """A further certificate of a listener, for the names that it is made out to."""

    cert: str = Field(min_length=1, description="PEM certificate chain", examples=["tls/b.example.crt"])
    key: str = Field(min_length=1, description="its PEM private key, without a passphrase", examples=["tls/b.key"])


class ListenTls(Frozen):
    """TLS 1.2 and 1.3 for clients. Changed files are used within seconds; a broken pair leaves the old one in use."""

    cert: str = Field(
        min_length=1,
        description="PEM certificate chain, for clients that name no server or one that nobody has",
        examples=["tls/a.example.crt"],
    )
    key: str = Field(min_length=1, description="its PEM private key, without a passphrase", examples=["tls/a.key"])
    sni: tuple[Certificate, ...] = Field(
        (),
        description="further certificates, chosen by the server name that the client asks for (SNI)",
        examples=["[{cert: tls/b.example.crt, key: tls/b.key}]"],
    )
    client_ca: str | None = Field(
        None,
        min_length=1,
        description="PEM certificates of the authorities whose client certificates are believed; absent: none is asked",
        examples=["tls/clients-ca.crt"],
    )
    client_certificate: Literal["required", "optional"] = Field(
        "required", description="with `client_ca`: refuse clients without a certificate, or let them in"
    )


class Listen(Frozen):
    """An address for clients. An entry that is only an address is plain HTTP there."""

    address: AddressText = Field(description="where to listen", examples=["0.0.0.0:8443"])
    tls: ListenTls | None = Field(
        None, description="speak TLS there", examples=["{cert: tls/a.example.crt, key: tls/a.key}"]
    )

    def __str__(self) -> str:
        """The address, as it is written when there is nothing else to say."""
        return self.address


def _listen_of(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


def _or_text(schema: dict[str, Any]) -> None:
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


Listening = Annotated[Listen, BeforeValidator(_listen_of), Written("address or listen", str)]


class Limits(Frozen):
    """What a client may send before it is refused."""

    max_event_size: SomeBytes = Field(2**20, description="largest request body, buffered in memory; larger: 413")
    max_decoded_size: SomeBytes = Field(
        8 * 2**20,
        description="of a gzip or deflate body, decoded to read key and id; a longer one counts as having none. Also "
        "of what the templates of `backends.*.deliver` make of a body: a longer one cannot be made",
    )
    max_head_size: SomeBytes = Field(16 * 2**10, description="request line and headers together; larger: 431")
    max_headers: int = Field(100, ge=1, le=1000, description="header lines of a request; more: 431")
    max_target_size: SomeBytes = Field(8 * 2**10, description="request target; larger: 414")
    head_timeout: SomeTime = Field(10.0, description="from the first byte of a head to its end; slower: 408")
    body_timeout: SomeTime = Field(
        30.0,
        description="from the end of a head to the end of its body; slower: 408. "
        "For a body that is passed on in pieces: without a byte of it",
    )
    keepalive_timeout: SomeTime = Field(75.0, description="an idle client connection is closed after this")
    max_connections: int = Field(
        10_000,
        ge=1,
        description="open client connections per worker, as far as the limit of open files and half of the worker's "
        "share of `memory` allow (6 KiB each, 64 KiB over TLS); more: 503, over TLS cut",
    )
    memory: SomeBytes = Field(
        512 * 2**20,
        description="what clients may make the whole instance hold: bodies, events on their way, answers that are not "
        "read; each worker has its share. When it is used up: 503 until a fifth of it is free again; a body that does "
        "not fit: 503. One of more than 4 KiB counts four times while its event is on its way",
    )


class Health(Frozen):
    """Active probe of a backend: GET, any 2xx or 3xx is healthy."""

    path: str = Field("/health", pattern=r"^/\S*$", description="path that the probe asks for")
    interval: SomeTime = Field(1.0, description="from one probe to the next")
    timeout: SomeTime = Field(1.0, description="a slower answer counts as a failure")
    healthy: int = Field(2, ge=1, description="successes in a row until the backend counts as healthy")
    unhealthy: int = Field(3, ge=1, description="failures in a row until it counts as unhealthy")


class Breaker(Frozen):
    """Circuit breaker of a backend, one in each worker."""

    failures: int = Field(5, ge=1, description="failures in a row (connect, timeout, 5xx) that open it")
    reset: SomeTime = Field(2.0, description="open for this long, then one trial event")


def _or_one(schema: dict[str, Any]) -> None:
    alone = {key: schema.pop(key) for key in ("type", "items", "minItems")}
    schema["anyOf"] = [{"type": "string"}, alone]


_REACHED_OR_CONNECTS: dict[str, Any] = {"oneOf": [{"required": ["url"]}, {"required": ["consumer"]}]}


def _or_as_received(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"const": AS_RECEIVED}, {"$ref": schema.pop("$ref")}]


class BackendHeaders(Frozen):
    """Headers that a backend gets differently."""

    set: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict,
        repr=False,
        description="added, in the place of the client's of the same name",
        examples=['{X-Tenant: "7"}'],
    )
    remove: tuple[HeaderName, ...] = Field((), description="of the client's, not sent", examples=["[Cookie]"])


class RewritePrefix(Frozen):
    """Another beginning of the path, by whole segments."""

    prefix: PathPrefix = Field(description="what the path begins with", examples=["/api/v1"])
    to: PathPrefix = Field(description="what is there instead", examples=["/v2"])


class BackendTls(Frozen):
    """TLS with a backend whose `url` begins with https. Changed files are used within seconds."""

    ca: str | None = Field(
        None,
        min_length=1,
        description="PEM certificates of the authorities that are believed; absent: the system's",
        examples=["tls/backends-ca.crt"],
    )
    server_name: HostName | None = Field(
        None,
        description="name that is asked for (SNI) and that its certificate must have; absent: the host of `url`",
        examples=["events.internal"],
    )
    cert: str | None = Field(
        None, min_length=1, description="PEM certificate chain that we show", examples=["tls/crossfade.crt"]
    )
    key: str | None = Field(
        None, min_length=1, description="its PEM private key, without a passphrase", examples=["tls/crossfade.key"]
    )
    insecure: bool = Field(
        False, description="believe any certificate: whoever is in between reads and changes events; warned about"
    )


class Backend(Frozen):
    """A named upstream."""

    model_config = ConfigDict(**Frozen.model_config, json_schema_extra=_REACHED_OR_CONNECTS)

    url: Urls = Field(
        (),
        description="where it listens, http:// or https://, or a list of such endpoints. All addresses of a name are "
        "endpoints; srv+http://NAME takes hosts and ports from SRV records. The least busy one gets the next event",
        examples=[
            "http://127.0.0.1:9001",
            "https://events.internal",
            "[http://10.0.0.1:9001, http://10.0.0.2:9001]",
            "srv+http://_events._tcp.example.internal",
        ],
        json_schema_extra=_or_one,
    )
    consumer: Consumer | None = Field(
        None,
        description="instead of `url`: it connects to the proxy, to a route with `fanout`",
        examples=["{token_file: old-consumer.token}"],
    )
    tls: BackendTls = Field(BackendTls(), description="TLS for an https:// url", examples=["{ca: tls/backends-ca.crt}"])
    resolve_interval: SomeTime = Field(
        5.0, description="its names are looked up again after this, sooner when their records live for less"
    )
    connections: int = Field(
        128,
        ge=1,
        description="open connections per worker and endpoint. Bodies that are passed on in pieces, and answers that "
        "still come after a second, have connections beside these",
    )
    pending: int = Field(
        1024, ge=0, description="events per worker that may wait for a connection; more: 503, or `on_authority_down`"
    )
    connect_timeout: SomeTime = Field(1.0, description="TCP connect and TLS handshake; slower: 502")
    response_timeout: SomeTime = Field(
        10.0,
        description="from sending to the end of the response head; slower: 504. "
        "Also for the rest of an answer that nobody reads",
    )
    body_timeout: SomeTime = Field(
        60.0,
        description="without a byte of an answer's body; longer: cut. For the rest of a request that was answered "
        "before its end at most a minute, or response_timeout if that is longer. "
        "Server-sent events are to have shorter pauses",
    )
    idle_timeout: SomeTime = Field(30.0, description="an unused connection is closed after this")
    health: Health | None = Field(
        None, description="active probe; without it only events tell", examples=["{path: /health}"]
    )
    breaker: Breaker = Field(Breaker(), description="circuit breaker", examples=["{failures: 10}"])
    headers: BackendHeaders = Field(
        BackendHeaders(), description="headers that it gets differently", examples=["{remove: [Cookie]}"]
    )
    rewrite_prefix: RewritePrefix | None = Field(
        None, description="another beginning of the path", examples=["{prefix: /api/v1, to: /v2}"]
    )
    deliver: Delivering = Field(
        DeliveryForm(),
        description="in which form it takes events: as_received, or as requests or messages made of them by templates. "
        "Over another transport than theirs, and in batches, the ledger alone delivers",
        examples=['{http: {path: "/v2/{{/type}}", body: {state: "{{/state}}"}}}', AS_RECEIVED],
        json_schema_extra=_or_as_received,
    )
    authorization: HeaderValue | None = Field(
        None,
        min_length=1,
        repr=False,
        description="Authorization that every request to it carries instead of the client's; added at delivery",
        examples=["Bearer ${NEW_TOKEN}"],
    )
    authorization_file: str | None = Field(
        None,
        min_length=1,
        description="file that holds it, instead of `authorization`; a newline at its end does not count",
        examples=["/run/secrets/new-authorization"],
    )
    dependencies: dict[Name, HealthUrl] = Field(
        default_factory=dict,
        description="health addresses of services behind this backend, asked as often as it is and with the same "
        "patience (`trigger.on_fail.dependency`): http(s)://… or tcp://host:port",
        examples=["{database: tcp://127.0.0.1:5432}"],
    )

    @property
    def where(self) -> str:
        """Its urls, to be read by people."""
        return ", ".join(self.url) or "connects to the proxy"

    def is_by_ledger(self, transport: str) -> bool:
        """Does the ledger alone deliver what came by this transport, `http` or `websocket`?"""
        return self.consumer is not None or self.deliver.is_by_ledger(transport)

    @property
    def is_tls(self) -> bool:
        """Whether it is spoken to over TLS; all its endpoints are, or none."""
        return bool(self.url) and parse_backend_url(self.url[0]).is_tls


class Match(Frozen):
    """What a route takes: every given condition must hold."""

    host: HostName | None = Field(
        None,
        description="Host of the request without port, in any case; any host when absent",
        examples=["events.example.com"],
    )
    path: PathPattern = Field(
        description="exact (/a/b), parameters (/a/{id}) or prefix (/a/*)", examples=["/api/v1/events"]
    )
    methods: tuple[Method, ...] = Field(
        ("POST", "PUT", "PATCH", "DELETE"), min_length=1, description="HTTP methods", examples=["[POST]"]
    )


Metric = Literal[
    "breaker",
    "health",
    "dependency",
    "availability",
    "silence",
    "error-rate",
    "lost",
    "mismatch-rate",
    "probe",
    "slower",
    "lag",
]


class Trigger(Frozen):
    """When the proxy itself moves a route's weight to 0 and latches it."""

    on_fail: dict[Metric, Literal["revert", "step-back", "pause", "alert"]] = Field(
        {},
        description="what comes of it when one of these is not as it should be: the weight goes to 0 and is latched, "
        "as with those that are not named; the rollout goes back by a step, or waits for a person; a person is told. "
        "Without a rollout that can go back `step-back` reverts, and `pause` tells a person",
        examples=["{slower: alert, mismatch-rate: pause}"],
    )

    on_breaker: bool = Field(
        True, description="new's breaker open in any worker, or in the ledger while that delivers nothing"
    )
    on_health: bool = Field(
        True,
        description="new's health probe has failed, and old's has not: several times in a row, or for `downtime`; or "
        "that of something that new depends on",
    )
    downtime: Duration = Field(
        30.0,
        description="how long new's health probe may fail within `downtime_window` while old's does not, all told, be "
        "each time too short for `unhealthy`, which is also how many must fail; half of that is no `pass`. 0s: never "
        "looked at",
    )
    downtime_window: SomeTime = Field(300.0, description="sliding window of the downtime")
    silence: Duration = Field(
        10.0,
        description="how long new may answer nothing at all while 3 of its events or more wait for an answer; where "
        "old is silent as well, nothing is reverted. To be longer than one answer may take. Of what workers send: what "
        "the ledger delivers (`ack: accepted`) is left to its breaker and to the lag. 0s: never looked at",
    )
    error_rate: Ratio = Field(
        0.01,
        description="share of failed events at new that is still as it should be: a sequential test says when it is "
        "exceeded, the sooner the more it is (all fail: 4 events; 5 %: some 370), from 3 failures on. 100%: never",
    )
    error_hold: Ratio = Field(
        0.001,
        description="share of failed events at new since the weight was changed, above which the verdict is no `pass`",
    )
    slower: Ratio = Field(
        0.2,
        description="by how much new's p50 or p95 may be above old's at the same time; half of that is an alert. 0%: "
        "never looked at",
    )
    slower_by: ShortDuration = Field(0.01, description="by how much they may be above old's in any case")
    lag_age: Duration = Field(
        60.0,
        description="how long an event may wait in the ledger for new. While new's breaker is closed and one waits for "
        "longer, or new takes less than 80 % of what it is owed, the verdict is no `pass`. 0s: never looked at",
    )
    lag_window: SomeTime = Field(60.0, description="time over which what new takes is held against what it is owed")
    lag_revert: Duration = Field(
        300.0,
        description="how long that must last, and what waits not get less, until the route is reverted; where old is "
        "behind as well, or some keys alone are, nothing is",
    )
    lost: int = Field(
        1,
        ge=0,
        description="events that new acknowledged and that only old's store has, as the consistency checker confirmed "
        "since the weight was changed last; 0: never for this",
    )
    mismatch_rate: Ratio = Field(
        0.001,
        description="share of settled events that the consistency checker may hold against new: a sequential test as "
        "for `error_rate` says when it is exceeded. 100%: never",
    )
    mismatch_samples: int = Field(
        100, ge=1, description="settled events since the weight was changed before that share is judged"
    )
    mismatch_hold: Ratio = Field(
        0.0005,
        description="share of mismatches in what was settled since the weight was changed, above which the verdict is "
        "no `pass`",
    )
    probe_failures: int = Field(
        3,
        ge=0,
        description="probes in a row that old's store showed and new's did not, or not in time; 0: never for this",
    )


class Pins(Frozen):
    """Keys whose authority does not follow the weight."""

    old: tuple[str, ...] = Field((), description="keys that old always answers", examples=["[sensor.boiler]"])
    new: tuple[str, ...] = Field(
        (), description="keys that new answers at every weight, unless latched", examples=["[sensor.test]"]
    )


class WebSocket(Frozen):
    """A route of WebSocket sessions. Each message of a client is an event of its own."""

    unit: Literal["message", "connection"] = Field(
        "message", description="what the weight chooses a side for; copies are of each message either way"
    )
    receipt: Literal["pong", "reply", "none"] = Field(
        "pong",
        description="when a backend has a message: with the Pong to a Ping behind it, with its reply (see `reply`), or "
        "once it is written. A Pong says that it was received, not that it was processed",
    )
    reply: ReplyRule | None = Field(
        None, description="needed with `receipt: reply`", examples=["{message_id: /id, reply_id: /id}"]
    )
    redeliver_window: Duration = Field(
        5.0, description="messages that a backend had for less than this when its connection was lost are sent again"
    )
    broadcast_first: int = Field(
        0, ge=0, le=100, description="so many first messages of a session are for both sides, and no events"
    )
    broadcast: tuple[MessageRule, ...] = Field(
        (),
        description="further messages that are for both sides, and no events: kept, and sent again first on every new "
        "connection to a backend",
        examples=["[{pointer: /type, equals: subscribe}]"],
    )
    origins: tuple[str, ...] = Field(
        (),
        description="Origin headers that are let in, with scheme and port, as browsers send them; others: 403. "
        "Empty: any",
        examples=['["https://app.example.com"]'],
    )
    max_fragments: int = Field(1024, ge=1, le=65536, description="frames of a message; more: closed with 1009")
    ping_interval: SomeTime = Field(
        20.0,
        description="clients and backends of which nothing came for this long are asked; no answer as long: lost. "
        "Who answers is never idle: a session without messages goes on",
    )


Stage = Literal["off", "shadow", "dualwrite", "live", "split", "rampdown", "complete"]


class Route(Frozen):
    """A match and the policy for what it matches."""

    name: Name = Field(description="its name in commands, metrics and the ledger; unique", examples=["events"])
    match: Match = Field(description="what it takes", examples=["{path: /api/v1/events, methods: [POST]}"])
    old: Name = Field("old", description="name of the old backend")
    new: Name = Field("new", description="name of the new backend")
    stage: Stage = Field(
        "off", description="both dials when there is no live state yet; later changes are made with proxyctl"
    )
    weight: Percent | None = Field(
        None, description="weight 0-100 of the stages live and split at the first start", examples=["25"]
    )
    pins: Pins = Field(Pins(), description="keys that do not follow the weight", examples=["{new: [sensor.test]}"])
    override: SourceText | None = Field(
        None,
        description="header, cookie or query parameter by which a tester says `old` or `new`: that side answers, "
        "nothing is owed to the other. Any client can send it",
        examples=["header:X-Side"],
    )
    preview_host: HostName | None = Field(
        None, description="requests to this Host reach new alone, at every weight", examples=["new.example.com"]
    )
    backend_header: HeaderName | None = Field(
        None, description="response header that names the backend that answered", examples=["X-Backend"]
    )
    key: SourceText = Field("client", description="what events are sticky and ordered by", examples=["json:/entity_id"])
    key_missing: Literal["event-id", "reject", "old"] = Field(
        "event-id",
        description="without a key: use the event id, refuse with 400, or send to old alone; of a WebSocket message: "
        "use the session, close it with 1008, or send to old alone",
    )
    event_id: tuple[SourceText, ...] = Field(
        ("header:X-Event-Id", "header:Idempotency-Key"),
        description="where the event id is looked for, in order; generated when none has it",
        examples=["[header:X-Event-Id, json:/context/id]"],
    )
    dedupe: Duration = Field(
        0.0,
        description="an event with an id from its client that was accepted within this time, by any worker for this "
        "route, is answered as the first was, with X-Crossfade-Duplicate, and goes nowhere; one that comes meanwhile "
        "waits. Another body, target or method under the same id: 422. After a failed or refused first the next one "
        "goes. Events that `override` or `preview_host` forces to a side are outside of it. 0s: off, for each such "
        "event waits for the ledger's word, and after its start until it has read the ids again, about 150,000 "
        "in a second. What a worker and the ledger had not on disk when they died together (`ledger.commit_interval`) "
        "may be let through again. An id must be of one event alone: others under it are refused",
        examples=["5m"],
    )
    dedupe_ids: int = Field(
        250_000,
        ge=1,
        le=10_000_000,
        description="ids that `dedupe` remembers, 150 to 250 bytes each in the ledger's memory; with more the oldest "
        "go early, counted as ledger_dedupe_ids_dropped",
        examples=["1000000"],
    )
    event_time: SourceText | None = Field(
        None, description="the event's own time, kept in its receipt", examples=["json:/time_fired"]
    )
    identities: tuple[SourceText, ...] = Field(
        (),
        description="values that name the event in the stores, kept in its receipt",
        examples=["[json:/entity_id, json:/time_fired]"],
    )
    durability: Literal["before-send", "before-ack", "off"] = Field(
        "before-ack", description="what is on disk before an event is sent or answered; off: copies are best effort"
    )
    ack: Literal["authority", "both", "accepted"] = Field("authority", description="whose success the client is told")
    ordering: Literal["answered", "strict", "none"] = Field("answered", description="order of events of one key")
    copy_order: Literal["parallel", "sequential"] = Field(
        "parallel", description="copy with, or after, the authority's 2xx"
    )
    on_authority_down: Literal["failover", "accept", "fail"] = Field(
        "failover",
        description="answer from the other side, 202 once durable, or the failure itself: under `fail` the client was "
        "told no, so the failed side is settled as discarded and not tried again",
    )
    accepted_status: Literal[200, 201, 202, 204] = Field(
        202,
        description="what a client hears when its event is durable and nobody has answered it yet; "
        "204 for writers that take nothing else for success, as those of InfluxDB 1.x",
    )
    carry_over: bool = Field(True, description="in split, keep what new answered for old, for a complete rollback")
    stream: bool = Field(
        False,
        description="pass bodies longer than `max_event_size`, and chunked ones that still come after a second, to the "
        "authority as they come, where they are refused otherwise (413, 408). They are no events: no record, no copy, "
        "no second try, no `dedupe`, and no waiting for a backlog; counted. Their key cannot come from the body",
    )
    websocket: WebSocket | None = Field(
        None,
        description="take WebSocket sessions instead of requests: GET with Upgrade, whatever `match.methods` says. "
        "`event_id` is then looked for in the messages alone, and what a key cannot be read from has its session's",
        examples=["{}", "{redeliver_window: 10s}"],
    )
    fanout: Fanout | None = Field(
        None,
        description="old and new are consumers that connect to its path, and both are fed; its events are posted there",
        examples=["{}", "{ha_version: 2024.3.3}"],
    )
    copy_wait: ShortDuration = Field(
        0.005, description="wait for a copy after the authority's answer before the ledger takes it"
    )
    drain_wait: Duration = Field(
        1.0,
        description="wait for a backlog of the event's bucket at its authority to drain; in a WebSocket session where "
        "it would end else, or a reply be missed, and for the first handshake with a side that had no part before",
    )
    trigger: Trigger = Field(Trigger(), description="automatic revert", examples=["{error_rate: 1%}"])
    rollout: Plan | None = Field(
        None,
        description="the plan of `proxyctl rollout start` where none is given with it; the usual steps without it",
        examples=["{hold: 10m, gates: [smoke-test], steps: [{weight: 10}, {weight: 100}]}"],
    )
    load_events: Literal["count", "leave-out"] = Field(
        "count",
        description="events that `proxyctl load` marks with X-Crossfade-Load: leave-out keeps them, proxied and "
        "recorded as all others, out of the request figures, the observed weight, the trigger's error rate and the "
        "workers' breakers. What the ledger delivers of them later counts there as all else does, and `accepted` "
        "counts them, as they are in the record",
    )

    compare_answers: CompareAnswers | None = Field(
        None,
        description="what both sides answer to the same event, compared on a sample; without it so in a route whose "
        "`stage` is shadow, with these defaults",
        examples=["{when: always, sample: 1%}"],
    )

    @property
    def answers(self) -> CompareAnswers | None:
        """How answers are compared; None where they are not."""
        if self.websocket is not None or self.fanout is not None:
            return None
        return self.compare_answers or (CompareAnswers() if self.stage == "shadow" else None)

    @property
    def taken(self) -> Match:
        """What it takes: `match`, with the method that its kind implies."""
        if self.websocket is not None:
            return self.match.model_copy(update={"methods": ("GET",)})
        if self.fanout is not None:
            return self.match.model_copy(update={"methods": ("GET", *self.match.methods)})
        return self.match


class Ledger(Frozen):
    """The durable record."""

    commit_interval: SomeShortTime = Field(
        0.05, description="longest time a record waits for its commit when nobody waits for it"
    )
    segment_size: SomeBytes = Field(256 * 2**20, description="a segment file is closed at this size")
    segment_age: SomeTime = Field(3600.0, description="a segment file is closed at this age, too")
    retain: Duration = Field(86400.0, description="settled receipts are kept this long; segments are dropped whole")
    retain_bodies: bool = Field(
        False,
        description="keep bodies of settled events for `retain` too, so that `ledger replay` can refeed a backend",
    )
    carry_over_for: Duration = Field(7 * 86400.0, description="deferred events are kept this long, then released")
    reserve: Size = Field(64 * 2**20, description="preallocated file given back to the disk when it is full")
    min_free: Size = Field(64 * 2**20, description="below this much free disk new events get 503")
    replay_concurrency: int = Field(64, ge=1, description="deliveries in flight per backend")
    retry_initial: SomeShortTime = Field(0.1, description="first wait after a failed delivery")
    retry_max: SomeTime = Field(30.0, description="longest wait between deliveries of one key")
    dead_after: int = Field(
        10,
        ge=1,
        description="failures of one event by itself, as 5xx answers, while others succeed, that make it a dead letter",
    )


class Admin(Frozen):
    """Where the admin API listens."""

    socket: str | None = Field(
        None,
        min_length=1,
        description="Unix socket; default: admin.sock in the state directory",
        examples=["/run/crossfade/admin.sock"],
    )
    tcp: AddressOrOff = Field("127.0.0.1:9900", description="TCP address, or off")
    tls_cert: str | None = Field(
        None,
        min_length=1,
        description="PEM certificate chain; needed when `tcp` is not loopback",
        examples=["tls/admin.crt"],
    )
    tls_key: str | None = Field(None, min_length=1, description="PEM private key", examples=["tls/admin.key"])
    hosts: tuple[HostName, ...] = Field(
        (), description="further Host names that are believed, for a reverse proxy", examples=["[ops.example.com]"]
    )


class Drain(Frozen):
    """How an instance ends on SIGTERM or `proxyctl drain`; Ctrl-C goes without `accept_for`."""

    accept_for: Duration = Field(
        0.0,
        description="after readiness is withdrawn new connections are still taken for this long, until whoever sends "
        "them has heard of it (in Kubernetes some 10 s); each answer meanwhile closes its connection",
        examples=["10s"],
    )
    close_over: Duration = Field(
        0.0,
        description="after that, WebSocket sessions are told to go away (1001) spread over this time, so that not all "
        "of them connect elsewhere at once; within `stop_grace`",
        examples=["5s"],
    )


class Settings(Frozen):
    """A whole configuration file. Relative paths are relative to the file; once loaded they are absolute."""

    version: Literal[1] = Field(description="schema version of this file", examples=["1"])
    listen: tuple[Listening, ...] = Field(
        (Listen(address="127.0.0.1:8080"),),
        min_length=1,
        description="addresses for clients",
        examples=[
            '["127.0.0.1:8080", "[::1]:8080"]',
            '[{address: "0.0.0.0:8443", tls: {cert: tls/a.example.crt, key: tls/a.key}}]',
        ],
        json_schema_extra=_or_text,
    )
    trusted_proxies: tuple[NetworkText, ...] = Field(
        (),
        description="networks of hops before us that are believed: X-Forwarded-* and Forwarded of others are dropped",
        examples=['["10.0.0.0/8", "::1"]'],
    )
    workers: int = Field(2, ge=1, le=64, description="data plane processes")
    state_dir: str = Field(
        "crossfade-state", min_length=1, description="ledger, live state and sockets; relative to this file"
    )
    salt: str = Field(
        min_length=8,
        max_length=4096,
        repr=False,
        description="salt of the key hash, or `salt_file`; the same on every replica, never changed in a migration",
        examples=["${CROSSFADE_SALT}"],
    )
    salt_file: str | None = Field(
        None,
        min_length=1,
        description="file that holds the salt, instead of `salt`; a newline at its end does not count",
        examples=["/run/secrets/crossfade-salt"],
    )
    backends: dict[Name, Backend] = Field(
        min_length=1, description="named upstreams", examples=['{old: {url: "http://127.0.0.1:9001"}}']
    )
    routes: tuple[Route, ...] = Field(
        min_length=1, description="first match wins", examples=["[{name: events, match: {path: /api/v1/events}}]"]
    )
    default: Name | None = Field(
        None, description="backend for what no route matches, passed through; without it: 404", examples=["old"]
    )
    resolver: tuple[AddressText, ...] = Field(
        (),
        description="DNS servers to ask for backends' names; without it they are looked up as the system does",
        examples=['["10.0.0.2:53"]'],
    )
    limits: Limits = Field(
        Limits(), description="what a client may send before it is refused", examples=["{max_event_size: 256KiB}"]
    )
    ledger: Ledger = Field(Ledger(), description="the durable record", examples=["{retain: 7d}"])
    consistency: tuple[Check, ...] = Field(
        (),
        description="where both sides of routes keep their events, for `proxyctl verify`",
        examples=[
            (
                "[{routes: [events], old: {influxdb1: {url: 'http://127.0.0.1:8086', database: home}}, "
                "new: {influxdb1: {url: 'http://127.0.0.1:8087', database: home}}}]"
            )
        ],
    )
    gates: tuple[Gate, ...] = Field(
        (),
        description="what plans of rollouts may ask before a step, or before they go on",
        examples=["[{name: smoke-test, command: [./smoke.sh], on_fail: pause}]"],
    )
    admin: Admin = Field(Admin(), description="where the admin API listens", examples=["{tcp: off}"])
    hooks: Hooks = Field(
        Hooks(), description="what may pause or revert a route from outside", examples=["{webhook: {}}"]
    )
    sources: tuple[Source, ...] = Field(
        (),
        description="servers that are subscribed to, and whose events become events of a route",
        examples=[
            (
                "[{name: home, route: events, home_assistant: {url: 'ws://127.0.0.1:8123/api/websocket', "
                "token_file: home-assistant.token}}]"
            )
        ],
    )
    notifications: tuple[Receiver, ...] = Field(
        (), description="who is told of every change", examples=["[{name: chat, url: 'http://127.0.0.1:9095/hook'}]"]
    )
    instance: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="what this instance is called in notifications; the host's name when absent",
        examples=["edge-1"],
    )
    log: Log = Field(Log(), description="structured logs on stderr", examples=["{level: debug, format: text}"])
    reload: Literal["signal", "watch"] = Field(
        "signal",
        description="when this file is read again: on SIGHUP and `proxyctl reload`, or also once it has changed and a "
        "second has passed without another change",
    )
    drain: Drain = Field(Drain(), description="how it ends", examples=["{accept_for: 10s}"])
    tracing: Tracing | None = Field(
        None,
        description="traces of events, for a collector of OpenTelemetry; without it a client's `traceparent` and "
        "`tracestate` are forwarded as they came",
        examples=["{url: 'http://127.0.0.1:4318/v1/traces', sample: 1%}"],
    )
    stop_grace: Duration = Field(20.0, description="in-flight events may take this long when stopping")
    drain_timeout: Duration = Field(
        60.0, description="connections that cannot be handed to a new worker may take this long to end"
    )
    upgrade_timeout: SomeTime = Field(
        30.0, description="a process that takes another one's place must serve within this; else that one goes on"
    )

    @property
    def needs_checker(self) -> bool:
        """Whether there is anything to compare while events come in."""
        return any(each.is_live for each in self.consistency) or any(route.answers is not None for route in self.routes)
