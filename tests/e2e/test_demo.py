"""The demo as a user runs it: it proves what it says, and leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compiled
from proxy.core.checked import MISMATCHES
from proxy.demo import run as demo
from proxy.demo.instance import basic_config
from proxy.demo.store import Arrival, Store, damage_store, read_store

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "proxy.cli.main", "demo", "--fast"]
"""From a checkout, with the compiled modules (`tests.e2e.conftest`)."""


@pytest.fixture
def workshop() -> Iterator[Path]:
    """Where the demo makes its own directory."""
    path = Path(tempfile.mkdtemp(prefix="cf-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """A clean environment outside the tree, with the wheel and what the lock pins: as the image has it."""
    compiled.build()
    (wheel,) = (ROOT / "build" / "wheel").glob("crossfade-*.whl")
    with tempfile.TemporaryDirectory(prefix="cf-") as place:
        environment = Path(place, "environment")
        uv = [sys.executable, "-m", "uv", "--quiet"]
        pip = [*uv, "pip", "install", "--python", str(environment)]
        for words in (
            [*uv, "venv", "--python", sys.executable, str(environment)],
            [*pip, "--require-hashes", "--requirement", str(ROOT / "requirements.txt")],
            [*pip, "--no-index", "--no-deps", str(wheel)],
        ):
            done = subprocess.run(words, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        yield environment / "bin" / "proxyctl"


def start(
    workshop: Path, *arguments: str, command: Sequence[str] = COMMAND, cwd: Path = ROOT, python_path: str | None = None
) -> subprocess.Popen[str]:
    environ = os.environ | {"TMPDIR": str(workshop)}
    if python_path is not None:
        environ["PYTHONPATH"] = python_path
    return subprocess.Popen(
        [*command, *arguments],
        cwd=cwd,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_behind(workshop: Path) -> list[str]:
    """Command lines of living processes that name a file of the demo's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue  # it has ended
            if f"{workshop}/cf-".encode() in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def test_the_fast_demo_loses_nothing_and_says_so(workshop: Path, installed: Path) -> None:
    """Of a wheel that was installed elsewhere: nothing of the tree is needed."""
    command = [str(installed), "demo", "--fast"]
    with start(workshop, "-o", "json", command=command, cwd=workshop, python_path="") as process:
        out, story = process.communicate(timeout=100)
    assert process.returncode == 0, story
    result: dict[str, Any] = json.loads(out)
    assert result["result"] == "ok"
    assert result["lost"] == result["client_errors"] == 0
    assert result["reverts"] >= 1
    assert result["weights"] == [0, 10, 25, 50, 0, 25, 100]
    assert result["ledger"] == {"pending": 0, "dead": 0, "balanced": True}
    assert result["old"]["stored"] == result["new"]["stored"] == result["accepted"] > 1_000
    http, websocket = result["http"]["accepted"], result["websocket"]
    assert http + websocket["accepted"] == result["accepted"]
    assert http > 500
    assert websocket["accepted"] > 200
    assert (websocket["sessions"], websocket["closed"]) == (8, 0)
    lines = story.splitlines()
    assert "lost 0" in lines[-1]
    for told in (
        "new answers 503 from now on",
        "closes every session",
        "REVERTED to 0 %",
        "connection refused",
        "drained",
    ):
        assert told in story
    assert left_behind(workshop) == []
    assert list(workshop.iterdir()) == []


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_what_is_gone_from_a_store_or_changed_there_is_named_and_reverts(workshop: Path) -> None:
    with start(workshop, "--inject", "lost:3,different:2", "-o", "json") as process:
        out, story = process.communicate(timeout=150)
    assert process.returncode == 1, story
    result: dict[str, Any] = json.loads(out)
    assert (result["result"], result["lost"], result["client_errors"]) == ("failed", 3, 0)
    assert result["accepted"] == result["old"]["stored"] == result["new"]["stored"] + 3
    assert "FAILED: lost 3 of " in story
    assert (result["reverts"], result["weights"][-2:]) == (2, [100, 0])
    assert "that new acknowledged are not in its store, says the checker" in story
    found = [each for each in result["verify"]["findings"] if each["class"] in MISMATCHES]
    assert {kind: len(ids) for kind, ids in result["injected"].items()} == {"lost": 3, "different": 2}
    named = {kind: {each["identity"] for each in found if each["class"] == kind} for kind in result["injected"]}
    assert named == {kind: set(ids) for kind, ids in result["injected"].items()}, "exactly these"
    assert len(found) == 5
    assert all(each["by"] == ["new"] for each in found if each["class"] == "lost")


def test_ctrl_c_stops_everything(workshop: Path) -> None:
    with start(workshop) as process:
        assert process.stdout is not None
        console = ""
        for line in process.stdout:
            if "the console" in line:
                console = line.split()[-1]
            if "stage live" in line:
                break
        with urllib.request.urlopen(console, timeout=20) as page:
            assert "<title>Crossfade</title>" in page.read().decode()
        with urllib.request.urlopen(f"{console}api/v1/status/stream", timeout=20) as stream:
            told = itertools.takewhile(lambda line: b'"weight_target":' not in line, stream)
            assert b"event: snapshot\n" in list(told)
        assert len(left_behind(workshop)) >= 6, "two backends, launcher, ledger, supervisor, two workers"
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in rest
    assert str(workshop) in said, "it says where logs and stores are kept"
    assert left_behind(workshop) == []


def test_a_killed_demo_takes_its_children_with_it(workshop: Path) -> None:
    with start(workshop) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "ready at" in line:
                break
        process.kill()
    deadline = time.monotonic() + 30
    while left_behind(workshop):
        assert time.monotonic() < deadline, left_behind(workshop)
        time.sleep(0.02)


@pytest.mark.asyncio
async def test_a_failed_start_says_why(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def misspelt(old: str, new: str) -> dict[str, Any]:
        config = basic_config(old, new)
        config["worker"] = config.pop("workers")
        return config

    monkeypatch.setattr(demo, "basic_config", misspelt)
    monkeypatch.setattr(tempfile, "tempdir", str(workshop))
    assert await demo.run(fast=True, keep=False) == 1
    said = capsys.readouterr().out
    assert "FAILED: crossfade ended with 2" in said
    assert "did you mean 'workers'" in said
    assert left_behind(workshop) == []


@pytest.mark.asyncio
async def test_a_bad_injection_starts_nothing() -> None:
    with pytest.raises(ValueError, match="expected lost:N"):
        await demo.run(fast=True, keep=False, inject="stolen:1")


WRITER = """
import sys, time
from pathlib import Path
from proxy.demo.store import Arrival, Store
store = Store(Path(sys.argv[1]))
while True:
    store.add([Arrival(f"{time.monotonic_ns()}", "copy", "1", b"{}")])
    print("written", flush=True)
    time.sleep(0.001)
"""


def test_damage_waits_for_a_backend_that_writes(workshop: Path) -> None:
    """Between its look and its write another row is committed, again and again, by a process as a backend is one."""
    store = Store(workshop / "db")
    store.add([Arrival(f"first {number}", "copy", "1", b"{}") for number in range(2000)])
    store.close()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(workshop / "db")], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    try:
        for _ in range(10):
            assert writer.stdout.readline() == b"written\n"
            damage_store(workshop / "db", lost=1, different=1)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_damage_hits_the_newest_events(workshop: Path) -> None:
    store = Store(workshop / "db")
    store.add([Arrival(id, "copy", "1", b"{}") for id in ("a", "b", "a", "c")])
    store.close()
    healthy = {row.id: row.digest for row in read_store(workshop / "db")}
    damage_store(workshop / "db", lost=1, different=1)
    rows = read_store(workshop / "db")
    assert [row.id for row in rows] == ["a", "b", "a"]
    assert [row.digest == healthy[row.id] for row in rows] == [True, False, True]
