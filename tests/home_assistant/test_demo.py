"""`make demo-home-assistant` as a user runs it: it proves what it says, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.home_assistant import install
from deploy.home_assistant.demo.house import ROOMS

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "deploy.home_assistant.demo", "--fast", "--untimed"]
"""How long changes take is what the demo itself judges, on a machine that does nothing else."""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def workshop() -> Iterator[Path]:
    """Where the demo makes its own directory."""
    install.prepare()
    path = Path(tempfile.mkdtemp(prefix="cf-"))
    yield path
    shutil.rmtree(path)


def start(workshop: Path, *arguments: str) -> subprocess.Popen[str]:
    environ = os.environ | {"TMPDIR": str(workshop)}
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True)


def left_behind(workshop: Path) -> list[str]:
    """Command lines of living processes that name a file of the demo's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue  # it has ended
            if f"{workshop}/cf-".encode() in line or f"TMPDIR={workshop}\0".encode() in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def test_the_short_form_loses_nothing_and_says_so(workshop: Path) -> None:
    with start(workshop, "-o", "json") as process:
        out, story = process.communicate(timeout=350)
    assert process.returncode == 0, story
    result: dict[str, Any] = json.loads(out)
    assert (result["result"], result["lost"], result["recorded"] > 1000) == ("ok", 0, True)
    for side in ("old", "new"):
        store = result[side]
        assert store["stored"] + store["superseded"] - store["unrecorded"] == result["recorded"]
        assert store["lost"] == store["different"] == 0
    assert result["source"]["gaps"] == 1
    assert result["source"]["recovered"] >= ROOMS // 2, "sensors are gone after the kill"
    assert result["source"]["refused"] == 0
    assert result["reverts"] == 1
    assert result["weights"] == [0, 10, 50, 0, 50, 100]
    assert result["ledger"] == {"pending": 0, "balanced": True}
    assert result["latency"]["changes"] > 100
    assert result["verify"]["result"] == "pass"
    assert result["verify"]["classes"]["equal"] == result["old"]["stored"] == result["new"]["stored"]
    lines = story.splitlines()
    assert "ok: lost 0 of" in lines[-1]
    for told in (
        "$ proxyctl stage dualwrite --wait",
        "$ proxyctl set-weight 50 --wait",
        "FAULT    enrich answers 503",
        "REVERTED to 0 %",
        "$ proxyctl why",
        "$ proxyctl rearm --wait",
        "$ proxyctl set-weight 100 --wait",
        "KILLED   Home Assistant",
        "$ proxyctl verify --config",
    ):
        assert told in story
    assert left_behind(workshop) == []
    assert list(workshop.iterdir()) == []


@pytest.mark.soak
def test_what_is_missing_is_named_and_ends_with_1(workshop: Path) -> None:
    """Another whole demo; what a missing change does to the result is in demo/test_outcome.py."""
    with start(workshop, "--lose", "3") as process:
        said, kept = process.communicate(timeout=350)
    assert process.returncode == 1, kept
    lines = said.splitlines()
    assert "FAILED: lost 3 of" in lines[-1]
    assert [line for line in lines if line.startswith("  new: 3 lost: ")]
    assert "verify fail" in lines[-1]


def test_ctrl_c_stops_everything(workshop: Path) -> None:
    with start(workshop) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "stage off" in line or "FAILED" in line:
                break
        assert len(left_behind(workshop)) >= 11, "two InfluxDBs, four parts, Home Assistant, the proxy's five, itself"
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "interrupted: everything is stopped" in rest
    assert str(workshop) in said, "it says where logs and stores are kept"
    deadline = time.monotonic() + 10
    while left := left_behind(workshop):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_what_it_cannot_do_is_said(workshop: Path) -> None:
    with start(workshop, "--lose", "three") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "expected a whole number from 0 up, not three" in said
