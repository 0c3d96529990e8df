"""proxyctl against a real instance: `run`, every change that needs no event, `drain`."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxy.core.choose import bucket_of, seed_of
from proxy.demo.children import free_port
from tests.cli.conftest import ROOT, Ctl

CONFIG = """\
version: 1
listen: ["127.0.0.1:{port}"]
salt: 0123456789abcdef
admin: {tcp: off}
backends:
  old: {url: "http://127.0.0.1:1"}
  new: {url: "http://127.0.0.1:2"}
routes:
  - {name: events, match: {path: /events}, key: "json:/entity_id"}
"""


@pytest.fixture
def daemon(home: Path, ctl: Ctl) -> Iterator[subprocess.Popen[bytes]]:
    """An instance in the working directory whose workers are there; stopped at the end whatever happened."""
    (home / "crossfade.yaml").write_text(CONFIG.replace("{port}", str(free_port())))
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


def test_a_dry_run_knows_the_traffic(daemon: subprocess.Popen[bytes], ctl: Ctl, home: Path) -> None:
    port = yaml.safe_load((home / "crossfade.yaml").read_text())["listen"][0].split(":")[1]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
    for number in range(40):
        connection.request("POST", "/events", json.dumps({"entity_id": f"k{number % 20}"}))
        connection.getresponse().read()  # its backend is down; what would move does not depend on that
    connection.close()
    end = time.monotonic() + 30
    while not (moves := ctl("set-weight", "50", "--dry-run", "-o", "json").json["moves"]) or not moves["all_rate"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    going = {f"k{n}" for n in range(20) if bucket_of(f"k{n}", seed_of("0123456789abcdef")) < 5_000}
    assert moves["keys"]["low"] <= len(going) <= moves["keys"]["high"]
    assert moves["rate"] == pytest.approx(moves["all_rate"] * len(going) / 20, abs=0.01)
    assert "would move to new: " in ctl("set-weight", "50", "--dry-run").out


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
    assert [entry["action"] for entry in history] == ["rollback", "rollback", "set-weight", "stage", "route-added"]
    assert history[3]["reason"] == "first"
    assert "@" in history[3]["actor"]
    assert "No revert" in ctl("why").out
    assert ctl("token", "create", "ci", "--role", "viewer").out.startswith("cf_")
    assert "ci" in ctl("token", "ls").out
    assert ctl("token", "revoke", "ci").code == 0
    assert ctl("drain", "--reason", "done", "--wait", "--timeout", "60s").code == 0
    assert daemon.wait(60) == 0
    assert ctl("status").code == 6
