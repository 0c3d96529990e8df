"""Credentials in files that are well, none, or on a mount that does not answer."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.gates import Gate
from proxy.control import credentials, notifier
from proxy.control.credentials import MOST_BYTES, credential
from proxy.control.gate_calls import GateCalls, Question
from proxy.core.gate import NO_ANSWER
from tests.control.conftest import MakePlane
from tests.control.helpers import eventually, stuck_pool

pytestmark = pytest.mark.asyncio


class Mount:
    """Does not answer before it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0
        self.real = credentials._read

    def read(self, path: str) -> str:
        self.asked += 1
        assert self.answers.wait(60)
        return self.real(path)


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    made = Mount()
    monkeypatch.setattr(credentials, "_read", made.read)
    yield made
    made.answers.set()


def threads() -> int:
    return sum(each.name == "credential" for each in threading.enumerate())


async def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for text in ("one\n", " two "):
        file.write_text(text)
        assert await credential(str(file)) == text.strip()
    file.unlink()
    with pytest.raises(FileNotFoundError):
        await credential(str(file))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large", "bytes"])
async def test_what_is_no_credential_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "token"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "large":
            path.write_bytes(b"x" * (MOST_BYTES + 1))
        case _:
            path.write_bytes(b"\xff\xfe")
    async with asyncio.timeout(5):
        with pytest.raises((OSError, UnicodeDecodeError)) as caught:
            await credential(str(path))
    assert not isinstance(caught.value, TimeoutError)
    await eventually(lambda: threads() == 0)


async def test_a_mount_that_does_not_answer_costs_one_thread(tmp_path: Path, mount: Mount) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await credential(str(file))
    assert (mount.asked, threads()) == (1, 1)
    waiting = [asyncio.create_task(credential(str(file))) for _ in range(3)]
    await asyncio.sleep(0)
    mount.answers.set()
    assert await asyncio.gather(*waiting) == ["secret"] * 3, "it is the read that was under way"
    assert mount.asked == 1
    file.write_text("other")
    assert await credential(str(file)) == "other"


async def test_one_file_does_not_wait_for_another(tmp_path: Path, mount: Mount) -> None:
    (tmp_path / "well").write_text("well")
    hanging = asyncio.create_task(credential(str(tmp_path / "hangs")))
    await eventually(lambda: mount.asked == 1)
    mount.answers.set()
    with stuck_pool():
        assert await credential(str(tmp_path / "well")) == "well"
    with pytest.raises(FileNotFoundError):
        await hanging


async def test_a_gate_says_that_its_credential_does_not_come(tmp_path: Path, mount: Mount) -> None:
    webhook = {"url": "http://127.0.0.1:9", "authorization_file": str(tmp_path / "token")}
    gate = Gate.model_validate({"name": "go", "webhook": webhook, "timeout": "100ms"})
    calls = GateCalls(tmp_path)
    for _ in range(3):
        said = await calls.ask(gate, Question("events", "gates", 1, 3, 10.0, 50.0, 7))
        assert (said.answer, said.text) == (NO_ANSWER, "nothing within 0.1 s")
    assert threads() == 1
    await calls.close()


async def test_changes_go_on_while_a_receivers_credential_does_not_come(
    make_plane: MakePlane, tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(notifier, "MOST_WAIT", 0.01)
    monkeypatch.setattr(notifier, "FLUSH", 0.1)
    receiver: dict[str, Any] = {"name": "x", "url": "http://127.0.0.1:9", "timeout": "100ms"}
    plane = make_plane(notifications=[receiver | {"authorization_file": str(tmp_path / "token")}])
    await plane.start()
    await eventually(lambda: mount.asked)
    await asyncio.sleep(1)
    assert (mount.asked, threads()) == (1, 1)
    async with asyncio.timeout(5):
        await plane.change("stage", stage="live", weight=25)
