"""Upgrades of real processes under load: the new code takes over, a broken one does not, and no event is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.admin import AdminDownError
from proxy.demo.load import until_accepted, wait_until
from tests.harness.scene import NEVER_REVERT, Scene, scene

PACKAGES = ("proxy", "config", "consistency")
ROLES = ["ledger", "supervisor", "worker", "worker"]
DIES = "__import__('os')._exit"
BROKEN = {
    "supervisor": ("proxy/control/supervisor.py", "    async def start(self) -> None:\n", f"        {DIES}(3)\n"),
    "ledger": ("proxy/worker/ledger_process.py", "log = logging.getLogger(__name__)\n", "def broken(:\n"),
    "worker": (
        "proxy/worker/__main__.py",
        "        serving()\n",
        f"        asyncio.get_running_loop().call_later(0.5, {DIES}, 3)\n",
    ),
}
"""By what breaks: a file, a line of it, and what comes behind. It ends as it begins, cannot be read, or dies soon."""


class Versions:
    """Copies of our packages beside each other, and a link to the one that counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0])
        self.link = folder / "current"

    def add(self, name: str, *, broken: str = "") -> None:
        """Install a version, and turn the link to it."""
        for package in PACKAGES:
            shutil.copytree(self.source / package, self.folder / name / package)
        for library in self.source.glob("*__mypyc*"):
            shutil.copy(library, self.folder / name)
        if broken:
            path, line, more = BROKEN[broken]
            file = self.folder / name / path
            text = file.read_text()
            assert line in text
            file.write_text(text.replace(line, line + more, 1))
        young = self.folder / "young"
        young.symlink_to(name)
        young.rename(self.link)


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    made = Versions(tmp_path)
    made.add("1")
    monkeypatch.setenv("PYTHONPATH", str(made.link))
    return made


def patient(config: dict[str, Any]) -> None:
    config["upgrade_timeout"] = "60s"
    config["drain_timeout"] = "5s"


async def upgrade(opened: Scene) -> dict[str, Any]:
    """Ask for one; its state at the end."""
    begun = await opened.admin.ask("POST", "/api/v1/upgrade", {})
    state: dict[str, Any] = {}

    while state.get("number") != begun["number"] or state["phase"] != "ended":
        opened.instance.check()
        await asyncio.sleep(0.1)
        with suppress(AdminDownError):  # its supervisor is replaced as well
            state = await opened.admin.ask("GET", "/api/v1/switch")
    return state


def code_of(pid: int) -> str:
    """The version that a process was started from."""
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    path = next(each for each in environ if each.startswith(b"PYTHONPATH="))
    return Path(path.decode().removeprefix("PYTHONPATH=").split(os.pathsep)[0]).name


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_a_new_version_takes_over_and_loses_nothing(versions: Versions) -> None:
    async with scene(patient, stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=150.0)
        await until_accepted(load, 100)
        versions.add("2")
        state = await upgrade(opened)
        assert (state["result"], state["reason"]) == ("done", "")
        await wait_until(lambda: sorted(opened.instance.processes().values()) == ROLES, 30, "the end of the old ones")
        assert {code_of(pid) for pid in opened.instance.processes()} == {"2"}
        await until_accepted(load, 100)
        record = await load.stop()
        assert set(record.statuses) <= {201, 202}, record.statuses
        await opened.verify(record)


@pytest.mark.asyncio
@pytest.mark.timeout(600)
async def test_a_broken_version_leaves_the_service_as_it_was(versions: Versions) -> None:
    async with scene(patient, stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=150.0)
        await until_accepted(load, 100)
        before = opened.instance.processes()
        for broken, result in (("supervisor", "put-back"), ("ledger", "refused"), ("worker", "put-back")):
            versions.add(f"broken-{broken}", broken=broken)
            state = await upgrade(opened)
            assert (state["result"], broken in state["reason"]) == (result, True), state
            await wait_until(lambda: opened.instance.processes() == before, 30, "the end of the new ones")
            await until_accepted(load, 50)
        record = await load.stop()
        assert set(record.statuses) <= {201, 202}, record.statuses
        await opened.verify(record)
