"""The real supervisor as a process under the real launcher; ledger and workers are stand-ins."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.control.sockets import address_text
from tests.control.helpers import wait_for

ROOT = Path(__file__).parents[2]
MAIN = """
import sys
from pathlib import Path
from config.loader import load
from proxy.control.launcher import launch
path = Path(sys.argv[1])
standins = {name: f"tests.control.standin_{name}" for name in ("ledger", "worker", "checker")}
sys.exit(launch(load(path), path, modules=standins | {"supervisor": "proxy.control.supervisor"}))
"""
CONFIG = """\
version: 1
salt: a-salt-for-tests
state_dir: state
listen: ["127.0.0.1:0"]
backends: {{old: {{url: "http://127.0.0.1:9"}}, new: {{url: "http://127.0.0.1:9"}}}}
routes: [{{name: events, match: {{path: /e}}}}]
admin: {{tcp: "{admin}"}}
log: {{format: text}}
stop_grace: 5s
"""


class Instance:
    def __init__(self, directory: Path, admin: str = "off") -> None:
        self.directory = directory
        (directory / "crossfade.yaml").write_text(CONFIG.format(admin=admin))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "STANDIN_JOURNAL": str(directory / "journal")}
        with (directory / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MAIN, str(directory / "crossfade.yaml")],
                env=environment,
                stderr=stderr,
                cwd=directory,
            )

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        try:
            connection.sock.connect(str(self.directory / "state" / "admin.sock"))
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def status(self) -> Any:
        try:
            return self.ask("GET", "/api/v1/status")[1]
        except OSError:
            return None

    def supervisors(self) -> list[int]:
        return [int(line.rsplit("=", 1)[1]) for line in self.stderr.splitlines() if "supervisor started" in line]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.wait(20) in (0, 2)


@pytest.fixture
def instances(state_dir: Path) -> Iterator[list[Instance]]:
    started: list[Instance] = []
    yield started
    with ExitStack() as ends:  # one that fails to end must not keep the others alive
        for each in started:
            ends.callback(each.end)


def test_a_killed_supervisor_is_followed_by_one_that_goes_on(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    wait_for(instance.status, "the first status")
    started_at = instance.status()["started_at"]
    code, _ = instance.ask("PUT", "/api/v1/routes/-/stage", {"stage": "live", "weight": 15})
    assert code == 200
    os.kill(instance.supervisors()[0], signal.SIGKILL)
    wait_for(lambda: len(instance.supervisors()) == 2, "the restart")
    status = wait_for(instance.status, "the second status")
    assert (status["epoch"], status["routes"][0]["weight_target"]) == (2, 15.0)
    assert status["started_at"] == started_at
    _, history = instance.ask("GET", "/api/v1/history")
    assert [each["epoch"] for each in history["entries"]] == [2, 1]


def test_a_taken_admin_port_stops_the_start(state_dir: Path, instances: list[Instance]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        instance = Instance(state_dir, admin=address_text(taken))
        instances.append(instance)
        assert instance.process.wait(20) == 2
        assert f"the admin API cannot listen on {address_text(taken)}" in instance.stderr
    assert not (state_dir / "state" / "routing.json").exists()


def test_a_foreign_state_file_stops_the_start(state_dir: Path, instances: list[Instance]) -> None:
    (state_dir / "state").mkdir()
    (state_dir / "state" / "routing.json").write_text("precious")
    instance = Instance(state_dir)
    instances.append(instance)
    assert instance.process.wait(20) == 2
    assert "routing.json is not a Crossfade state file" in instance.stderr
    assert (state_dir / "state" / "routing.json").read_text() == "precious"


def test_drain_stops_the_instance(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    wait_for(instance.status, "the first status")
    assert instance.ask("POST", "/api/v1/drain", {})[0] == 202
    assert instance.process.wait(20) == 0
    assert (state_dir / "state" / "lock").read_text() == ""


def test_an_orphan_ends_by_itself(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    wait_for(instance.status, "the first status")
    (supervisor,) = instance.supervisors()
    instance.process.kill()
    instance.process.wait()
    wait_for(lambda: not Path(f"/proc/{supervisor}").exists() or _is_zombie(supervisor), "the end of the orphan")
    assert "stopping: the launcher died" in instance.stderr


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
