"""The whole look: through the API, by the command, and a setup in which everything is broken."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.cli.main import main
from proxy.control.doctor import examine, running, stores
from proxy.control.doctor.finding import AREAS, Finding
from proxy.control.link import SideStats
from proxy.control.views import ReceiverView
from tests.control.fakes import Plane, balance, ledger_stats
from tests.control.helpers import eventually


def by_name(found: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in found}


@pytest.mark.asyncio
async def test_a_running_instance_is_asked(plane: Plane) -> None:
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats())
    await eventually(lambda: plane.supervisor.instance.tally.ledger, "the ledger's figures")
    answer = await plane.get("/api/v1/doctor")
    found = answer["findings"]
    assert answer["result"] == "fail", "nobody listens at its backends"
    assert {each["area"] for each in found} == set(AREAS) - {"stores"}
    states = by_name(found)
    assert states["ready"] == "ok"
    assert states["balance"] == "ok"
    assert states["metrics are read"] == "ok", "a scrape has not been due yet"
    assert states["old at 127.0.0.1:9"] == "fail"
    assert all(bool(each["advice"]) == (each["state"] != "ok") for each in found)
    plane.supervisor.instance.began = (time.time(), time.monotonic() - 121)
    assert by_name((await plane.get("/api/v1/doctor"))["findings"])["metrics are read"] == "warn"
    await plane.get("/metrics")
    assert by_name((await plane.get("/api/v1/doctor"))["findings"])["metrics are read"] == "ok"


@pytest.mark.asyncio
async def test_each_trouble_of_an_instance(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = plane.supervisor.instance
    assert plane.ledger is not None
    stats = ledger_stats(new=balance(pending=3), gaps=1)
    stats.sides[1] = SideStats("events", 1, "new", stats.sides[1].balance, 9000.0, 0, "status 401")
    plane.ledger.tell(stats)
    await eventually(lambda: instance.tally.ledger and instance.tally.ledger.gaps, "the ledger's figures")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "9.9.9")
    receiver = ReceiverView("chat", "slack", 1, 0, 0, None, None, "status 404")
    monkeypatch.setattr(instance, "receivers", lambda: [receiver])
    monkeypatch.setattr(instance, "traces_trouble", lambda: "no connection")
    monkeypatch.setattr(instance, "began", (0.0, 0.0))
    monkeypatch.setattr(running, "_LAG", (-1.0, -1.0))  # it is looked at several times a second
    instance.figures_trouble, instance.audit.damaged = "no room", 2
    instance.tally.own["misplaced_events"] = 1
    await plane.workers[1].link.close()
    await eventually(lambda: 1 not in instance.peers.workers, "a worker's end")
    answer = await plane.get("/api/v1/doctor")
    wrong = {each["name"]: each["state"] for each in answer["findings"] if each["state"] != "ok"}
    expected = {
        "ready": "fail", "version": "warn", "workers": "fail", "event loops": "fail", "receiver chat": "fail",
        "traces": "fail", "figures": "fail", "audit trail": "warn", "placing": "fail", "gaps": "warn",
        "events to new": "fail", "backlog of events to new": "fail", "metrics are read": "warn",
        "wall clock beside the monotonic one": "fail",
    }  # fmt: skip
    assert {name: wrong.get(name) for name in expected} == expected


@pytest.mark.asyncio
async def test_what_hangs_or_breaks_off_hides_nothing(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: object) -> list[Finding]:
        raise KeyError("a-bug")

    monkeypatch.setattr(examine.Examination, "_backends", broken)
    answer = await plane.get("/api/v1/doctor")
    (found,) = [each for each in answer["findings"] if each["area"] == "backends"]
    assert (found["state"], found["seen"]) == ("fail", "broke off: KeyError('a-bug')")
    assert by_name(answer["findings"])["ready"] == "ok"


CHECK = {"table": "event", "identity": ["id"], "time": "at", "time_unit": "ns", "columns": ["body"]}


def configuration(root: Path, **changes: Any) -> Path:
    backend = {"url": "http://127.0.0.1:9", "health": {"path": "/health"}}
    config = {
        "version": 1,
        "listen": ["127.0.0.1:0"],
        "state_dir": "state",
        "salt": "a-salt-for-tests",
        "backends": {"old": backend, "new": backend},
        "routes": [{"name": "events", "match": {"path": "/events"}}],
        "consistency": [
            {"routes": ["events"]} | {side: {"sqlite": {"file": f"{side}.db"} | CHECK} for side in ("old", "new")}
        ],
    } | changes
    path = root / "crossfade.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_broken_setup_without_an_instance(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Planted: a salt, a segment, no reserve, a full disk, too little memory, no backends, no store, no secret."""
    receiver = {"name": "chat", "url": "http://127.0.0.1:9/", "authorization_file": "nowhere.token"}
    changes = {"limits": {"memory": "4000GiB"}, "ledger": {"min_free": "1000000GiB"}, "notifications": [receiver]}
    path = configuration(state_dir, **changes)
    with sqlite3.connect(state_dir / "old.db") as db:
        db.execute("CREATE TABLE event (id TEXT, at INTEGER, body TEXT)")
    ledger = state_dir / "state" / "ledger"
    ledger.mkdir(parents=True)
    (state_dir / "state" / "salt.json").write_text('{"schema": 1, "fingerprint": "of another"}')
    (ledger / "segment-00000001.db").write_bytes(b"\0" * 8192)
    code = main(["doctor", str(path), "-o", "json"])
    answer = json.loads(capsys.readouterr().out)
    wrong = {each["name"]: each["state"] for each in answer["findings"] if each["state"] != "ok"}
    assert code == 1
    assert answer["result"] == "fail"
    expected = {
        "memory": "fail", "room": "fail", "salt": "fail", "reserve": "warn", "integrity": "fail",
        "old at 127.0.0.1:9": "fail", "new at 127.0.0.1:9": "fail", "new's store of events": "fail",
        "secret of notifications.0.authorization_file": "fail",
    }  # fmt: skip
    assert {name: wrong.get(name) for name in expected} == expected
    assert "old's store of events" not in wrong
    assert main(["doctor", str(path)]) == 1
    text = capsys.readouterr().out
    assert "FAIL integrity: segment-00000001.db" in text
    assert "-> " in text


def test_a_configuration_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, workers=0)
    assert main(["doctor", str(path)]) == 2
    assert "crossfade.yaml:" in capsys.readouterr().err
    assert main(["doctor", str(path), "--admin", "unix:a.sock"]) == 2
    assert main(["doctor", "--admin", "unix:/nowhere/a.sock"]) == 6
    assert "proxyctl doctor FILE" in capsys.readouterr().err


def told(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    each = {"kind": "influxdb1", "error": "", "keeps_s": None}
    found = stores._of_check({"routes": ["events"], "stores": {"old": each | old, "new": each | new}})
    return {one.name: one.state for one in found if one.state != "ok"}


def test_stores_and_how_long_they_keep() -> None:
    assert told({}, {}) == {}
    assert told({"keeps_s": 604800.0}, {"keeps_s": 604800.0}) == {}
    assert told({"error": "store old: 401"}, {}) == {"old's store of events": "fail"}
    assert told({}, {"keeps_s": 604800.0}) == {"retention of events": "warn"}
    assert told({"keeps_s": 3600.0}, {"keeps_s": 3600.0}) == {"retention of events": "warn"}


def test_a_certificate_of_ours_that_cannot_be_used(state_dir: Path) -> None:
    listen = [{"address": "127.0.0.1:0", "tls": {"cert": "nowhere.crt", "key": "nowhere.key"}}]
    path = configuration(state_dir, listen=listen, consistency=[])
    command = [sys.executable, "-m", "proxy.control.doctor", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = by_name(json.loads(done.stdout)["findings"])
    assert found["certificate of 127.0.0.1:0"] == "fail"
