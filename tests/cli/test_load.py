"""What proxyctl load makes of its options and of what the admin API says; its forms of output."""

from __future__ import annotations

import dataclasses
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.load import _plan
from proxy.cli.load_view import Live, render
from proxy.cli.main import build, main
from proxy.cli.options import settle
from proxy.core.sketch import Sketch
from proxy.load.requests import Messages
from proxy.load.run import Plan, Second
from proxy.load.stores import Holding
from proxy.load.summary import BEHIND_SECONDS, BEHIND_SHARE, Pace, Summary, Threshold
from proxy.load.tally import Tally
from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin


def plan(*words: str) -> Plan:
    return _plan(settle(build().parse_args(["load", *words])))


def route(name: str = "events", **values: Any) -> dict[str, Any]:
    match = {"host": None, "path": "/api/v1/events", "methods": ["POST", "PUT"]}
    return {"name": name, "key": "json:/entity_id", "match": match | values.pop("match", {})} | values


def says(admin: FakeAdmin, *routes: dict[str, Any], listen: str = "127.0.0.1:8080", tls: str = "") -> None:
    """listen, tls: addresses with a blank between them."""
    answer = {"listen": listen.split(), "listen_tls": tls.split(), "routes": list(routes)}
    admin.forced = lambda method, path: (200, answer) if path == "/api/v1/routes" else None


def head(*words: str) -> list[str]:
    """The request line and headers of the first event."""
    return plan("--count", "1", *words).requests.make(0, 0).request.partition(b"\r\n\r\n")[0].decode().split("\r\n")


SESSIONS: dict[str, Any] = {"match": {"path": "/ws/{id}"}, "event_id": ["json:/id"], "websocket": {"unit": "message"}}


def messages(*words: str) -> Messages:
    """Of a load of sessions."""
    made = plan("--count", "1", *words).requests
    assert isinstance(made, Messages)
    return made


def shaken(*words: str) -> list[str]:
    """The request line and headers of the first session's handshake."""
    return messages(*words).handshake(0).decode().split("\r\n")[:-1]


def test_the_pace() -> None:
    made = plan("http://a", "--rate", "30/min")
    assert (made.rate, made.seconds, made.count, made.connections) == (0.5, 10.0, None, 64)
    made = plan("http://a", "--count", "7", "--concurrency", "3")
    assert (made.rate, made.seconds, made.count, made.connections) == (None, None, 7, 3)
    made = plan("http://a", "--rate", "5/s", "--duration", "1m", "--connections", "2", "--p95", "100ms")
    assert (made.seconds, made.connections, made.thresholds) == (60.0, 2, (Threshold("p95", 0.1),))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("http://a", "how much?"),
        ("http://a --rate 5", "expected a rate"),
        ("http://a --rate 0/s", "expected a rate"),
        ("http://a --rate 5/s --concurrency 2", "give one of them"),
        ("http://a --count 1 --connections 2", "goes with --rate"),
        ("http://a --count 1 --max-errors 101%", "expected a share"),
        ("http://a --count 1 --name a:b", "one word"),
        ("http://a --count 1 -H nothing", "expected a header"),
        ("http://a --count 1 --side new --side-header a:b", "cannot be the name"),
        ("http://a --count 1 --store old=redis:x", "expected a store"),
        ("http://a --count 1 --template /nonexistent", "cannot read /nonexistent"),
        ("http://a/{{kye}} --count 1", "did you mean {{key}}"),
        ("http://u:p@a --count 1", "must not carry credentials"),
        ("https://a --count 1 --ca /nonexistent", "cannot use /nonexistent"),
        ("127.0.0.1:80 --count 1", "did you mean http://127.0.0.1:80?"),
        ("ftp://a --count 1", "expected http://host:port/path or ws://"),
        ("ws://a --count 1 --method PUT", "--method is of requests"),
        ("ws://a --count 1 -H upgrade:h2c", "--header upgrade is the handshake's own"),
        ("ws://a --count 1 -H Sec-WebSocket-Key:x", "--header Sec-WebSocket-Key is the handshake's own"),
        ("wss://a --count 1 --ca /nonexistent", "cannot use /nonexistent"),
    ],
)
def test_bad_usage(ctl: Ctl, words: str, said: str) -> None:
    done = ctl("load", *words.split())
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_route_of_the_admin_api(admin: FakeAdmin) -> None:
    says(admin, route(match={"path": "/a/{id}/*", "host": "h.example", "methods": ["PUT"]}, key="header:X-Key"))
    lines = head("--name", "n1")
    assert lines[:2] == ["PUT /a/sensor.meter_00000/load HTTP/1.1", "Host: h.example"]
    assert "X-Key: sensor.meter_00000" in lines
    assert "X-Crossfade-Load: n1" in lines


@pytest.mark.parametrize(
    ("listen", "url"),
    [("0.0.0.0:80", "http://127.0.0.1:80"), ("[::]:81", "http://[::1]:81"), ("[::1]:1", "http://[::1]:1")],
)
def test_the_address(admin: FakeAdmin, listen: str, url: str) -> None:
    says(admin, route(), listen=listen)
    assert plan("--count", "1").target.url == f"{url}/api/v1/events"


@pytest.mark.parametrize(
    ("key", "start"),
    [
        ("json:/entity_id", b'{"entity_id":"sensor.meter_00000"'),
        ("json:/device/id", b'{"device":{"id":"sensor.meter_00000"}'),
        ("json:/a~1b", b'{"a/b":"sensor.meter_00000"'),
        ("client", b'{"entity_id":'),
    ],
)
def test_the_default_body_has_the_key_where_the_route_looks(admin: FakeAdmin, key: str, start: bytes) -> None:
    says(admin, route(key=key))
    assert plan("--count", "1").requests.make(0, 0).body.startswith(start)


def test_a_key_that_the_default_body_has_no_place_for(admin: FakeAdmin, ctl: Ctl) -> None:
    says(admin, route(key="json:/context/0"))
    done = ctl("load", "--count", "1")
    assert done.code == 2
    assert "say --template FILE" in done.err


def test_a_url_of_sessions() -> None:
    made = plan("ws://h.example", "--rate", "5/s", "--connections", "7", "--name", "n1", "-H", "Origin: http://a")
    assert made.target.url == "ws://h.example/api/v1/stream"
    assert (made.target.address, made.connections) == (("h.example", 80), 7)
    assert plan("wss://h.example/x?y=1", "--count", "1").target.address.port == 443
    assert plan("wss://h.example/x?y=1", "--count", "1").target.url == "wss://h.example/x?y=1"
    assert shaken("ws://h.example", "--name", "n1", "-H", "Origin: http://a") == [
        "GET /api/v1/stream HTTP/1.1",
        "Host: h.example",
        "X-Crossfade-Load: n1",
        "Origin: http://a",
    ]
    event = messages("ws://h.example").make(0, 0)
    assert event.body == event.request
    body = json.loads(event.body)
    assert (body["id"], body["entity_id"]) == (event.id, "sensor.meter_00000")


def test_a_store_is_asked_of_messages_that_have_an_id(ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "message.json"
    words = ["ws://a", "--count", "1", "--template", str(file), "--store", "old=toy:/tmp/old.db"]
    file.write_text('{"id":"{{id}}","n":{{n}}}')
    assert messages(*words).make(3, 0).body.endswith(b'","n":3}')
    file.write_text('{"n":{{n}}}')
    done = ctl("load", *words)
    assert (done.code, "give it an {{id}}" in done.err) == (2, True)


def test_a_route_of_sessions(admin: FakeAdmin) -> None:
    says(admin, route(**SESSIONS))
    made = plan("--count", "1")
    assert made.target.url == "ws://127.0.0.1:8080/ws/{{key}}"
    assert shaken()[0].startswith("GET /ws/sensor.meter_0")
    assert b'"entity_id":"sensor.meter_00000"' in messages().make(0, 0).body


@pytest.mark.parametrize(
    ("key", "event_id", "start"),
    [
        ("json:/entity_id", ["json:/id"], '{"id":"ID","entity_id":"KEY"'),
        ("json:/data/key", ["json:/data/id"], '{"data":{"key":"KEY","id":"ID"},"entity_id":"KEY"'),
        ("json:/device", ["json:/context/id"], '{"device":"KEY","entity_id":"KEY"'),
        ("client", ["header:X-Event-Id"], '{"id":"ID","entity_id":"KEY"'),
    ],
)
def test_a_message_has_key_and_id_where_the_route_looks(
    admin: FakeAdmin, key: str, event_id: list[str], start: str
) -> None:
    says(admin, route(**(SESSIONS | {"key": key, "event_id": event_id})))
    event = messages().make(0, 0)
    assert event.body.decode().replace(event.id, "ID").replace("sensor.meter_00000", "KEY").startswith(start)
    assert json.loads(event.body)["context"]["id"] == event.id


@pytest.mark.parametrize(("key", "id"), [("/a", "/a/b"), ("/a/b", "/a"), ("/a", "/state")])
def test_key_and_id_that_have_no_place_in_one_message(admin: FakeAdmin, ctl: Ctl, key: str, id: str) -> None:
    says(admin, route(**(SESSIONS | {"key": f"json:{key}", "event_id": [f"json:{id}"]})))
    done = ctl("load", "--count", "1")
    assert (done.code, f"has no place for {id}: say --template FILE" in done.err) == (2, True)


def test_key_and_side_of_a_session_are_in_its_handshake(admin: FakeAdmin) -> None:
    says(admin, route(**(SESSIONS | {"key": "header:X-Meter", "override": "cookie:side"})))
    lines = shaken("--side", "new")
    assert any(line.startswith("X-Meter: sensor.meter_0") for line in lines)
    assert "Cookie: side=new" in lines


def test_sessions_over_tls_alone_ask_for_a_url(ctl: Ctl, admin: FakeAdmin) -> None:
    says(admin, route(**SESSIONS), listen="", tls="127.0.0.1:8443")
    assert "give the URL, wss://HOST:PORT/PATH" in ctl("load", "--count", "1").err


def test_which_route(admin: FakeAdmin, ctl: Ctl) -> None:
    says(admin, route("a"), route("b", match={"path": "/b"}))
    assert "say --route with one of a, b" in ctl("load", "--count", "1").err
    assert head("--route", "b")[0] == "POST /b HTTP/1.1"


@pytest.mark.parametrize(("override", "line"), [("header:X-Side", "X-Side: new"), ("cookie:side", "Cookie: side=new")])
def test_a_side_is_forced_as_the_route_allows(admin: FakeAdmin, override: str, line: str) -> None:
    says(admin, route(override=override))
    assert line in head("--side", "new")
    assert line in head("http://127.0.0.1:8080", "--side", "new")
    assert not any(each.endswith("new") for each in head("http://a"))


def test_a_side_is_forced_by_a_query_parameter(admin: FakeAdmin) -> None:
    says(admin, route(override="query:my side"))
    assert head("--side", "new")[0] == "POST /api/v1/events?my%20side=new HTTP/1.1"
    assert head("http://127.0.0.1:8080/x?y=1", "--side", "old")[0] == "POST /x?y=1&my%20side=old HTTP/1.1"


def test_an_own_header_cannot_undo_the_side(admin: FakeAdmin, ctl: Ctl) -> None:
    says(admin, route(override="cookie:side"))
    done = ctl("load", "--count", "1", "--side", "new", "-H", "cookie: session=7")
    assert done.code == 2
    assert "--header Cookie would replace what forces --side new" in done.err


def test_a_side_is_asked_of_the_instance_of_the_url_alone(admin: FakeAdmin, ctl: Ctl) -> None:
    says(admin, route(override="header:X-Side"), listen="127.0.0.1:8080 127.0.0.1:8081")
    done = ctl("load", "http://127.0.0.1:8082", "--count", "1", "--side", "new")
    assert (done.code, done.out) == (2, "")
    assert (
        "http://127.0.0.1:8082/api/v1/events is not the instance at unix:crossfade-state/admin.sock, "
        "which takes clients at 127.0.0.1:8080, 127.0.0.1:8081" in done.err
    )
    assert "--admin or --context" in done.err
    assert "--side-header" in done.err
    assert "X-Side: new" in head("http://localhost:8081", "--side", "new")
    assert "X-Force: new" in head("http://127.0.0.1:8082", "--side", "new", "--side-header", "X-Force")


def test_a_side_may_be_forced_over_tls(admin: FakeAdmin) -> None:
    says(admin, route(override="header:X-Side"), listen="", tls="127.0.0.1:8443")
    assert "X-Side: old" in head("https://127.0.0.1:8443/x", "--side", "old")


def test_the_side_is_in_the_summary() -> None:
    assert "http://a, 3 connections, all forced to new" in render(summary(side="new").as_dict())
    assert "forced" not in render(summary().as_dict())


def test_a_side_header_needs_no_admin_api() -> None:
    assert "X-Force: old" in head("http://a", "--side", "old", "--side-header", "X-Force")


@pytest.mark.parametrize("override", [None, "", "off"])
def test_a_side_that_cannot_be_forced(admin: FakeAdmin, ctl: Ctl, override: str | None) -> None:
    says(admin, route(override=override))
    done = ctl("load", "--count", "1", "--side", "new", "-o", "json")
    assert done.code == 2
    assert done.error["message"] == "route events allows no override, so --side new cannot force one"


def test_own_headers_replace_ours() -> None:
    lines = head("http://a", "-H", "content-type: text/csv", "-H", "X-Event-Id: mine-{{n}}")
    assert [line for line in lines if line.lower().startswith(("content-type", "x-event-id"))] == [
        "content-type: text/csv",
        "X-Event-Id: mine-0",
    ]


def summary(**values: Any) -> Summary:
    tally = Tally()
    tally.statuses = Counter({201: 990, 503: 9})
    tally.failures = Counter({"timeout": 1})
    tally.latency = Sketch()
    for _ in range(1_000):
        tally.latency.add(0.01)
    tally.longest = 0.02
    pace = Pace(100.0, 100.0, 0.0, 0.001, 0.002, 0.1)
    made = Summary(target="http://a", connections=3, seconds=10.0, tally=tally, pace=pace)
    return dataclasses.replace(made, **values)


def test_a_summary_of_sessions() -> None:
    tally = Tally()
    tally.confirmed, tally.closed_by_target = 90, 2
    tally.failures = Counter({"closed": 10})
    made = summary(target="ws://a", tally=tally, is_session=True, thresholds=(Threshold("errors", 0.05),))
    found = made.as_dict()
    assert (found["transport"], found["sent"], found["accepted"], found["failures"]) == (
        "websocket", 100, 90, {"closed": 10},
    )  # fmt: skip
    text = render(found)
    assert "target     ws://a, 3 sessions" in text
    assert "accepted   90\n" in text
    assert "failed     10: closed x10" in text
    assert "the target closed 2 sessions, which were opened anew" in text
    assert [each.value for each in made.missed()] == [0.1]
    late = dataclasses.replace(made, pace=Pace(100.0, 80.0, 3.0, 0.001, 0.002, 0.2))
    assert "all 3 sessions waited for answers" in late.rate_problem()


def test_what_was_missed() -> None:
    limits = (Threshold("errors", 0.005), Threshold("p50", 0.001), Threshold("p99", 0.1), Threshold("max", 0.02))
    made = summary(thresholds=limits)
    assert [each.name for each in made.missed()] == ["errors", "p50"]
    assert not made.is_ok
    text = render(made.as_dict())
    assert "MISSED     errors is 1 %, at most 0.5 % was wanted" in text
    assert "MISSED     p50 is " in text
    assert "failed     10: 503 x9, timeout x1" in text


def test_without_an_answer_no_latency_is_good_enough() -> None:
    made = summary(tally=Tally(), thresholds=(Threshold("p50", 1.0),))
    assert [each.name for each in made.missed()] == ["p50"]
    assert "p50 is unknown, for nothing was answered" in render(made.as_dict())


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (Pace(100.0, 99.0, 0.4, 0.001, 0.002, 0.1), ""),
        (Pace(100.0, 80.0, 3.0, 0.001, 0.002, 0.97), "took 97% of a core and cannot keep the rate"),
        (Pace(100.0, 80.0, 3.0, 0.3, 0.9, 0.2), "too little of the processor (up to 0.90 s late)"),
        (Pace(100.0, 80.0, 3.0, 0.001, 0.002, 0.2), "all 3 connections waited for answers"),
        (Pace(None, 80.0, 3.0, 0.001, 0.002, 1.0), ""),
    ],
)
def test_who_is_to_blame_for_a_rate_that_was_not_kept(pace: Pace, said: str) -> None:
    made = summary(pace=pace)
    assert said in made.rate_problem()
    assert made.is_ok == (not said)


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (Pace(100.0, 95.0, 0.6, 0.001, 0.002, 0.1), ""),
        (Pace(100.0, 94.9, 0.6, 0.001, 0.002, 0.1), "94.9 of 100.0 events/s were reached, for the last one left 0.60"),
        (Pace(100.0, 94.9, 0.61, 0.001, 0.002, 0.1), "RATE       94.9 of 100.0 events/s were sent"),
        (Pace(None, 50.0, 0.0, 0.001, 0.002, 0.1), ""),
    ],
)
def test_a_rate_that_counts_as_kept_and_was_not_reached_is_noted(pace: Pace, said: str) -> None:
    """A thousand events at 100/s: half a second and a hundredth of ten."""
    made = summary(pace=pace)
    text = render(made.as_dict())
    assert said in text
    assert ("were reached" in text) == ("were reached" in said)
    assert made.is_ok == ("RATE" not in said)


def test_one_instance_is_asked_and_the_help_says_so(ctl: Ctl, capsys: pytest.CaptureFixture[str]) -> None:
    done = ctl("load", "--count", "1", "--admin", "unix:/a", "--admin", "unix:/b")
    assert (done.code, "give one --admin" in done.err) == (2, True)
    with pytest.raises(SystemExit):
        main(["load", "--help"])
    assert "several" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["status", "--help"])
    assert "give it several times" in " ".join(capsys.readouterr().out.split())


def test_the_help_says_when_a_rate_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["load", "--help"])
    said = f"the last one at most {BEHIND_SECONDS:g} s and {BEHIND_SHARE * 100:g} % of the run's time late"
    assert said in capsys.readouterr().out


def test_stores_in_the_summary() -> None:
    text = render(summary(stored={"old": Holding(5, 1), "new": "no such file"}).as_dict())
    assert "stored     old: 5 events (+1 duplicates)" in text
    assert "stored     new: cannot be asked: no such file" in text


def test_stores_are_judged_where_a_side_was_forced() -> None:
    held = {"old": Holding(2, 0), "new": Holding(980, 0), "third": Holding(5, 0)}
    assert summary(stored=held).is_ok
    made = summary(stored=held, side="new")
    assert not made.is_ok
    assert made.store_problems() == [
        "old holds 2 events that were forced to new",
        "new holds 980 of 990 accepted events",
    ]
    assert "STORED     old holds 2 events that were forced to new" in render(made.as_dict())
    assert summary(stored={"old": Holding(0, 0), "new": Holding(990, 3)}, side="new").is_ok
    silent = summary(stored={"old": "no such file", "new": Holding(990, 0), "third": "no such file"}, side="new")
    assert silent.store_problems() == ["old cannot be asked whether events were forced to new: no such file"]
    assert not silent.is_ok


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


SECOND = Second(2.0, 100.0, 99, 1, 3, 0.001, None)
LINE = "2.0 s      100/s  errors 1  p50 1.0 ms  p99 -  3 wait"


def test_a_line_each_second() -> None:
    plain, terminal = io.StringIO(), Terminal()
    for out in (plain, terminal):
        live = Live(out)
        live.show(SECOND)
        live.end()
    assert plain.getvalue() == f"  {LINE}\n"
    assert terminal.getvalue() == f"\r  {LINE}\x1b[K\n"


def test_where_only_tls_is_spoken_a_url_is_asked_for(ctl: Ctl, admin: FakeAdmin) -> None:
    says(admin, route(), listen="", tls="127.0.0.1:8443")
    done = ctl("load", "--count", "1")
    assert done.code == 2
    assert "give the URL" in done.err
