"""The README's commands, as it has them: its quick start is run, the others are looked up."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from config.loader import load
from proxy.cli.main import build, main
from proxy.demo.children import free_port

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "config/examples/quickstart.yaml"
STATUS = ".venv/bin/proxyctl status"
PATIENCE = 60.0
"""Seconds."""


def section(title: str) -> str:
    """A section of the README, without its heading."""
    return (ROOT / "README.md").read_text().split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def quick_start() -> list[str]:
    """Its shell commands, in their order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", section("Quick start"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith((".venv/bin/", "curl "))]


def wait_for(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


class Terminals:
    """Runs commands of the README on free ports, with their state in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        self.ports = {port: str(free_port()) for port in ("9001", "9002", "8080")}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        example = self._on_our_ports((ROOT / EXAMPLE).read_text())
        self._config = directory / "quickstart.yaml"
        self._config.write_text(f"{example}\nstate_dir: {directory}/state\nadmin: {{tcp: off}}\n")
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._environment = kept | {"PROXYCTL_ADMIN": f"unix:{directory}/state/admin.sock", "TMPDIR": str(directory)}

    def _on_our_ports(self, text: str) -> str:
        for port, ours in self.ports.items():
            text = re.sub(rf"\b{port}\b", ours, text)
        return text

    def _words(self, command: str) -> list[str]:
        text = self._on_our_ports(command).replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        # A runner in the background may ignore Ctrl-C, and what it starts would inherit that.
        words = ["env", "--default-signal=INT", *shlex.split(text.replace(EXAMPLE, str(self._config)), comments=True)]
        return [*words, "-sS", "--fail"] if command.startswith("curl ") else words

    def run(self, command: str) -> str:
        """Run a command to its end; what it said. It must succeed."""
        done = subprocess.run(
            self._words(command), cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command: str, is_up: Callable[[str], bool]) -> None:
        """Start a command that stays, and wait until it is up by what it has said."""
        log = self._directory / f"log-{next(self._numbers)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self._words(command), cwd=ROOT, env=self._environment, stdout=file, stderr=subprocess.STDOUT
            )
        self.running[command] = process
        wait_for(lambda: process.poll() is not None or is_up(log.read_text()), log.read_text)
        assert process.poll() is None, f"{command}\n{log.read_text()}"

    def interrupt(self, command: str) -> int:
        """Ctrl-C; the exit code."""
        process = self.running.pop(command)
        process.send_signal(signal.SIGINT)
        return process.wait(PATIENCE)

    def follow(self, command: str) -> None:
        """Do with a command what a reader would do."""
        if " -m proxy.demo.backends " in command:
            port = int(self.ports[command.rsplit(maxsplit=1)[-1]])
            self.start(command, lambda _: is_listening(port))
        elif " run " in command:
            self.start(command, lambda said: "crossfade is ready" in said)
        elif command.split("#", maxsplit=1)[0].rsplit(maxsplit=1)[-1] == "-w":
            self.start(command, lambda said: "events  live" in said)
            assert self.interrupt(command) == 0
        else:
            self.run(command)

    def only(self, word: str) -> str:
        """The running command with a word in it."""
        (command,) = (each for each in self.running if word in each)
        return command

    def until_status(self, condition: Callable[[str], bool]) -> None:
        """Wait for what `proxyctl status` says."""
        wait_for(lambda: condition(self.run(STATUS)), lambda: self.run(STATUS))

    def close(self) -> None:
        with ExitStack() as ends:  # one that fails to end must not keep the others alive
            for process in self.running.values():
                ends.callback(process.wait, PATIENCE)
                process.terminate()


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def terminals() -> Iterator[Terminals]:
    directory = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    opened = Terminals(directory)
    try:
        yield opened
    finally:
        opened.close()
        shutil.rmtree(directory)


def test_the_quick_start_works_as_it_is_written(terminals: Terminals) -> None:
    commands = quick_start()
    counts = [sum(word in command for command in commands) for word in ("backends", " run ", "curl", "status")]
    assert counts == [2, 1, 1, 2]
    position = {" run ": "events  off", " stage dualwrite": "events  dualwrite", " set-weight 25": "weight 25 %"}
    for command in commands:
        terminals.follow(command)
        for word, stage in position.items():
            if word in command:
                assert stage in terminals.run(STATUS)
        if command.startswith("curl "):
            terminals.until_status(lambda said: "1 accepted" in said)
    assert terminals.interrupt(terminals.only(" run ")) == 0


def test_what_the_quick_start_says_of_a_backend_that_stops(terminals: Terminals) -> None:
    for command in quick_start():
        terminals.follow(command)
    new, event = terminals.only("--name new"), next(each for each in quick_start() if each.startswith("curl "))
    terminals.interrupt(new)
    for number in range(12):  # clients go on hearing 2xx: curl fails on anything else
        terminals.run(event.replace("kitchen", f"room{number}"))
    terminals.until_status(lambda said: "weight 0 %" in said and "LATCHED" in said)
    assert "breaker" in terminals.run(".venv/bin/proxyctl why")
    terminals.follow(new)
    terminals.run(".venv/bin/proxyctl status --wait --timeout 60s")
    # Nobody sends anything now: the ledger's deliveries alone close the breaker again.
    terminals.until_status(lambda said: bool(re.search("^  new +new .* closed ", said, re.MULTILINE)))
    terminals.run(".venv/bin/proxyctl rearm")
    terminals.run(".venv/bin/proxyctl set-weight 25")
    assert "weight 25 %" in terminals.run(STATUS)


def named_commands() -> list[list[str]]:
    """The words of each command in the README's table; `a b|c` is two."""
    cells = re.findall(r"^\| (`.*?`) \| ", section("Commands"), re.MULTILINE)
    found = []
    for spelt in re.findall(r"`([^`]+)`", " ".join(cells)):
        name, *words = spelt.replace("\\|", "|").removeprefix("proxyctl ").split()
        options = [word.strip("[]") for word in words if word.startswith("[")]
        subcommands = words[0].split("|") if words and words[0].islower() and not options else [""]
        found += [[name, *([sub] if sub else []), *options] for sub in subcommands]
    return found


def commands_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every command that can be run, such as `ledger ls`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                inner = [*commands_of(child)]
                yield from [f"{name} {each}" for each in inner] if inner else [name]


def test_every_command_is_in_the_table() -> None:
    named = [" ".join(words) + " " for words in named_commands()]  # what an argument may be counts as a subcommand
    commands = list(commands_of(build()))
    assert {"load", "ledger ls", "completion"} <= set(commands)
    assert [command for command in commands if not any(each.startswith(f"{command} ") for each in named)] == []


def test_every_command_of_the_table_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    def help_of(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([*words, "--help"])
        assert end.value.code == 0
        return capsys.readouterr().out

    commands = named_commands()
    names = {words[0] for words in commands}
    assert {"demo", "run", "set-weight", "ledger", "token", "why"} <= names
    assert ["ledger", "replay"] in commands
    overview = help_of()
    assert [name for name in names if not re.search(rf"^ +{name}\b", overview, re.MULTILINE)] == []
    for words in commands:
        text = help_of(*(word for word in words if not word.startswith("-")))
        assert [word for word in words if word.startswith("-") and word not in text] == [], words


def test_every_command_of_the_whole_migration_is_one() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", section("A whole migration"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) >= 12
    for line in lines:
        program, *words = shlex.split(line)
        assert (program, callable(build().parse_args(words).run)) == ("proxyctl", True), line


def test_the_check_of_the_whole_migration_goes_into_its_example(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", section("A whole migration"), re.MULTILINE | re.DOTALL)
    (tmp_path / "home-assistant.token").write_text("secret")
    path = tmp_path / "home.yaml"
    path.write_text(f"{(ROOT / 'config/examples/home-assistant.yaml').read_text()}\n{text}")
    (check,) = load(path, environ={}).consistency
    assert [rule.path for rule in check.rules] == ["/id", "/weather"]


def test_its_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"\]\(([\w/.-]+\.png)\)", (ROOT / "README.md").read_text())
    assert len(pictures) >= 3
    for name in pictures:
        data = (ROOT / name).read_bytes()
        assert data.startswith(b"\x89PNG\r\n"), name
        assert len(data) < 200_000, name
