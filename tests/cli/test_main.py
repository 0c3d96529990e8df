"""The parser, the help pages, the forms of output and the start."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from proxy.cli.main import build, main
from proxy.cli.records import STATES
from proxy.cli.routing import STAGES
from proxy.core import owed, routing
from tests.cli.conftest import ROOT, Ctl
from tests.cli.fake_admin import FakeAdmin


def parsers(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parsers(child, (*path, name))


ALL = dict(parsers(build()))
COMMANDS = {path: parser for path, parser in ALL.items() if parser.get_default("run")}
CHANGES = [path for path, parser in COMMANDS.items() if "--reason" in parser.format_help()]


def test_the_interface_has_its_commands() -> None:
    expected = """demo init check run verify diff suggest backfill probe validate record-baseline rehearse status
        decommission set-weight stage rollback restore rearm freeze log-level top doctor
        history why report reload drain upgrade load
        rollout.rearm rollout.plan rollout.start rollout.status rollout.pause
        rollout.resume rollout.promote rollout.abort ledger.status ledger.ls ledger.show ledger.replay dead.ls
        dead.requeue dead.discard token.create token.ls token.revoke context.set context.use context.ls
        context.rm dashboards.export alerts.export completion"""
    assert {".".join(path) for path in COMMANDS} == set(expected.split())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_an_example_that_can_be_parsed(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*path, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out.split("examples:\n")[1].split("\n\n")[0]
    examples = re.findall(r"^  proxyctl (.*)$", text, re.MULTILINE)
    assert examples
    for example in examples:
        assert build().parse_args(shlex.split(example)).run


@pytest.mark.parametrize("path", CHANGES, ids=" ".join)
def test_every_change_can_be_tried_explained_and_guarded(path: tuple[str, ...]) -> None:
    text = COMMANDS[path].format_help()
    wanted = ["--dry-run", "--reason", "--if-epoch"]
    # A drill is a wait.
    wanted += [] if path[0] in ("token", "rehearse", "freeze", "log-level") else ["--wait", "--timeout"]
    wanted += [] if path[0] in ("token", "drain", "reload", "upgrade", "log-level") else ["--route"]
    assert [option for option in wanted if option not in text] == []


def test_changes_are_all_there() -> None:
    reading = {
        "demo",
        "init",
        "check",
        "run",
        "status",
        "history",
        "why",
        "report",
        "load",
        "verify",
        "diff",
        "suggest",
        "backfill",
        "probe",
        "validate",
        "decommission",
        "ledger status",
        "ledger ls",
        "ledger show",
        "rollout plan",
        "rollout status",
        "top",
        "doctor",
    }
    assert {" ".join(path) for path in COMMANDS} - {" ".join(path) for path in CHANGES} == reading | {
        "dead ls",
        "token ls",
        "context set",
        "context use",
        "context ls",
        "context rm",
        "dashboards export",
        "alerts export",
        "completion",
    }


def test_words_are_those_of_the_core() -> None:
    assert STAGES == routing.STAGES
    assert owed.STATE_NAMES[owed.PENDING :] == STATES


def loaded(names: str) -> str:
    """Code that prints which of these modules are loaded."""
    return f"print([name for name in {names.split()} if name in sys.modules])"


def test_start_imports_nothing_heavy() -> None:
    heavy = "pydantic aiohttp asyncio uvloop yaml msgspec orjson http.client ssl socket config proxy.control proxy.demo"
    code = "import sys; import proxy.cli.main as m; m.build(); " + loaded(heavy)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_request_imports_no_loop_and_no_model(admin: FakeAdmin) -> None:
    heavy = "pydantic aiohttp asyncio uvloop yaml msgspec config proxy.control"
    code = "import sys; import proxy.cli.main as m; m.main(['history']); " + loaded(heavy)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["nothing was changed yet", "[]"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert re.fullmatch(r"crossfade \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["ledger"], ["set-weight"], ["status", "--nonsense"], ["stage", "up"]]
)
def test_usage_errors_exit_2_in_both_forms(ctl: Ctl, words: list[str]) -> None:
    plain = ctl(*words)
    assert (plain.code, plain.out) == (2, "")
    assert plain.err.startswith("proxyctl: ")
    assert "--help" in plain.err
    formed = ctl("-o", "json", *words)
    assert (formed.code, formed.error["code"], formed.out) == (2, 2, "")


@pytest.mark.parametrize("words", [["-o", "json", "history"], ["history", "-ojson"], ["history", "--output=json"]])
def test_json_before_and_after_the_command(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    assert ctl(*words).json == {"entries": []}


def test_the_last_output_form_wins(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("-o", "yaml", "history", "-o", "json").json == {"entries": []}


def test_yaml(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("status", "-o", "yaml")
    assert yaml.safe_load(done.out)["routes"][0]["name"] == "events"


LOCAL = (
    "demo",
    "init",
    "check",
    "run",
    "context",
    "dashboards",
    "alerts",
    "completion",
    "load",
    "verify",
    "diff",
    "suggest",
    "backfill",
    "probe",
    "report",
    "rollout",
    "validate",
    "record-baseline",
    "rehearse",
    "top",
    "doctor",
)
"""Not on an instance, or of a moment, so that no two are alike; their own tests try them in YAML."""
ON_AN_INSTANCE = """status | history | why | set-weight 25 | stage live --weight 10 | rollback | rearm
    restore --epoch 3
    ledger status | ledger ls | ledger show event-1 | ledger replay --since 1h --to new
    dead ls | dead requeue --all | dead discard --all | token create ci --role viewer | token ls | token revoke ci
    freeze --for 2h --reason release | freeze --off | log-level debug | reload | drain | upgrade
    decommission --check"""


@pytest.mark.parametrize("line", [line.strip() for line in re.split(r"[|\n]", ON_AN_INSTANCE)])
def test_yaml_says_what_json_says(ctl: Ctl, admin: FakeAdmin, line: str) -> None:
    if line == "token revoke ci":
        admin.tokens["ci"] = "viewer", "cf_ci"
    options = ["--dry-run"] if "--dry-run" in COMMANDS[path_of(line)].format_help() else []
    formed, plain = ctl(*line.split(), *options, "-o", "yaml"), ctl(*line.split(), *options, "-o", "json")
    assert (formed.code, plain.code) == (0, 0)
    assert yaml.safe_load(formed.out) == plain.json
    admin.forced = lambda method, path: (423, {"detail": "latched: no\n- 'x'", "epoch": 7})
    formed, plain = ctl(*line.split(), *options, "-o", "yaml"), ctl(*line.split(), *options, "-o", "json")
    assert (formed.code, formed.out) == (7, "")
    assert yaml.safe_load(formed.err) == json.loads(plain.err)


def path_of(line: str) -> tuple[str, ...]:
    words = line.split()
    return next(tuple(words[:length]) for length in (2, 1) if tuple(words[:length]) in COMMANDS)


def test_every_command_on_an_instance_is_tried_in_yaml() -> None:
    local = {path for path in COMMANDS if path[0] in LOCAL}
    assert {path_of(line.strip()) for line in re.split(r"[|\n]", ON_AN_INSTANCE)} == COMMANDS.keys() - local


def test_errors_in_yaml(ctl: Ctl) -> None:
    assert yaml.safe_load(ctl("status", "-o", "yaml").err)["error"]["code"] == 6


@pytest.mark.parametrize("form", [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=json"]])
def test_errors_take_the_form_that_was_asked_for(ctl: Ctl, form: list[str]) -> None:
    assert ctl("status", *form).error["code"] == 6


def test_interrupt(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.cli.client.Admin.get", interrupted)
    assert ctl("history").code == 130


def test_a_reader_that_has_seen_enough_makes_no_traceback(admin: FakeAdmin) -> None:
    command = [sys.executable, "-m", "proxy.cli.main", "status", "-w"]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"crossfade")
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == b""


def test_json_is_one_line_into_a_pipe(ctl: Ctl, admin: FakeAdmin) -> None:
    out = ctl("status", "-o", "json").out
    assert out.count("\n") == 1
    assert json.loads(out)["epoch"] == 6
