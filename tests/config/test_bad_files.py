"""Bad files: every error is found at once, at its very line and column, with what was probably meant."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.config.cases import BACKENDS, BASE, HEAD, ROUTES, errors, marked, old, route, top


class Case(NamedTuple):
    """A bad file with a `§` before each error; says: a part of each message, and the suggestion or empty."""

    name: str
    text: str
    says: tuple[tuple[str, str], ...]


def case(name: str, text: str, *says: str | tuple[str, str]) -> Case:
    return Case(name, text, tuple((part, "") if isinstance(part, str) else part for part in says))


KEYS = (
    case("unknown top key", top("§lisen: [a]"), ("unknown key 'lisen'", "listen")),
    case("unknown far key", top("log: {§colour: red}"), "unknown key 'colour'; known here: level, format"),
    case("unknown route key", route("§wieght: 5"), ("unknown key 'wieght'", "weight")),
    case("unknown key in another case", route("§Stage: off"), ("unknown key 'Stage'", "stage")),
    case("unknown backend key", old('url: "http://h:1", §conections: 3'), ("unknown key 'conections'", "connections")),
    case("unknown health key", old('url: "http://h:1", health: {§pth: /}'), ("unknown key 'pth'", "path")),
    case("unknown match key", BASE.replace("{path", "{§method: [GET], path"), ("unknown key 'method'", "methods")),
    case("unknown trigger key", route("trigger: {§eror_rate: 5%}"), ("unknown key 'eror_rate'", "error_rate")),
    case("missing version", "§" + BASE.removeprefix("version: 1\n"), "missing key 'version': schema version"),
    case("missing salt", "§" + BASE.replace("salt: a-salt-of-the-tests\n", ""), "missing key 'salt' (or 'salt_file')"),
    case("missing backends", "§" + HEAD + ROUTES, "missing key 'backends'"),
    case("missing routes", "§" + HEAD + BACKENDS, "missing key 'routes'"),
    case("missing url", old("§connections: 3").replace("{§", "§{"), "missing key 'url': where it listens"),
    case("missing name", BASE.replace("name: events\n    ", "§"), "missing key 'name'"),
    case(
        "missing match",
        BASE.replace("name: events\n    match: {path: /events}", "§name: events"),
        "missing key 'match'",
    ),
    case("missing path", BASE.replace("{path: /events}", "§{host: h}"), "missing key 'path'"),
    case("repeated key", top("workers: 1\n§workers: 2"), "key 'workers' is given twice; first in line 9"),
    case(
        "repeated backend", BASE.replace("  new:", "  §old:"), "key 'old' is given twice; first in line 4", "no backend"
    ),
    case("number as key", top("§5: a"), "a key must be a string: '5'"),
    case("mapping as key", top("§? {a: b}\n: c").replace("§? ", "? §"), "a key must be a string"),
    case("merge key", top("log: {§<<: {level: info}}"), "merge keys are not read here"),
)

VALUES = (
    case(
        "salt as number", BASE.replace("a-salt-of-the-tests", "§12345678"), "expected a string, not what is given: put"
    ),
    case("short salt", BASE.replace("a-salt-of-the-tests", "§short"), "must have at least 8 characters, not 5"),
    case(
        "version of the future", BASE.replace("version: 1", "version: §2"), "reads files of version 1, not the number 2"
    ),
    case("version as string", BASE.replace("version: 1", "version: §'1'"), "reads files of version 1, not '1'"),
    case("no address", top("listen: §[]"), "at least one is needed"),
    case(
        "address outside a list",
        top("listen: §127.0.0.1:80"),
        ("expected a list, not '127.0.0.1:80'", "[127.0.0.1:80]"),
    ),
    case("bare port", top('listen: [§":8080"]'), ("expected an address", "127.0.0.1:8080")),
    case("port too large", top("listen: [§127.0.0.1:65536]"), "expected an address"),
    case("bad IPv6", top('listen: [§"[::x]:80"]'), "expected an address"),
    case("second address wrong", top('listen: ["a:1", §b]'), "expected an address"),
    case("no workers", top("workers: §0"), "must be at least 1, not the number 0"),
    case("too many workers", top("workers: §65"), "must be at most 64, not the number 65"),
    case("half a worker", top("workers: §1.5"), "expected a whole number, not the number 1.5"),
    case("workers as string", top("workers: §'2'"), "expected a whole number, not '2'"),
    case("workers as boolean", top("workers: §true"), "expected a whole number, not true"),
    case(
        "sessions that outlast the stop",
        top("drain: {close_over: §1m}"),
        ("1m is longer than stop_grace (20s), which ends everything", "20s"),
    ),
    case("duration without unit", top("stop_grace: §5"), ("expected a duration with a unit, not 5", "5s")),
    case("duration in another unit", top("stop_grace: §5 minutes"), "expected a duration such as"),
    case("duration below nothing", top("stop_grace: §-5s"), "expected a duration such as"),
    case("duration beyond sense", top("stop_grace: §4000d"), "at most 3650d"),
    case("no duration where some is needed", top("limits: {head_timeout: §0s}"), "must be more than 0"),
    case("size without unit", top("limits: {max_event_size: §1000}"), ("expected a size with a unit", "1000B")),
    case("size in another case", top("limits: {max_event_size: §1mib}"), "expected a size such as"),
    case("no size where some is needed", top("ledger: {segment_size: §0B}"), "must be more than 0"),
    case("share as percent number", route("trigger: {error_rate: §5}"), ("between 0% and 100%", "5%")),
    case("share in words", route("trigger: {error_rate: §low}"), "expected a share such as 1% or 0.01"),
    case(
        "downtime beyond its window",
        route("trigger: {downtime: §10m}"),
        "downtime: 10m is longer than downtime_window: 5m, so it is never reached",
    ),
    case(
        "downtime of a backend without a probe",
        route("trigger: {§downtime: 20s}"),
        "is never reached: backend new has no `health`",
    ),
    case("window below its downtime", route("trigger: {downtime_window: §20s}"), "downtime: 30s is longer than"),
    case("silence without a unit", route("trigger: {silence: §10}"), ("expected a duration", "10s")),
    case("share as boolean", route("trigger: {error_rate: §true}"), "expected a share"),
    case("backend of another kind", old("url: §ftp://h:1"), "ftp is not spoken with a backend"),
    case("TLS for a plain url", old("url: 'http://h:1', §tls: {ca: a}"), ("begins with https://", "https://h:1")),
    case("endpoints of both kinds", old("url: ['http://h:1', §'https://h:1']"), "make it two"),
    case("an endpoint twice", old("url: ['http://h:1', §'http://h:1']"), "is listed already"),
    case("no endpoint", old("url: §[]"), "at least one is needed"),
    case("SRV with a port", old("url: §srv+http://_a._tcp.h:1"), "leave out :1"),
    case("half of a pair", old("url: 'https://h:1', tls: {cert: §a}"), "cert needs key beside it"),
    case("other half of a pair", old("url: 'https://h:1', tls: {key: §a}"), "key needs cert beside it"),
    case("authorities for nothing", old("url: 'https://h', tls: {ca: a, insecure: §true}"), "makes `ca` mean nothing"),
    case("url without scheme", old("url: §h:1"), ("expected http://host:port", "http://h:1")),
    case("url with path", old("url: §http://h:1/api"), ("without a path", "http://h:1")),
    case("url with port 0", old("url: §http://h:0"), "a number from 1 to 65535"),
    case(
        "bad dependency",
        old("url: http://h:1, dependencies: {db: §postgres://db}"),
        "expected http://host:port/path, https",
    ),
    case(
        "dependency without port",
        old("url: http://h:1, dependencies: {db: §tcp://db}"),
        "expected http://host:port/path",
    ),
    case("name of a dependency", old("url: http://h:1, dependencies: {§My DB: tcp://db:1}"), ("a name is", "my-db")),
    case(
        "name of a backend", BASE.replace("new:", "§New:"), ("a name is", "new"), ("there is no backend 'new'", "New")
    ),
    case("name of a route", BASE.replace("name: events", "name: §my events"), ("a name is", "my-events")),
    case("path without slash", BASE.replace("/events", "§events"), ("a path starts with '/'", "/events")),
    case("path with query", BASE.replace("/events", "§'/events?a=1'"), ("without its query", "/events")),
    case("path with star inside", BASE.replace("/events", "§/a/*/b"), "'*' can only be the last segment"),
    case(
        "path with half a parameter",
        BASE.replace("{path: /events}", '{path: §"/a/x{id}"}'),
        "a whole segment such as {id}",
    ),
    case("parameter twice", BASE.replace("{path: /events}", '{path: §"/{a}/{a}"}'), "a parameter occurs twice"),
    case("path with space", BASE.replace("/events", "§/a b"), "must be percent-encoded"),
    case("method in small letters", BASE.replace("/events}", "/e, methods: [§post]}"), ("in capitals", "POST")),
    case("method CONNECT", BASE.replace("/events}", "/e, methods: [§CONNECT]}"), "expected an HTTP method"),
    case("no method", BASE.replace("/events}", "/e, methods: §[]}"), "at least one is needed"),
    case("host with port", BASE.replace("/events}", '/e, host: §"h:80"}'), ("without its port", "h")),
    case("host with star", BASE.replace("/events}", '/e, host: §"*.h"}'), "expected a host name"),
    case("stage unknown", route("stage: §dual-write"), ("expected one of off, shadow, dualwrite", "dualwrite")),
    case("stage as boolean", route("stage: §false"), "expected one of off, shadow, dualwrite"),
    case("source unknown", route("key: §jsn:/a"), ("expected json:/pointer", "json:/a")),
    case("source without slash", route("key: §json:a"), ("a JSON pointer starts with '/'", "json:/a")),
    case("source with bad escape", route("key: §json:/a~b"), "'~' is written ~0"),
    case("source with bad header", route("event_id: [header:X-Id, §'header:X Id']"), "cannot be the name of a header"),
    case("source with too much", route("key: §client:ip"), ("expected json:/pointer", "client")),
    case("weight below 0", route("weight: §-1"), "must be at least 0, not the number -1"),
    case("weight above 100", route("weight: §101\n    stage: live"), "must be at most 100, not the number 101"),
    case("weight in words", route("weight: §abc\n    stage: live"), "expected a number, not 'abc'"),
    case("weight is no number", route("weight: §.nan\n    stage: live"), "expected a number, not the number nan"),
    case("weight too fine", route("weight: §12.345\n    stage: live"), ("at most two decimals", "12.35")),
    case("yes as boolean", route("carry_over: §yes"), ("expected true or false, not 'yes'", "true")),
    case("off as boolean", route("carry_over: §off"), ("expected true or false, not 'off'", "false")),
    case("list as mapping", top("limits: §[]"), "expected a mapping, not a list"),
    case("empty section", top("limits:§"), "expected a mapping, not nothing; leave the key out"),
    case("empty tls path", top("admin: {tls_cert: §''}"), "must not be empty"),
    case("admin address", top("admin: {tcp: §9900}"), "expected a string, not the number 9900"),
    case("admin on", top("admin: {tcp: §on}"), "expected an address"),
    case("backends as list", BASE.replace(BACKENDS, "backends: §[a]\n"), "expected a mapping, not a list"),
    case("route as word", HEAD + BACKENDS + "routes: [§events]\n", "expected a mapping, not 'events'"),
)

TOGETHER = (
    case("old unknown", route("old: §olld"), ("there is no backend 'olld'; there is old, new", "old")),
    case("new unknown", route("new: §nwe"), ("there is no backend 'nwe'", "new")),
    case("both sides alike", route("new: §old"), "old and new are the same backend 'old'"),
    case("default unknown", top("default: §odl"), ("there is no backend 'odl'", "old")),
    case("route names", top("  - {name: §events, match: {path: /b}}"), "route 1 is called 'events' already"),
    case("live without weight", route("stage: §live"), "stage live needs a weight: add"),
    case("split without weight", route("stage: §split"), "stage split needs a weight: add"),
    case("live at 0", route("stage: live\n    weight: §0"), ("stage live needs a weight above 0", "dualwrite")),
    case("split at 100", route("stage: split\n    weight: §100"), "needs a weight below 100"),
    case("dualwrite with weight", route("stage: dualwrite\n    weight: §5"), "stage dualwrite has weight 0"),
    case("complete with weight", route("stage: complete\n    weight: §5"), "stage complete has weight 100"),
    case("weight without stage", route("weight: §5"), "stage off has weight 0; only live and split take one"),
    case("key without parameter", route("key: §path:id"), "match.path has no parameter {id}; it is '/events'"),
    case(
        "key near a parameter", route("key: §path:ids", "'/a/{id}'"), ("match.path has no parameter {ids}", "path:id")
    ),
    case("event id of the client", route("event_id: [header:X, §client]"), "the client's address is no event_id"),
    case("host bits in a network", top("trusted_proxies: [§10.0.0.1/8]"), ("expected a network", "10.0.0.0/8")),
    case("no network", top("trusted_proxies: [§everybody]"), "expected a network"),
    case("override in the body", route("override: §json:/side"), "a tester sets a header, cookie or query parameter"),
    case("pinned twice", route("pins: {old: [a, b], new: [c, §b]}"), "'b' is pinned to old, too"),
    case("framing as backend header", route("backend_header: §Content-Length"), "is the proxy's own"),
    case("role as header", old('url: "http://h:1", headers: {set: {§X-Crossfade-Role: a}}'), "is the proxy's own"),
    case(
        "line end in a header",
        old('url: "http://h:1", headers: {set: {X-A: §"a\\nb"}}'),
        "a header's value is printable",
    ),
    case(
        "prefix without a slash", old('url: "http://h:1", rewrite_prefix: {prefix: §api, to: /}'), ("beginning", "/api")
    ),
    case(
        "no authorization file",
        old('url: "http://h:1", authorization_file: §/nowhere/x'),
        "cannot read the authorization",
    ),
    case(
        "authorization twice",
        old('url: "http://h:1", authorization: a, §authorization_file: x'),
        "both authorization and authorization_file",
    ),
    case("no header name", route("backend_header: §'X Y'"), "a header's name is a token"),
    case("no part of the line protocol", route("key: §line:serie"), ("expected line:series", "line:series")),
    case("tag without a name", route("key: §line:tag."), ("expected line:series", "line:tag.NAME")),
    case("identity without parameter", route("identities: [§path:a]"), "match.path has no parameter {a}"),
    case("event time of the client", route("event_time: §client"), "the client's address is no event_time"),
    case(
        "accepted but not durable",
        route("ack: §accepted\n    durability: off"),
        ("ack: accepted promises", "authority"),
    ),
    case("dedupe without ids", route("dedupe: §5m\n    event_id: []"), ("event_id is empty", "0s")),
    case("ids of no window", route("§dedupe_ids: 1000"), "means nothing without `dedupe`"),
    case("sessions that take turns", route("websocket: {}\n    §ordering: strict"), "takes no ordering: strict"),
    case("sessions without a word", route("§websocket:"), "nothing stands behind it; {} takes sessions"),
    case("sessions that answer both", route("websocket: {}\n    §ack: both"), "takes no ack: both"),
    case("sessions with a window", route("websocket: {}\n    §dedupe: 5m"), "takes no dedupe: 300"),
    case(
        "an id of the handshake",
        route("websocket: {}\n    event_id: [json:/id, §header:X-Id]"),
        "all messages of a session would share it",
    ),
    case("a receipt that is none", route("websocket: {receipt: §ack}"), "one of pong, reply, none"),
    case("a reply without a rule", route("websocket: {receipt: §reply}"), "reply is missing"),
    case(
        "a rule for replies that nobody looks at",
        route("websocket: {reply: §{message_id: /id, reply_id: /id}}"),
        "with receipt: pong no reply is looked for",
    ),
    case("half a rule for replies", route("websocket: {receipt: reply, reply: §{message_id: /id}}"), "reply_id"),
    case(
        "no pointer for replies",
        route("websocket: {receipt: reply, reply: {message_id: §id, reply_id: /id}}"),
        "should match pattern",
    ),
    case("dedupe longer than the record", route("dedupe: §2d"), "longer than ledger.retain"),
    case("address twice", top("listen: ['127.0.0.1:80', §'127.0.0.1:80']"), "is taken already, by listen 127.0.0.1:80"),
    case(
        "address within any", top("listen: ['0.0.0.0:80', §'127.0.0.1:80']"), "is taken already, by listen 0.0.0.0:80"
    ),
    case(
        "admin on the clients' address", top("admin: {tcp: §127.0.0.1:8080}"), "taken already, by listen 127.0.0.1:8080"
    ),
    case("proxy as its own backend", old("url: §http://localhost:8080"), "this is the proxy's own address, listen"),
    case("admin as a backend", old("url: §http://127.0.0.1:9900"), "this is the proxy's own address, admin.tcp"),
    case("open admin", top("admin: {tcp: §0.0.0.0:9900}"), ("needs tls_cert and tls_key", "127.0.0.1:9900")),
    case("listener without an address", top("listen: [§{tls: {cert: a, key: b}}]"), "missing key 'address'"),
    case("listener that is a number", top("listen: [§8080]"), "expected a mapping, not the number 8080"),
    case("listener without a key", top("listen: [{address: ':1', tls: §{cert: a}}]").replace("':1'", "'h:1'"), "'key'"),
    case(
        "asking for certificates of nobody",
        top("listen: [{address: 'h:1', tls: {cert: a, key: b, client_certificate: §optional}}]"),
        "needs client_ca beside it",
    ),
    case("half of TLS", top("admin: {tls_cert: §a.pem}"), "tls_cert needs tls_key beside it"),
    case("other half of TLS", top("admin: {tls_key: §a.pem}"), "tls_key needs tls_cert beside it"),
    case("target above head", top("limits: {max_target_size: §17KiB}"), "larger than max_head_size"),
    case("event above memory", top("limits: {max_event_size: §65MiB}"), ("must be at most 64MiB", "64MiB")),
    case(
        "memory for less than one event",
        top("limits: {memory: §15MiB}"),
        ("too little: each of 2 workers must be able to hold max_event_size 8 times", "16MiB"),
    ),
    case("event above segment", top("ledger: {segment_size: §1KiB}"), "smaller than limits.max_event_size"),
    case("retry waits", top("ledger: {retry_initial: §1m}"), "longer than retry_max"),
    case("bodies of nothing", top("ledger: {retain: 0s, retain_bodies: §true}"), "nothing is retained"),
    case(
        "state directory too long", top(f"state_dir: §/{'a' * 90}"), "too long for the Unix sockets in it: at most 90"
    ),
    case("admin socket too long", top(f"admin: {{socket: §/{'a' * 107}}}"), "too long for a Unix socket: at most 107"),
    case(
        "falling steps of a route",
        route("rollout: {steps: [{weight: 50}, {weight: §25}]}"),
        "25 % does not rise above the 50 % before it",
    ),
    case("steps of blue-green", route("rollout: {strategy: blue-green, §steps: [{weight: 5}]}"), "has no steps"),
    case(
        "route's plan with a gate of nobody", route("rollout: {gates: [§smok]}"), "there is no gate 'smok': there are"
    ),
    case(
        "step with a gate of nobody",
        route("rollout: {steps: [{weight: 50, before: [§smok]}]}") + "gates: [{name: smoke, command: ['true']}]\n",
        ("there is no gate 'smok'; there is smoke", "smoke"),
    ),
    case("unknown key of a plan", route("rollout: {§step: []}"), ("unknown key 'step'", "steps")),
    case(
        "gate twice",
        top("gates: [{name: a, command: ['true']}, {name: §a, command: ['true']}]"),
        "gate 1 is called 'a' already",
    ),
    case("gate of no kind", top("gates: [§{name: a}]"), "one of webhook, prometheus, command, soak, not none of them"),
    case(
        "gate of two kinds",
        top("gates: [§{name: a, command: ['true'], webhook: {url: 'http://h/go'}}]"),
        "one of webhook, prometheus, command, soak, not webhook and command",
    ),
    case("gate without a program", top("gates: [§{name: a, command: ['']}]"), "a command begins with a program"),
    case("gate of an empty command", top("gates: [{name: a, command: §[]}]"), "at least one is needed"),
    case(
        "soak with a url that is none",
        top("gates: [{name: a, soak: {resources: {url: §ftp://h, queries: {new-cpu: up}}}}]"),
        "must be http://host:port or https://host:port",
    ),
    case(
        "soak that asks a Prometheus for nothing",
        top("gates: [{name: a, soak: {resources: {url: 'http://h:1', queries: §{}}}}]"),
        "at least one is needed",
    ),
    case(
        "query of a soak under no name",
        top("gates: [{name: a, soak: {resources: {url: 'http://h:1', queries: {§new cpu: up}}}}]"),
        ("a name is a-z, 0-9", "new-cpu"),
    ),
    case(
        "soak that lets nothing pass",
        top("gates: [{name: a, soak: {resources: {url: 'http://h:1', queries: {a: up}, within: §0%}}}]"),
        "greater than 0",
    ),
    case(
        "query without a limit",
        top("gates: [{name: a, prometheus: §{url: 'http://h:1', query: up}}]"),
        "a query without `above` and `below` decides nothing",
    ),
    case(
        "query that nothing passes",
        top("gates: [{name: a, prometheus: §{url: 'http://h:1', query: up, above: 2, below: 1}}]"),
        "no value is above 2 and below 1",
    ),
    case(
        "query in the address of a Prometheus",
        top("gates: [{name: a, prometheus: {url: §'http://h:1/?query=up', query: up, above: 2}}]"),
        "must have neither a query nor a fragment",
    ),
    case(
        "credential in a webhook's address",
        top("gates: [{name: a, webhook: {url: §'http://me:secret@h/go?a=b'}}]"),
        "must hold no user and password",
    ),
    case(
        "credential among headers",
        top("gates: [{name: a, webhook: {url: 'http://h/go', headers: §{Authorization: x}}}]"),
        "Authorization has a setting of its own",
    ),
    case("unknown thing to do at a no", top("gates: [{name: a, command: ['x'], on_fail: §stop}]"), "expected one of"),
    case(
        "route never reached",
        top("  - name: b\n    match: §{host: h, path: /events, methods: [POST]}"),
        "never reached: route 'events' above takes all of it",
    ),
)


@pytest.mark.parametrize("bad", [*KEYS, *VALUES, *TOGETHER], ids=lambda bad: bad.name)
def test_error_is_at_its_place(bad: Case) -> None:
    text, places = marked(bad.text)
    found = errors(text)
    # Where one slip has two consequences, the second is told at the same place or named in the case.
    assert {(error.line, error.column) for error in found} >= set(places)
    assert len(found) == len(bad.says), [str(error) for error in found]
    for part, suggestion in bad.says:
        assert any(part in error.message and error.suggestion == suggestion for error in found), (part, found)


def test_everything_is_found_at_once() -> None:
    text, places = marked("""\
version: 1
salt: §short
workers: §many
backends:
  old: {url: §"ftp://x"}
  new: {url: "http://127.0.0.1:9002", §pendng: 4}
routes:
  - name: §Events
    match: {path: §a, §method: [POST]}
    old: §oldd
    stage: live
    §wieght: 5
    durability: §false
  - name: other
    match: {path: /other}
    key: §path:id
    ack: §accepted
    durability: off
§defualt: old
admin: {tcp: §"0.0.0.0:9", §bla: 1}
limits: §5
""")
    assert [(error.line, error.column) for error in errors(text)] == places


def test_message_is_one_line_with_place_and_suggestion() -> None:
    (error,) = errors(route("wieght: 5"), path="some/where.yaml")
    assert str(error) == "some/where.yaml:9:5: unknown key 'wieght' (did you mean 'weight'?)"


def test_values_of_secrets_are_not_shown() -> None:
    shown = [*errors(BASE.replace("a-salt-of-the-tests", "7777777")), *errors(old("url: http://u:hunter2@h:1"))]
    assert len(shown) == 2
    assert not any("777" in str(error) or "hunter2" in str(error) for error in shown)


def test_long_values_are_cut_in_messages() -> None:
    (error,) = errors(route(f"durability: {'x' * 5000}"))
    assert len(str(error)) < 250
