"""proxyctl load as a process of its own, against targets in this one and the real proxy between toy backends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import connect

from proxy.demo.admin import Status
from proxy.demo.backends import STREAM_PATH
from tests.harness.ledger import all_receipts
from tests.harness.scene import ANSWERS_NEVER_REVERT, Scene, scene
from tests.load.servers import OK, Answer, says, session_target, target

pytestmark = pytest.mark.asyncio
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30.0


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def start(*words: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROXYCTL_")}
    return await asyncio.create_subprocess_exec(
        *("env", "--default-signal=INT", sys.executable, "-m", "proxy.cli.main", "load", *words),
        env=environment | {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> Done:
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def load(*words: str) -> Done:
    return await end(await start(*words))


async def load_on(answer: Answer, *words: str) -> Done:
    async with target(answer) as (address, _):
        return await load(f"http://{address.host}:{address.port}", *words)


async def test_a_constant_rate_is_kept_to_what_the_generator_says_of_itself() -> None:
    async with target(says(OK)) as (address, seen):
        done = await load(
            f"http://127.0.0.1:{address.port}/x?k={{{{key}}}}", *["--rate", "300/s", "--duration", "1s"], "-o", "json"
        )
    assert done.code == 0, done.err
    found = done.json
    assert (found["sent"], found["accepted"], found["statuses"]) == (300, 300, {"201": 300})
    assert len(set(seen.bodies())) == 300
    assert seen.requests[1].startswith(
        b"POST /x?k=sensor.meter_07919 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % address.port
    )
    assert b"\r\nX-Crossfade-Load: proxyctl\r\n" in seen.requests[0]
    assert b"\r\nX-Event-Id: 01" in seen.requests[0]
    last_due = 299 / 300
    slack = found["generator"]["late_max_s"] + found["latency_s"]["max"]
    assert 300 * last_due / (last_due + slack) <= found["rate"]["achieved"] <= 300


async def test_a_stall_is_seen_in_the_quantiles_and_misses_a_threshold() -> None:
    async def stall(number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.6 if number in (100, 101) else 0)
        writer.write(OK)

    words = "--rate 200/s --duration 1s --connections 2 --p50 10s --p99 300ms --max-errors 0%"
    done = await load_on(stall, *words.split())
    assert done.code == 1
    assert "accepted   200: 201 x200" in done.out
    assert "MISSED     p99 is " in done.out
    assert ", at most 300.0 ms was wanted" in done.err
    assert "p50" not in done.err
    assert "errors is" not in done.err


@pytest.mark.parametrize(
    ("answer", "words", "code", "said"),
    [
        (says(OK), "--count 20 --concurrency 4", 0, "accepted   20: 201 x20"),
        (says(OK), "--duration 300ms --concurrency 2", 0, "201 x"),
        (says(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), "--count 3", 1, "failed     3: 503 x3"),
        (says(b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n"), "--count 3 --max-errors 50%", 1, "errors is 100 %"),
        (says(close=True), "--count 3 --max-errors 0", 1, "failed     3: ended x3"),
        (says(), "--count 2 --timeout 200ms --p50 1s", 1, "failed     2: timeout x2"),
        (says(b"HTTP/1.1 200 OK\r\n\r\nall", close=True), "--rate 50/s --count 10", 0, "200 x10"),
        (says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), "--count 9", 0, "200 x9"),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"), "--count 9", 0, "200 x9"),
    ],
    ids=["closed", "duration", "503", "422", "closes", "silent", "no-length", "no-keep-alive", "chunked"],
)
async def test_answers_and_exit_codes(answer: Answer, words: str, code: int, said: str) -> None:
    done = await load_on(answer, *words.split())
    assert done.code == code, done
    assert said in done.out


async def test_a_rate_that_cannot_be_kept_is_said_and_fails() -> None:
    async def slowly(_number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(OK)

    done = await load_on(slowly, *["--rate", "100/s", "--count", "30", "--connections", "1"])
    assert done.code == 1
    assert "of 100.0 events/s were sent" in done.err
    assert "all 1 connections waited for answers" in done.err
    assert "accepted   30" in done.out


@pytest.mark.parametrize("form", ["text", "json"])
async def test_what_is_not_there_is_unreachable(form: str) -> None:
    async with target(says(OK)) as (address, _):
        pass
    done = await load(f"http://127.0.0.1:{address.port}", "--count", "3", "-o", form)
    assert (done.code, done.out) == (6, "")
    assert "cannot be reached: " in done.err


async def test_ctrl_c_ends_with_the_summary_so_far() -> None:
    async with target(says(OK)) as (address, _):
        process = await start(
            f"http://127.0.0.1:{address.port}", "--rate", "100/s", "--duration", "10m", "--p99", "10s"
        )
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        done = await end(process)
    assert b"errors 0  p50 " in line
    assert done.code == 0, done
    assert ", interrupted: " in done.out


async def test_ctrl_c_does_not_wait_for_a_target_that_is_silent() -> None:
    async with target(says()) as (address, seen):
        process = await start(f"http://127.0.0.1:{address.port}", "--count", "10", "--concurrency", "4")
        async with asyncio.timeout(SECONDS):
            while len(seen.requests) < 4:
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            done = await end(process)
    assert "unanswered 4, on their way when it ended" in done.out


async def test_templates(tmp_path: Path) -> None:
    file = tmp_path / "event.txt"
    file.write_text("power,meter={{key}} w={{n}}\n")
    async with target(says(OK)) as (address, seen):
        url = f"http://127.0.0.1:{address.port}"
        done = await load(url, "--count", "3", "--template", str(file), "--keys", "2", "-H", "X-Tenant: 7")
        assert done.code == 0, done.err
        assert seen.bodies() == [b"power,meter=sensor.meter_0000%d w=%d\n" % (n % 2, n) for n in range(3)]
        assert b"\r\nContent-Type: text/plain; charset=utf-8\r\nX-Tenant: 7\r\n" in seen.requests[0]
        file.write_text('{"a":\n  {{nn}}}')
        done = await load(url, "--count", "3", "--template", str(file))
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"proxyctl: {file}:2:3: unknown placeholder {{{{nn}}}}")
        assert len(seen.requests) == 3


async def through_the_proxy(opened: Scene, *words: str) -> Done:
    stores = [word for name in ("old", "new") for word in ("--store", f"{name}=toy:{opened.directory}/{name}.db")]
    return await load("--admin", f"unix:{opened.admin.socket}", "-o", "json", *stores, *words)


async def test_the_admin_api_says_where_to_go_and_the_stores_what_arrived() -> None:
    async with scene(load_events="leave-out") as opened:
        done = await through_the_proxy(opened, *["--rate", "200/s", "--count", "200", "--max-errors", "0%"])
        assert done.code == 0, done.err
        found = done.json
        assert found["target"] == f"http://127.0.0.1:{opened.instance.address.port}/api/v1/events"
        assert found["accepted"] == 200
        assert found["stored"] == {name: {"events": 200, "duplicates": 0} for name in ("old", "new")}
        closed = await through_the_proxy(opened, *["--count", "50", "--concurrency", "4"])
        assert closed.json["stored"]["new"] == {"events": 50, "duplicates": 0}

        def is_counted(status: Status) -> bool:
            route = status.routes[0]
            return route.accepted_total == 250 and all(side.ledger.delivered == 250 for side in route.sides.values())

        await opened.admin.until(is_counted, SECONDS, "250 events in the figures")
        receipts = await all_receipts(opened.admin)
        assert len({receipt.id for receipt in receipts}) == 250
        assert len({receipt.key for receipt in receipts}) == 200, "the events have keys, which each run begins anew"
        raw = await opened.admin.ask("GET", "/api/v1/status")
        assert raw["counters"]["load_events"] == 250
        assert raw["routes"][0]["weight_observed"] is None
        assert raw["routes"][0]["sides"]["old"]["error_rate"] is None
        forced = await through_the_proxy(opened, "--count", "1", "--side", "new")
        assert forced.code == 2
        assert "route events allows no override" in forced.err
        unknown = await through_the_proxy(opened, "--count", "1", "--route", "orders")
        assert (unknown.code, "there is no route 'orders'" in unknown.err) == (1, True)


async def test_a_forced_side_gets_everything_and_the_other_nothing() -> None:
    """At a stage that copies every event. What is marked is left out of the figures, and owed to new alone."""
    async with scene(stage="live", weight=50, load_events="leave-out", override="header:X-Side") as opened:
        done = await through_the_proxy(opened, *["--rate", "300/s", "--count", "150", "--side", "new"])
        assert done.code == 0, done.err
        found = done.json
        assert (found["accepted"], found["side"]) == (150, "new")
        assert found["stored"] == {"new": {"events": 150, "duplicates": 0}, "old": {"events": 0, "duplicates": 0}}
        status, receipts = await opened.settled(150)
        assert {(each.authority, each.old, each.new and each.new.state) for each in receipts} == {
            ("new", None, "delivered")
        }
        sides = status.routes[0].sides
        assert (sides["old"].ledger.owed, sides["new"].ledger.owed, sides["new"].ledger.delivered) == (0, 150, 150)
        while True:  # workers tell of themselves four times a second
            raw = await opened.admin.ask("GET", "/api/v1/status")
            if raw["counters"].get("forced", 0) >= 150:
                break
            await asyncio.sleep(0.05)
        assert (raw["counters"]["forced"], raw["counters"]["load_events"]) == (150, 150)
        assert raw["routes"][0]["weight_observed"] is None
        assert raw["routes"][0]["sides"]["new"]["error_rate"] is None
        url = f"http://localhost:{opened.instance.address.port}"
        by_url = await through_the_proxy(opened, url, "--count", "10", "--side", "old")
        assert (by_url.code, by_url.json["stored"]["old"]["events"]) == (0, 10), by_url.err
        elsewhere = await through_the_proxy(opened, "http://127.0.0.1:1", "--count", "10", "--side", "new")
        assert (elsewhere.code, "http://127.0.0.1:1/api/v1/events is not the instance at" in elsewhere.err) == (2, True)
        in_vain = await through_the_proxy(opened, "--count", "10", "--side", "new", "--side-header", "X-Other")
        assert in_vain.code == 1
        assert "old holds 10 events that were forced to new" in in_vain.err


async def test_a_forced_side_that_fails_is_neither_replaced_nor_owed() -> None:
    """The thresholds decide the exit code; old, which is well, answers for nothing."""
    async with scene(stage="dualwrite", override="query:side", trigger=ANSWERS_NEVER_REVERT) as opened:
        await opened.new.fault("errors", every=5)
        words = ["--count", "100", "--concurrency", "1", "--side", "new"]
        tolerant = await through_the_proxy(opened, *words, "--max-errors", "20%", "--p95", "20s")
        assert tolerant.code == 0, tolerant.err
        assert tolerant.json["statuses"] == {"201": 80, "503": 20}
        strict = await through_the_proxy(opened, *words, "--max-errors", "19%")
        assert strict.code == 1
        assert "errors is 20 %, at most 19 % was wanted" in strict.err
        await opened.new.fault("slow", seconds=0.02)
        slow = await through_the_proxy(opened, *["--count", "20", "--side", "new", "--p95", "10ms"])
        assert slow.code == 1
        assert "p95 is " in slow.err
        assert slow.json["stored"]["new"]["events"] == 20
        receipts = await opened.settled(220)
        assert opened.old.stored() == []
        states = Counter(each.new.state if each.new else "" for each in receipts[1])
        assert states == {"delivered": 180, "discarded": 40}
        assert {each.old for each in receipts[1]} == {None}


async def test_messages_over_websocket() -> None:
    async with session_target() as (address, heard):
        done = await load(f"ws://127.0.0.1:{address.port}/x", "--rate", "200/s", "--count", "300", "--connections", "4")
    assert done.code == 0, done
    assert f"target     ws://127.0.0.1:{address.port}/x, 4 sessions" in done.out
    assert "accepted   300\n" in done.out
    assert "errors 0  p50 " in done.out
    assert len(set(heard.messages)) == 300
    assert len(heard.handshakes) == 4
    assert all(b"\r\nX-Crossfade-Load: proxyctl\r\n" in each for each in heard.handshakes)


async def test_sessions_over_tls_with_a_certificate_that_is_named(tmp_path: Path) -> None:
    async with session_target(tls=certificate(tmp_path)) as (address, heard):
        url = f"wss://127.0.0.1:{address.port}"
        done = await load(url, "--count", "20", "--concurrency", "2", "--ca", str(tmp_path / "crt"))
        assert done.code == 0, done
        assert (len(heard.messages), len(heard.handshakes)) == (20, 2)
        stranger = await load(url, "--count", "20")
        assert (stranger.code, "certificate verify failed" in stranger.err) == (6, True)


async def test_sessions_that_are_refused_are_unreachable() -> None:
    async with session_target(shake=lambda _number, _head: b"HTTP/1.1 403 No\r\n\r\n") as (address, _):
        done = await load(f"ws://127.0.0.1:{address.port}", "--count", "1")
    assert (done.code, "the handshake was answered with 403" in done.err) == (6, True)


async def test_a_route_of_sessions_is_found_and_the_stores_have_every_message() -> None:
    route: dict[str, Any] = {
        "match": {"path": STREAM_PATH},
        "event_id": ["json:/id"],
        "identities": [],
        "websocket": {},
        "override": "header:X-Side",
    }
    async with scene(stage="live", weight=50, **route) as opened:
        words = ["--rate", "300/s", "--count", "300", "--connections", "6", "--max-errors", "0%"]
        done = await through_the_proxy(opened, *words)
        assert done.code == 0, done.err
        found = done.json
        assert found["target"] == f"ws://127.0.0.1:{opened.instance.address.port}{STREAM_PATH}"
        assert (found["transport"], found["connections"], found["accepted"]) == ("websocket", 6, 300)
        assert found["stored"] == {name: {"events": 300, "duplicates": 0} for name in ("old", "new")}
        forced = await through_the_proxy(opened, "--count", "40", "--concurrency", "4", "--side", "new")
        assert forced.code == 0, forced.err
        assert forced.json["stored"] == {
            "new": {"events": 40, "duplicates": 0},
            "old": {"events": 0, "duplicates": 0},
        }
        _, receipts = await opened.settled(340)
        assert len({receipt.id for receipt in receipts}) == 340
        assert len({receipt.key for receipt in receipts}) == 300, "the messages have keys, which each run begins anew"
        async with connect(found["target"]), asyncio.timeout(SECONDS):
            sessions: dict[str, Any] = {}
            while (sessions.get("open"), sessions.get("from_client")) != (1, 340):
                await asyncio.sleep(0.05)  # workers tell of themselves four times a second
                sessions = (await opened.admin.ask("GET", "/api/v1/status"))["sessions"]


def certificate(directory: Path) -> ssl.SSLContext:
    """A server's context, whose self-signed certificate for 127.0.0.1 is `directory/crt`."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(directory / "key"))
    subprocess.run(["openssl", *words.split(), *names, "-out", str(directory / "crt")], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(directory / "crt", directory / "key")
    return tls


async def test_https_with_a_certificate_that_is_named(tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    async with target(says(OK), tls=tls) as (address, seen):
        url = f"https://127.0.0.1:{address.port}"
        done = await load(url, "--count", "20", "--concurrency", "2", "--ca", str(tmp_path / "crt"))
        assert done.code == 0, done
        assert "accepted   20" in done.out
        assert (len(seen.requests), seen.connections) == (20, 2)
        stranger = await load(url, "--count", "20")
        assert stranger.code == 6
        assert "certificate verify failed" in stranger.err
