"""What the tests of proxyctl share: an instance at the default address, and a command line that is read back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.cli import waiting
from proxy.cli.main import main
from tests.cli.fake_admin import FakeAdmin, serving

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, from where another process can import proxyctl."""


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed to stdout, read as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """What it printed to stderr, read as a JSON error."""
        return json.loads(self.err)["error"]


Ctl = Callable[..., Done]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home and working directory with a short path, and nothing of proxyctl in the environment."""
    for name in [name for name in os.environ if name.startswith("PROXYCTL_")]:
        monkeypatch.delenv(name)
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / "xdg"))
    monkeypatch.chdir(directory)
    monkeypatch.setattr(waiting, "POLL", 0.01)
    # The default TCP address may be in use on this machine: tests look at a port that nobody can have.
    monkeypatch.setattr("proxy.cli.endpoints.DEFAULT_URL", "http://127.0.0.1:1")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Ctl:
    """Run one command line in this process."""

    def run(*words: str) -> Done:
        capsys.readouterr()
        code = main(words)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def admin(home: Path) -> Iterator[FakeAdmin]:
    """An instance at the default Unix socket."""
    fake = FakeAdmin()
    (home / "crossfade-state").mkdir()
    with serving(fake, "crossfade-state/admin.sock"):
        yield fake


@pytest.fixture
def tcp(home: Path) -> Iterator[tuple[FakeAdmin, str]]:
    """An instance on TCP with an operator and a viewer, and its address."""
    fake = FakeAdmin()
    fake.tokens = {"ann": ("operator", "cf_ann"), "vic": ("viewer", "cf_vic")}
    with serving(fake) as address:
        yield fake, address


class FakeClock(waiting.Clock):
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Seconds slept so far."""
        return self.time

    def sleep(self, duration: float) -> None:
        """Let time pass."""
        self.time += duration


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until somebody sleeps."""
    return FakeClock()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal on stdin; what is in the list is what a person types."""
    typed: list[str] = []

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return typed.pop(0)

    monkeypatch.setattr("sys.stdin", Terminal())
    return typed
