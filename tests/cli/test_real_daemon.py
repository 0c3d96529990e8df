"""proxyctl against a real instance: `run`, every change that needs no event, `drain`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Ctl

CONFIG = """\
version: 1
listen: ["127.0.0.1:0"]
salt: 0123456789abcdef
admin: {tcp: off}
backends:
  old: {url: "http://127.0.0.1:1"}
  new: {url: "http://127.0.0.1:2"}
routes:
  - {name: events, match: {path: /events}}
"""


@pytest.fixture
def daemon(home: Path, ctl: Ctl) -> Iterator[subprocess.Popen[bytes]]:
    """An instance in the working directory whose workers are there; stopped at the end whatever happened."""
    (home / "crossfade.yaml").write_text(CONFIG)
    with (home / "log").open("wb") as log:
        command = [sys.executable, "-m", "proxy.cli.main", "run", "crossfade.yaml"]
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=log)
        try:
            end = time.monotonic() + 60
            while "no worker" in _workers(ctl) or " DOWN" in _workers(ctl):
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < end, (home / "log").read_text()
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            process.wait(60)


def _workers(ctl: Ctl) -> str:
    """The part of the status that tells whether the workers are there."""
    done = ctl("status")
    return "no worker" if done.code else done.out.replace("ledger DOWN", "")


def test_a_whole_life(daemon: subprocess.Popen[bytes], ctl: Ctl) -> None:
    assert ctl("stage", "dualwrite", "--reason", "first", "--wait").code == 0
    answer = ctl("set-weight", "25", "--if-epoch", "2", "--wait", "-o", "json").json
    assert (answer["after"]["stage"], answer["epoch"], answer["applied"]["workers"]) == ("live", 3, 2)
    assert ctl("set-weight", "30", "--if-epoch", "2").code == 5
    for words in (["set-weight", "30"], ["stage", "off"], ["rollback"], ["rearm"], ["why"], ["status"]):
        assert ctl(*words, "--route", "gone").code == 2, words
    assert ctl("stage", "split", "--weight", "100").code == 2
    assert "nothing was changed" in ctl("set-weight", "30", "--dry-run").out
    assert ctl("rollback", "--gradual", "--steps", "20,0", "--hold", "0s").code == 0
    assert "it was so already" in ctl("rollback").out
    assert ctl("rearm").code == 0
    history = ctl("history", "-o", "json").json["entries"]
    assert [entry["action"] for entry in history] == ["rollback", "set-weight", "set-weight", "stage", "route-added"]
    assert history[3]["reason"] == "first"
    assert "@" in history[3]["actor"]
    assert "No revert" in ctl("why").out
    assert ctl("token", "create", "ci", "--role", "viewer").out.startswith("cf_")
    assert "ci" in ctl("token", "ls").out
    assert ctl("token", "revoke", "ci").code == 0
    assert ctl("drain", "--reason", "done", "--wait", "--timeout", "60s").code == 0
    assert daemon.wait(60) == 0
    assert ctl("status").code == 6
