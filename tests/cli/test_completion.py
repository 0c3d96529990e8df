"""Completion in real shells: everything the parser takes is offered where it takes it, and nothing else."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.cli.completion import SHELLS
from proxy.cli.completion_tables import Command, commands_of
from proxy.cli.main import build
from proxy.cli.records import STATES
from proxy.cli.routing import STAGES
from tests.cli.conftest import ROOT, Ctl
from tests.cli.shells import Fish, Shell

COMMANDS = {each.path: each for each in commands_of(build())}


class Case(NamedTuple):
    line: str
    offered: set[str]


def positional(command: Command, index: int) -> set[str]:
    """The choices of a positional; the last one may repeat."""
    values = command.positionals[min(index, len(command.positionals) - 1) :] if command.positionals else ()
    return set(values[0].choices) if values else set()


def every_command() -> list[Case]:
    """What follows each command, and all its options."""
    cases = []
    for path, command in COMMANDS.items():
        line = " ".join(["proxyctl", *path])
        if not any(value.is_file for value in command.positionals):
            children = {name for name, _ in command.children}
            cases.append(Case(f"{line} ", children or positional(command, 0)))
        long = {name for option in command.options for name in option.names if name.startswith("--")}
        cases.append(Case(f"{line} --", long))
    return cases


VALUES = [
    Case("proxyctl st", {"stage", "status"}),
    Case("proxyctl -o ", {"text", "json", "yaml"}),
    Case("proxyctl -o json stage r", {"rampdown"}),
    Case("proxyctl --context ", set()),
    Case("proxyctl --admin unix:/a/b stage --admin http://a:1 --dry-run ", set(STAGES)),
    Case("proxyctl stage live --output ", {"text", "json", "yaml"}),
    Case("proxyctl ledger ls --side n", {"new"}),
    Case("proxyctl ledger ls --limit 5 --state ", set(STATES)),
    Case("proxyctl ledger --output json ls --sta", {"--state"}),
    Case("proxyctl dead requeue a b --side ", {"old", "new"}),
    Case("proxyctl dead requeue dead ", set()),
    Case("proxyctl token create status --role o", {"operator"}),
    Case("proxyctl rollout rearm --w", {"--wait"}),
    Case("proxyctl run a", {"a file.yaml", "a-folder/"}),
    Case("proxyctl init -o a", {"a file.yaml", "a-folder/"}),
    Case("proxyctl nonsense --r", set()),
]


def script(shell: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli.main", "completion", shell],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the shells stand: a file and a folder to complete."""
    path = Path(tempfile.mkdtemp(prefix="cf-"))
    yield path
    shutil.rmtree(path)


def make_folder(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    (made / "a file.yaml").touch()
    (made / "a-folder").mkdir()
    return made


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, folder: Path) -> Iterator[Shell]:
    opened = Shell(request.param, make_folder(folder, request.param), script(request.param))
    yield opened
    opened.close()


def plain(offered: set[str]) -> set[str]:
    """Names as they are: shells write a blank in a file's name, and the end of a folder's, each in its own way."""
    return {name.replace("\\ ", " ").rstrip("/") for name in offered}


def test_every_word_is_offered_at_its_place(shell: Shell) -> None:
    wrong = {}
    for case in every_command() + VALUES:
        offered = plain(shell.offers(case.line))
        if offered != {name for name in plain(case.offered) if name.startswith(last_word(case.line))}:
            wrong[case.line] = offered ^ plain(case.offered)
    assert wrong == {}


def last_word(line: str) -> str:
    return line.rsplit(" ", 1)[1]


def test_fish_offers_every_word_at_its_place(folder: Path) -> None:
    fish = Fish(make_folder(folder, "fish"), script("fish"))
    cases = every_command() + VALUES
    offered = fish.offers_each([case.line for case in cases])
    wrong = {case.line: plain(offered[case.line]) ^ plain(case.offered) for case in cases}
    assert {line: words for line, words in wrong.items() if words} == {}


def test_a_line_that_is_typed_with_tabs(shell: Shell) -> None:
    assert shell.runs("proxyctl set-w", "25 --rou", "events --dr", "--out", "js") == [
        "set-weight", "25", "--route", "events", "--dry-run", "--output", "json",
    ]  # fmt: skip
    assert shell.runs("proxyctl --admin unix:/a/b led", "l", "--output=js", "--state de") == shlex.split(
        "--admin unix:/a/b ledger ls --output=json --state de"
    )
    assert [word.rstrip("/") for word in shell.runs("proxyctl che", "a-f")] == ["check", "a-folder"]


def test_zsh_finds_the_script_in_a_folder_of_functions(folder: Path) -> None:
    place = folder / "functions"
    place.mkdir()
    (place / "_proxyctl").write_text(script("zsh"))
    code = f"fpath=({place} $fpath); autoload -Uz compinit; compinit -D -u; print -r -- $_comps[proxyctl]"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "_proxyctl\n"


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_is_the_parsers(ctl: Ctl, name: str) -> None:
    done = ctl("completion", name)
    assert (done.code, done.err) == (0, "")
    for command in COMMANDS.values():
        for word in (*command.path, *(name.lstrip("-") for option in command.options for name in option.names)):
            assert re.search(rf"(?<![\w-])-*{word}(?![\w-])", done.out), word


def test_another_shell_is_a_usage_error(ctl: Ctl) -> None:
    assert ctl("completion", "tcsh").code == 2
    assert ctl("completion").code == 2


def test_nothing_of_it_is_loaded_by_other_commands() -> None:
    code = "import sys; import proxy.cli.main as m; m.build(); print('proxy.cli.completion_scripts' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
