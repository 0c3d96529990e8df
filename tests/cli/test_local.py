"""demo, init, check, run."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import config
from config.loader import load
from proxy.demo.children import free_port
from tests.cli.conftest import Ctl

INIT = ["init", "--old", "http://127.0.0.1:9001", "--new", "http://127.0.0.1:9002"]
BAD = "version: 1\nsalt: 0123456789abcdef\nworker: 2\nbackends:\n  old: {url: nonsense}\n  new: {url: 'http://a:1'}\n"
BAD += "routes:\n  - {name: events, match: {path: /a}}\n"


def test_init_writes_what_check_accepts(ctl: Ctl, home: Path) -> None:
    done = ctl(*INIT)
    assert done.code == 0
    assert done.out == "wrote crossfade.yaml\nnext: proxyctl check crossfade.yaml\n"
    checked = ctl("check", "crossfade.yaml")
    assert (checked.code, checked.err) == (0, "")
    for words in ("crossfade.yaml is valid", "old: http://127.0.0.1:9001", "route     events:", "stage off"):
        assert words in checked.out
    assert checked.out.endswith("next: proxyctl run crossfade.yaml\n")


def test_check_says_which_routes_take_sessions(ctl: Ctl) -> None:
    checked = ctl("check", str(Path(config.__file__).parent / "examples" / "websocket.yaml"))
    assert "route     states: WebSocket /api/v1/stream by json:/entity_id, stage off\n" in checked.out


def test_check_says_what_is_subscribed_to(ctl: Ctl, home: Path) -> None:
    example = "home-assistant.yaml"
    shutil.copy(Path(config.__file__).parent / "examples" / example, home)
    (home / "home-assistant.token").write_text("a long-lived one")
    line = "source    home -> events: home_assistant ws://127.0.0.1:8123/api/websocket\n"
    assert line in ctl("check", example).out
    (source,) = ctl("check", example, "-o", "json").json["sources"]
    assert (source["name"], source["kind"], source["route"]) == ("home", "home_assistant", "events")


def test_check_says_what_is_compared(ctl: Ctl) -> None:
    example = str(Path(config.__file__).parent / "examples" / "consistency.yaml")
    assert "compared  events: stores sqlite, all the time, probed every 60 s\n" in ctl("check", example).out
    (check,) = ctl("check", example, "-o", "json").json["consistency"]
    assert (check["routes"], check["old"], check["live"], check["probe_every"]) == (["events"], "sqlite", True, 60.0)


OUTSIDE = """
gates:
  - {name: smoke, command: [./smoke.sh, --fast], on_fail: revert}
  - {name: asked, webhook: {url: "http://127.0.0.1:1/secret"}}
  - {name: listed, command: [no-such-program]}
hooks:
  alertmanager: {rules: [{labels: {alertname: NewFails}, route: "*", action: revert}]}
  webhook: {routes: [events]}
notifications:
  - {name: chat, url: "http://127.0.0.1:1/secret", kind: slack, events: [revert, "rollout-*"]}
  - {name: log, url: "http://127.0.0.1:1/secret"}
"""


@pytest.fixture
def outside(ctl: Ctl, home: Path) -> Path:
    """A configuration with gates, hooks and receivers, and the programs of its gates."""
    assert ctl(*INIT).code == 0
    file = home / "crossfade.yaml"
    file.write_text(file.read_text() + OUTSIDE.replace("no-such-program", "sh"))
    (home / "smoke.sh").write_text("#!/bin/sh\n")
    (home / "smoke.sh").chmod(0o700)
    return file


def test_check_lists_who_is_asked_who_may_call_and_who_is_told(ctl: Ctl, outside: Path) -> None:
    done = ctl("check", outside.name)
    assert (done.code, done.err) == (0, "")
    for line in (
        "gate      smoke: command, a no: revert",
        "gate      asked: webhook, a no: hold",
        "hook      alertmanager: revert every route on alertname=NewFails",
        "hook      webhook: pause or revert events",
        "notified  chat: slack, of revert, rollout-*",
        "notified  log: webhook, of everything",
    ):
        assert line in done.out.splitlines()
    assert "secret" not in done.out
    summary = ctl("check", outside.name, "-o", "json").json
    assert [gate["name"] for gate in summary["gates"]] == ["smoke", "asked", "listed"]
    assert summary["hooks"]["webhook"] == {"routes": ["events"], "actions": ["pause", "revert"]}
    assert summary["notifications"][0] == {"name": "chat", "kind": "slack", "events": ["revert", "rollout-*"]}
    assert "secret" not in str(summary)


def test_check_looks_for_the_programs_of_gates(
    ctl: Ctl, outside: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (outside.parent / "smoke.sh").chmod(0o600)
    outside.write_text(outside.read_text().replace("[sh]", "[no-such-program]"))
    monkeypatch.chdir(tmp_path)  # they are looked for from where the file is
    done = ctl("check", str(outside))
    lines = outside.read_text().splitlines()
    numbers = [next(n for n, line in enumerate(lines, 1) if f"name: {name}," in line) for name in ("smoke", "listed")]
    assert done.code == 2
    assert done.err.splitlines()[:2] == [
        f"{outside}:{numbers[0]}:29: gate 'smoke': ./smoke.sh is not executable",
        f"{outside}:{numbers[1]}:30: gate 'listed': there is no program no-such-program",
    ]
    (outside.parent / "smoke.sh").unlink()
    assert "gate 'smoke': there is no program ./smoke.sh" in ctl("check", str(outside)).err
    assert load(outside).gates[0].command == ("./smoke.sh", "--fast"), "an instance starts: the gate holds until then"


def test_check_looks_for_the_files_of_secrets(ctl: Ctl, outside: Path) -> None:
    told = outside.read_text()
    outside.write_text(told.replace("kind: slack,", "kind: slack, authorization_file: not-there,"))
    done = ctl("check", str(outside))
    assert done.code == 2
    missing = outside.parent / "not-there"
    assert f"cannot read {missing}: No such file or directory" in done.err
    assert str(load(outside).notifications[0].authorization_file) == str(missing), "an instance starts"
    missing.write_text("Bearer abc")
    assert ctl("check", str(outside)).code == 0


def test_init_takes_a_fresh_salt_each_time(ctl: Ctl, home: Path) -> None:
    salts = set()
    for name in ("a.yaml", "b.yaml"):
        assert ctl(*INIT, "-o", name).code == 0
        salts.add(load(home / name).salt)
    assert len(salts) == 2


def test_init_overwrites_only_by_force(ctl: Ctl, home: Path) -> None:
    (home / "crossfade.yaml").write_text("mine")
    done = ctl(*INIT)
    assert done.code == 2
    assert "--force" in done.err
    assert (home / "crossfade.yaml").read_text() == "mine"
    assert ctl(*INIT, "--force").code == 0
    assert load(home / "crossfade.yaml").backends["new"].where == "http://127.0.0.1:9002"
    assert [path.name for path in home.iterdir()] == ["crossfade.yaml"]


def test_init_to_stdout(ctl: Ctl, home: Path) -> None:
    assert ctl(*INIT, "-o", "-").out.startswith("# yaml-language-server")
    assert list(home.iterdir()) == []


def test_init_where_nothing_can_be_written(ctl: Ctl) -> None:
    done = ctl(*INIT, "-o", "gone/crossfade.yaml")
    assert done.code == 1
    assert "No such file or directory" in done.err


@pytest.mark.parametrize("url", ["nonsense", "ftp://a:1", "http://127.0.0.1:9001"])
def test_init_with_a_bad_url(ctl: Ctl, home: Path, url: str) -> None:
    assert ctl("init", "--old", "http://127.0.0.1:9001", "--new", url).code == 2
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("words", [["check"], ["run"]])
def test_every_error_is_listed_with_its_place(ctl: Ctl, home: Path, words: list[str]) -> None:
    (home / "bad.yaml").write_text(BAD)
    done = ctl(*words, "bad.yaml")
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert any(line.startswith("bad.yaml:3:1: ") and "did you mean 'workers'?" in line for line in lines)
    assert any(line.startswith("bad.yaml:5:") for line in lines)
    assert lines[-1] == f"proxyctl: bad.yaml has {len(lines) - 1} errors"


def test_errors_as_objects(ctl: Ctl, home: Path) -> None:
    (home / "bad.yaml").write_text(BAD)
    error = ctl("check", "bad.yaml", "-o", "json").error
    first = error["errors"][0]
    assert (error["code"], first["path"], first["line"], first["column"]) == (2, "bad.yaml", 3, 1)
    assert first["suggestion"] == "workers"


def test_check_as_json(ctl: Ctl, home: Path) -> None:
    assert ctl(*INIT).code == 0
    summary = ctl("check", "crossfade.yaml", "-o", "json").json
    assert summary["valid"] is True
    assert summary["routes"][0]["name"] == "events"


@pytest.mark.parametrize("words", [["check"], ["run"]])
def test_a_file_that_is_not_there(ctl: Ctl, words: list[str]) -> None:
    done = ctl(*words, "gone.yaml")
    assert done.code == 2
    assert "cannot read gone.yaml: No such file or directory" in done.err


def test_run_hands_the_launcher_what_was_loaded(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []

    def launch(settings: Any, path: Path) -> int:
        called.append((settings.workers, path))
        return 7

    assert ctl(*INIT).code == 0
    monkeypatch.setattr("proxy.control.launcher.launch", launch)
    assert ctl("run", "crossfade.yaml").code == 7
    assert called == [(2, Path("crossfade.yaml"))]


def test_check_in_yaml_says_what_json_says(ctl: Ctl, home: Path) -> None:
    assert ctl(*INIT).code == 0
    assert (
        yaml.safe_load(ctl("check", "crossfade.yaml", "-o", "yaml").out)
        == ctl("check", "crossfade.yaml", "-o", "json").json
    )
    (home / "bad.yaml").write_text(BAD)
    assert (
        yaml.safe_load(ctl("check", "bad.yaml", "-o", "yaml").err)["error"]
        == ctl("check", "bad.yaml", "-o", "json").error
    )


def test_demo_is_started_with_its_options(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []

    async def run(*options: Any) -> int:
        called.append(options)
        return 1

    monkeypatch.setattr("proxy.demo.run.run", run)
    assert ctl("demo", "--fast", "--inject", "lost:3", "-o", "json").code == 1
    assert ctl("-o", "json", "demo", "--keep").code == 1
    assert called == [(True, False, "json", "lost:3"), (False, True, "json", None)]


def test_demo_refuses_what_it_cannot_do(ctl: Ctl) -> None:
    assert ctl("demo", "--inject", "nonsense").code == 2


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_the_file_of_init_is_no_form_of_output(ctl: Ctl, home: Path, form: str) -> None:
    done = ctl(*INIT, "-o", form)
    assert done.code == 2
    assert f"-o ./{form}" in done.err
    assert list(home.iterdir()) == []
    assert ctl(*INIT, "-o", f"./{form}").code == 0
    assert load(home / form).backends["new"].url == ("http://127.0.0.1:9002",)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_init_says_what_it_wrote_in_every_form(ctl: Ctl, form: str) -> None:
    answer = yaml.safe_load(ctl(*INIT, "--output", form).out)
    assert answer["file"] == "crossfade.yaml"
    assert answer["next"] == ["proxyctl check crossfade.yaml", "proxyctl run crossfade.yaml"]
    assert yaml.safe_load(ctl(*INIT, "--output", form).err)["error"]["code"] == 2


def test_the_first_process_of_a_container_hears_sigterm_while_it_starts(tmp_path: Path) -> None:
    """The kernel keeps from process 1 what it has no handler for."""
    (tmp_path / "state").mkdir(mode=0o700)
    config = tmp_path / "crossfade.yaml"
    backends = 'backends: {old: {url: "http://127.0.0.1:9"}, new: {url: "http://127.0.0.1:9"}}'
    routes = "routes: [{name: events, match: {path: /events}}]"
    top = f"version: 1\nsalt: of-a-test-of-it\nlisten: [127.0.0.1:{free_port()}]\nstate_dir: {tmp_path / 'state'}"
    config.write_text(f"{top}\nadmin: {{tcp: off}}\n{backends}\n{routes}\n")
    with (tmp_path / "state" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it waits for a holder that is about to end
        namespace = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--")
        command = [*namespace, sys.executable, "-m", "proxy.cli.main", "run", str(config)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert "waiting up to" in process.stderr.readline()
            (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(first), signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM
