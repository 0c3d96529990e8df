"""status: one look, a watch, a wait, and what an operator reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import status, status_view
from proxy.core.routing import Dials
from tests.cli.conftest import ROOT, Ctl
from tests.cli.fake_admin import FakeAdmin, serving, side


def test_a_healthy_instance_at_a_glance(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(25.0, "durable")
    done = ctl("status")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("crossfade 0.1.0 at unix:crossfade-state/admin.sock: ready, epoch 6, up ")
    assert lines[2] == (
        "events  live  weight 25 % (observed 24.7 % (23.9 to 25.6 %))  copy durable  120/s, 1,204 accepted"
    )
    assert lines[3] == "  verdict pass, 1,204 answers of new since the last change"
    assert lines[4].split() == ["side", "backend", *status_view._FIGURES]
    cells = "old old 90.1/s 0 % 1.2 ms 3.4 ms 5.6 ms closed healthy 0 - 0 0"
    assert lines[5].split() == cells.split()
    assert lines[8].split() == "worker pid epoch in-flight clients memory held restarts".split()  # noqa: SIM905 - as it is read
    assert lines[9].split() == "0 100 6 3 64 40.0 MiB 3.0 MiB of 256.0 MiB 0".split()  # noqa: SIM905
    assert lines[-1].startswith(
        "ledger  balanced, pending 0, deferred 0, dead 0, receipts 1,204, 4.0 KiB in 1 segments"
    )
    assert "LATCHED" not in done.out
    assert "warning" not in done.out


def test_how_much_of_the_time_clients_were_served(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.status["availability"] = {"observed_s": 10_000.0, "down_s": 3.0, "ratio": 0.9997}
    assert ctl("status").out.splitlines()[0].endswith(", clients served 99.97 % of the time")


def test_a_verdict_that_is_not_a_pass_has_its_reasons(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.verdict = {
        "name": "fail",
        "reasons": ["40 of 40 events failed\x1b at new", "and it is slower"],
        "samples": 40,
    }
    lines = ctl("status").out.splitlines()
    at = lines.index("  verdict fail, 40 answers of new since the last change")
    assert lines[at + 1 : at + 3] == [r"    40 of 40 events failed\x1b at new", "    and it is slower"]


def test_a_rollout_at_a_glance(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "rollout" not in ctl("status").out
    admin.rollout = {"phase": "holding", "step": 2, "of": 6, "weight": 25.0, "reason": "holds for another 9 s"}
    assert "  rollout holding at step 2 of 6, 25 %: holds for another 9 s" in ctl("status").out.splitlines()
    admin.rollout |= {"phase": "paused", "reason": "lunch", "paused_by": "ann", "paused_at": "2026-01-31T12:00:00Z"}
    lines = ctl("status").out.splitlines()
    at = lines.index("  rollout paused by ann since 2026-01-31T12:00:00Z at step 2 of 6, 25 %: lunch")
    assert lines[at + 1] == "    to go on: proxyctl rollout resume --route events"
    admin.rollout |= {"phase": "done", "reason": ""}
    assert "  rollout done at step 2 of 6, 25 %" in ctl("status").out.splitlines()


def test_what_fits_no_route_is_counted(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "the rest" not in ctl("status").out
    admin.status |= {"default": "old", "passed_through": 1204}
    assert "the rest -> old: 1,204 passed" in ctl("status").out.splitlines()


def test_endpoints_where_there_are_several_or_one_is_not_well(ctl: Ctl, admin: FakeAdmin) -> None:
    well = {"address": "10.0.0.1:80", "state": "up", "outstanding": 2, "connections": 1204, "trouble": None}
    out = well | {"address": "10.0.0.2:80", "state": "out", "trouble": "cannot connect: \x1b[31mrefused"}
    admin.sides["new"]["endpoints"] = [well]
    assert "10.0.0.1" not in ctl("status").out
    admin.sides["new"]["endpoints"] = [well, out]
    lines = [line.strip() for line in ctl("status").out.splitlines()]
    assert "new 10.0.0.1:80: up, 2 outstanding, 1,204 connections" in lines
    assert any(line.startswith("new 10.0.0.2:80: out, 2 outstanding") and "refused" in line for line in lines)
    assert "\x1b[31mrefused" not in ctl("status").out


def test_a_line_for_each_source(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "source" not in ctl("status").out
    counts = dict.fromkeys(("recovered", "refused", "repeated", "retried", "gaps", "unreadable", "unaccepted"), 0)
    home: dict[str, Any] = {
        "name": "home",
        "kind": "home_assistant",
        "route": "events",
        "state": "connected",
        "trouble": None,
    }
    home |= counts | {"worker": 1, "rate": 17.25, "accepted": 1204, "recovered": 3, "gaps": 2}
    stream = home | counts | {"name": "stream", "state": "unhealthy", "trouble": "it was\x1b[31m cut", "worker": None}
    admin.status["sources"] = [home, stream]
    lines = ctl("status").out.splitlines()
    assert "source  home -> events: connected in worker 1, 17.2/s, 1,204 accepted, 3 recovered, 2 gaps" in lines
    (unhealthy,) = [line for line in lines if line.startswith("source  stream")]
    assert unhealthy.startswith("source  stream -> events: UNHEALTHY, 17.2/s, 1,204 accepted; it was")
    assert "\x1b[31m" not in unhealthy


def test_a_line_for_each_consumer(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "consumer" not in ctl("status").out
    sides = admin.sides
    sides["old"]["consumer"] = {"connected": True, "for_s": 61.0, "told": 1204}
    sides["new"]["consumer"] = {"connected": False, "for_s": 5.0, "told": 0}
    sides["new"]["ledger"]["pending"] = 1234
    lines = ctl("status").out.splitlines()
    assert "  old consumer old: connected for 1m 1s, 1,204 told, 0 pending" in lines
    assert "  new consumer new: AWAY for 5.0 s, 0 told, 1,234 pending" in lines


def test_sessions_where_a_route_takes_them(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "sessions" not in ctl("status").out
    admin.status["sessions"] = {"open": 8, "from_client": 1234, "to_client": 1200, "dropped": 0}
    for n, worker in enumerate(admin.workers):
        worker["sessions"] = 5 + n
    lines = ctl("status").out.splitlines()
    assert "sessions  8 open, 1,234 messages of clients, 1,200 to them" in lines
    table = [line.split() for line in lines[lines.index("") :] if line.startswith(("worker", "0 ", "1 "))]
    assert [row[5] for row in table] == ["sessions", "5", "6"]
    admin.status["sessions"]["dropped"] = 3
    assert "1,200 to them, 3 of the other side dropped" in ctl("status").out
    assert json.loads(ctl("status", "-o", "json").out)["sessions"]["open"] == 8


def test_a_live_check_and_its_probe(ctl: Ctl, admin: FakeAdmin) -> None:
    check = {
        "routes": ["events"],
        "windows": 7,
        "behind_s": 8.0,
        "pending": 2,
        "since_change": {"mismatches": 0, "settled": 1204, "lost": 0, "rate": 0.0},
        "probe": {"sent": "", "passed": None, "error": None, "failures": 0, "visible": {}},
    }
    admin.status |= {"consistency": [check]}
    lines = ctl("status").out.splitlines()
    judged = "judged until 8.0 s ago, 2 windows wait for the ledger"
    assert f"consistency  events: 0 mismatches of 1,204 events since the weight was changed, {judged}" in lines
    assert "probe of" not in "".join(lines)
    sent = {"sent": "2026-01-31T12:00:00Z", "passed": True, "visible": {"old": 0.0412, "new": 1.25}}
    check["probe"] = sent
    assert "  probe of 2026-01-31T12:00:00Z: passed, in old 41.2 ms, new 1.25 s" in ctl("status").out.splitlines()
    check["probe"] = sent | {"passed": False, "error": "new: not there\x1b[2J within 30 s"}
    out = ctl("status").out
    assert "probe of 2026-01-31T12:00:00Z: FAILED, new: not there" in out
    assert "\x1b" not in out.replace("\\x1b", "")


def test_answers_that_are_compared(ctl: Ctl, admin: FakeAdmin) -> None:
    route = {"route": "events", "comparing": True, "compared": 0}
    admin.status |= {"answers": [route]}
    assert "answers  events: none compared yet" in ctl("status").out.splitlines()
    route["comparing"] = False
    assert "answers  events: not compared in this stage" in ctl("status").out.splitlines()
    fields = {f"/body/{name}": {"different": at / 100, "noise": None} for at, name in enumerate("abcdefg")}
    fields["/body/t"] = {"different": 1.0, "noise": 0.99}
    route |= {"compared": 1204, "beyond_noise": 3, "noise_compared": 0, "fields": fields, "trouble": "refused\x1b[2J"}
    lines = ctl("status").out.splitlines()
    assert "answers  events: 3 of 1,204 differ, noise unknown" in lines
    assert "  /body/t 100 %, old itself 99 %" in lines
    assert "  /body/g 6 %, old itself -" in lines
    assert not any("/body/b " in line for line in lines), "the most frequent ones"
    assert any(line.startswith("  old cannot be asked twice: refused") and "\x1b" not in line for line in lines)
    route["noise_compared"] = 400
    assert "answers  events: 3 of 1,204 differ, noise known of 400" in ctl("status").out.splitlines()


def test_certificates(ctl: Ctl, admin: FakeAdmin) -> None:
    shown = {"listen": "0.0.0.0:443", "file": "/a.crt", "names": ["a.example", "b.example"], "expires_at": "2026-12-01"}
    admin.status["certificates"] = [shown | {"loaded_at": "2026-11-01", "trouble": None}]
    assert "certificate  0.0.0.0:443: /a.crt for a.example, b.example, until 2026-12-01" in ctl("status").out


def test_which_configuration_is_served_and_what_is_wrong_with_the_file(ctl: Ctl, admin: FakeAdmin) -> None:
    served = {"file": "/etc/crossfade.yaml", "digest": "x", "loaded_at": "2026-01-31T12:00:00Z", "workers": 2, "of": 2}
    admin.status["configuration"] = served | {"trouble": None}
    assert "configuration  /etc/crossfade.yaml, loaded 2026-01-31T12:00:00Z" in ctl("status").out
    admin.status["configuration"] = served | {"workers": 1, "trouble": None}
    assert "1 of 2 workers go by the one of 2026-01-31T12:00:00Z" in ctl("status").out
    error = {"path": "/etc/crossfade.yaml", "line": 3, "column": 5, "message": "unknown key 'x'", "suggestion": ""}
    trouble = {"since": "2026-01-31T13:00:00Z", "errors": [error], "refused": []}
    admin.status["configuration"] = served | {"trouble": trouble}
    out = ctl("status").out
    assert "configuration: the file has 1 error since 2026-01-31T13:00:00Z; serving the one of before" in out
    assert "  /etc/crossfade.yaml:3:5: unknown key 'x'" in out
    admin.status["configuration"] = served | {"trouble": trouble | {"errors": [], "refused": ["salt cannot change"]}}
    assert "the file is not served since 2026-01-31T13:00:00Z" in ctl("status").out


def test_whose_the_weight_is(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(25.0, "durable")
    said = [
        ({"stage": "live", "weight": 25.0}, "weight 25 % (observed"),
        ({"stage": "live", "weight": 0.0}, "weight 25 % (by command; file says 0 %) (observed"),
        ({"stage": "dualwrite", "weight": 0.0}, "weight 25 % (by command; file says dualwrite, 0 %) (observed"),
    ]
    for file, words in said:
        admin.file = file
        assert words in ctl("status").out
    admin.rollout = {"phase": "holding", "step": 1, "of": 2, "weight": 25.0, "reason": ""}
    assert "(by its rollout; file says dualwrite, 0 %)" in ctl("status").out
    admin.rollout, admin.dials["events"] = None, Dials(0.0, "durable", latched=True)
    admin.file = {"stage": "live", "weight": 25.0}
    assert "weight 0 % (reverted; file says live, 25 %)" in ctl("status").out


def test_what_is_wrong_is_said_with_what_to_do(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(0.0, "durable", latched=True)
    ledger = admin.sides["new"]["ledger"] | {"pending": 1204, "oldest_age_s": 75.0, "dead": 2, "lost": 3}
    trouble = {"breaker": "open", "healthy": False, "ledger": ledger}
    admin.sides["new"] = side(backend="new", url="http://127.0.0.1:9002", **trouble)
    admin.status |= {"ready": False, "draining": True, "warnings": ["clock \x1b[31mjumped"]}
    admin.status["dependencies"] = [
        {"backend": "new", "name": "db", "address": "tcp://db:5432", "healthy": False, "detail": "refused"},
        {"backend": "new", "name": "mq", "address": "tcp://mq:1", "healthy": True, "detail": ""},
    ]
    admin.workers[0] |= {"sheds": "memory 255 of 256 MiB", "held_bytes": 2**28, "budget_bytes": 2**28}
    admin.workers[1] |= {"alive": False, "epoch": 5}
    admin.ledger |= {"balanced": False, "low_disk": True}
    out = ctl("status").out
    for words in (
        "DRAINING",
        "LATCHED at weight 0: breaker open at new",
        "proxyctl why --route events",
        "proxyctl rearm --route events",
        "new (new, http://127.0.0.1:9002): breaker open",
        "its health probe fails",
        "2 dead letters; see: proxyctl dead ls --side new",
        "3 best effort copies lost",
        "UNHEALTHY  1,204    1m 15s",
        "0 SHEDS  100  6",
        "256.0 MiB of 256.0 MiB",
        "1 DOWN   101  5 (not 6 yet)",
        "NOT BALANCED",
        "LOW DISK",
        "dependency  db of new (tcp://db:5432): UNHEALTHY, refused",
        "dependency  mq of new (tcp://mq:1): healthy",
        r"warning: clock \x1b[31mjumped",
    ):
        assert words in out
    assert "\x1b" not in out


def test_an_instance_that_has_only_begun(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.status |= {"ready": False, "started_at": ""}
    admin.workers = []
    admin.ledger = {"alive": False}
    admin.sides = {"old": {}, "new": {}}
    done = ctl("status")
    assert done.code == 0
    for words in ("NOT READY", "up -", "no worker has reported", "ledger DOWN"):
        assert words in done.out


def test_one_route_alone(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["more"] = Dials()
    assert [route["name"] for route in ctl("status", "--route", "more", "-o", "json").json["routes"]] == ["more"]
    done = ctl("status", "--route", "gone")
    assert done.code == 2
    assert "routes are events, more" in done.err


def test_wait_until_at_rest(ctl: Ctl, admin: FakeAdmin) -> None:
    ledger = admin.sides["new"]["ledger"]
    ledger["pending"] = 3
    admin.workers[0]["epoch"] = 5
    admin.before_status.extend(
        [lambda: None, lambda: ledger.update(pending=0), lambda: admin.workers[0].update(epoch=6)]
    )
    done = ctl("status", "--wait")
    assert done.code == 0
    assert len(admin.requests) == 3
    assert done.out.count("crossfade 0.1.0") == 1


def test_wait_in_vain_says_what_is_missing(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.sides["new"]["ledger"]["pending"] = 1204
    done = ctl("status", "--wait", "--timeout", "20ms")
    assert (done.code, done.out) == (4, "")
    assert "1,204 events of events are pending at new" in done.err
    assert ctl("status", "--wait", "--timeout", "0s", "-o", "json").error["missing"]


def test_a_revert_while_waiting_exits_3(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.sides["new"]["ledger"]["pending"] = 1
    admin.before_status.extend([lambda: None, lambda: admin.dials.update(events=Dials(0.0, "durable", latched=True))])
    done = ctl("status", "--wait")
    assert done.code == 3
    assert "proxyctl why --route events" in done.err


def test_a_latch_from_before_does_not_matter_to_a_wait(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(0.0, "durable", latched=True)
    assert ctl("status", "--wait").code == 0


def test_wait_for_nobody_ends_at_once(ctl: Ctl) -> None:
    assert ctl("status", "--wait").code == 6
    assert ctl("status", "-w").code == 6


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "REDRAW", 0.01)


@pytest.mark.usefixtures("quick")
def test_watch_and_wait_ends_at_rest(ctl: Ctl, admin: FakeAdmin) -> None:
    ledger = admin.sides["new"]["ledger"]
    ledger["pending"] = 3
    admin.before_status.extend([lambda: None, lambda: None, lambda: ledger.update(pending=0)])
    done = ctl("status", "-w", "--wait")
    assert done.code == 0
    assert done.out.count("crossfade 0.1.0") == 3
    assert "\x1b" not in done.out


@pytest.mark.usefixtures("quick")
def test_watch_and_wait_in_vain(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.sides["new"]["ledger"]["pending"] = 3
    assert ctl("status", "-w", "--wait", "--timeout", "20ms").code == 4


@pytest.mark.usefixtures("quick")
def test_watch_prints_one_object_per_line(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.workers[0]["epoch"] = 5
    admin.before_status.extend([lambda: None, lambda: admin.workers[0].update(epoch=6)])
    frames = [json.loads(line) for line in ctl("status", "-w", "--wait", "-o", "json").out.splitlines()]
    assert [frame["workers"][0]["epoch"] for frame in frames] == [5, 6]


@pytest.mark.usefixtures("quick")
def test_watch_outlives_a_restart_of_the_instance(ctl: Ctl, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAdmin()
    fake.workers[0]["epoch"] = 5
    server = serving(fake, "a.sock")
    server.__enter__()
    frames: list[int] = []

    def sleep(duration: float) -> None:
        """After the first frame the instance goes away, after the second it is back and at rest."""
        nonlocal server
        frames.append(len(frames))
        if len(frames) == 1:
            server.__exit__(None, None, None)
            os.unlink("a.sock")
        elif len(frames) == 2:
            fake.workers[0]["epoch"] = 6
            server = serving(fake, "a.sock")
            server.__enter__()

    monkeypatch.setattr("proxy.cli.waiting.time.sleep", sleep)
    try:
        done = ctl("status", "-w", "--wait", "--admin", "unix:a.sock")
    finally:
        server.__exit__(None, None, None)
    assert done.code == 0
    assert "unix:a.sock: no admin API could be reached" in done.out
    assert frames == [0, 1]


def test_watch_and_wait_ends_when_all_are_at_rest(ctl: Ctl, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = FakeAdmin(), FakeAdmin()
    b.ledger["pending"] = 3
    monkeypatch.setattr("proxy.cli.status.REDRAW", 0.0)
    b.before_status.extend([lambda: None, lambda: None, lambda: b.ledger.update(pending=0)])
    with serving(a, "a"), serving(b, "b"):
        done = ctl("status", "-w", "--wait", "--admin", "unix:a", "--admin", "unix:b")
    assert done.code == 0
    assert [done.out.count(f"at unix:{name}: ready") for name in "ab"] == [3, 3]


def test_a_terminal_is_redrawn_in_colour(admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch, ctl: Ctl) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    admin.ledger["low_disk"] = True
    out = ctl("status", "-w", "--wait").out
    assert out.startswith("\x1b[H\x1b[2J")
    assert "\x1b[31m  LOW DISK" in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in ctl("status").out


def test_ctrl_c_ends_a_watch_cleanly(admin: FakeAdmin) -> None:
    # A shell starts background jobs with SIGINT ignored, and children inherit that: set what a terminal gives.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from proxy.cli.main import main; sys.exit(main(['status', '-w']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        heads = 0
        while heads < 2:
            heads += process.stdout.readline().startswith("crossfade 0.1.0")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_receivers_that_fail_or_were_not_told_stand_out(ctl: Ctl, admin: FakeAdmin) -> None:
    well = {"name": "log", "kind": "webhook", "waiting": 0, "delivered": 9, "dropped": 0, "trouble": None}
    well |= {"last_success": "2026-01-31T12:00:00Z", "last_failure": None}
    failing = well | {"name": "chat", "waiting": 2, "dropped": 1, "trouble": "status 500\x1b", "last_success": None}
    again = well | {"name": "pager", "dropped": 4}
    admin.status |= {"notifications": [well, failing, again]}
    out = ctl("status").out
    assert "log" not in out
    assert "notifications  chat: FAILS, status 500\\x1b; 2 waiting, 1 dropped, told of nothing since the start\n" in out
    assert "notifications  pager: well again; 0 waiting, 4 dropped, told last at 2026-01-31T12:00:00Z\n" in out
    assert ctl("status", "-o", "json").json["notifications"][0] == well
    admin.status |= {"notifications": [again | {"last_success": None}]}
    said = "notifications  pager: not tried yet; 0 waiting, 4 dropped, told of nothing since the start\n"
    assert said in ctl("status").out


def test_whether_it_is_ready_is_an_exit_code(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("status", "--ready")
    assert (done.code, done.out) == (0, "unix:crossfade-state/admin.sock is ready\n")
    assert ctl("status", "--ready", "-o", "json").json == {"admin": "unix:crossfade-state/admin.sock", "ready": True}
    admin.status |= {"ready": False, "not_ready": ["draining", "the ledger\x1b is away"]}
    done = ctl("status", "--ready")
    assert (done.code, done.out) == (1, "")
    assert r"not ready: draining; the ledger\x1b is away" in done.err
    assert ctl("status", "--ready", "--wait").code == 2
