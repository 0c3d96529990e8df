"""The environment is what the lock says, and is made again only for another lock."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deploy.home_assistant import install

_LIST = """
from importlib.metadata import distributions
for each in distributions():
    print(each.name, each.version)
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_environment_has_what_the_lock_pins_and_nothing_else() -> None:
    python = install.prepare()
    done = subprocess.run([python, "-I", "-c", _LIST], check=True, capture_output=True, text=True)
    found = {normal(name): version for name, version in map(str.split, done.stdout.splitlines())}
    pinned = re.findall(r"^([a-z0-9-]+)==(\S+)( ; .*sys_platform == '(?!linux).*)?", install.LOCK.read_text(), re.M)
    assert found == {name: version for name, version, elsewhere in pinned if not elsewhere}
    assert found["homeassistant"] == "2024.3.3"


def test_what_is_asked_for_by_hand_is_locked() -> None:
    lock = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", install.LOCK.read_text(), re.M))
    wanted = re.findall(r"^([A-Za-z0-9-]+)==(\S+)$", install.LOCK.with_suffix(".in").read_text(), re.M)
    assert len(wanted) > 10
    assert {normal(name): version for name, version in wanted}.items() <= lock.items()


def test_it_is_made_once_for_each_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(environment: Path, python: Path, lock: Path) -> None:
        environment.mkdir(exist_ok=True)
        made.append(lock.read_text())

    monkeypatch.setattr(install, "_install", make)
    lock = tmp_path / "requirements.txt"
    for text in ("one", "one", "two", "two", "one"):
        lock.write_text(text)
        assert install.prepare(tmp_path / "build" / "here", lock) == tmp_path / "build" / "here" / "bin" / "python"
    assert made == ["one", "two", "one"]


def test_one_that_broke_off_is_tried_again(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("fnvhash==0.1.0\n")
    for _ in range(2):
        with pytest.raises(install.InstallError, match=r"(?s)uv pip install failed.*hash"):
            install.prepare(tmp_path / "here", lock)
    lock.write_text("")
    assert install.prepare(tmp_path / "here", lock).exists()


def test_a_python_that_is_too_new_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "NEWEST", (3, 10))
    with pytest.raises(install.InstallError, match=r"runs on Python 3.11 or 3.12, not on 3\."):
        install.prepare(tmp_path / "here")
