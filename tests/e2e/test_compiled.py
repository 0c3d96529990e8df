"""The compiled modules are really what runs, and what they answer is what their sources answer."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from benchmarks import compiled
from tests.conftest import SOAK
from tests.harness.scene import scene

FOLDERS = ("tests/core", "tests/http", "tests/ledger", "tests/websocket")
"""Where the tests of the compiled modules are."""
SLOW = ("tests/http/test_policies.py", "tests/ledger/test_keeper.py", "tests/ledger/test_process.py")
"""They wait more than they compute; the soak runs them too, all of them in their short form."""
EVERY = 15
"""Of the other tests, each of which has passed over the sources, one of so many; the soak runs all."""


def maps(pid: int) -> str:
    """What a process has mapped: its extension modules among it."""
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.asyncio
async def test_workers_and_ledger_run_the_compiled_modules() -> None:
    async with scene(stage="live", weight=50) as opened:
        for role in ("worker", "ledger"):
            for pid in opened.instance.pids(role):
                assert str(compiled.COMPILED) in maps(pid), role


def test_the_wheel_has_every_module_that_is_to_be_compiled() -> None:
    wheel = tomllib.loads((compiled.ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    [path] = (compiled.ROOT / "build" / "wheel").iterdir()
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    for module in wheel["hooks"]["custom"]["modules"]:
        assert module in names, "tracebacks show the source"
        stem = module.removesuffix(".py")
        assert [name for name in names if name.startswith(f"{stem}.") and name.endswith(".so")], module
    assert not path.name.endswith("-none-any.whl")


@pytest.mark.timeout(900 if SOAK else 300)
def test_the_compiled_modules_pass_the_tests_of_their_sources() -> None:
    folders = f"{compiled.build()}{os.pathsep}{compiled.ROOT}"
    # Which library is at the other end of a session makes no difference to what is compiled.
    skipped = [] if SOAK else [*(f"--ignore={path}" for path in SLOW), "-k", "not aiohttp"]
    ended = subprocess.run(
        [
            sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "pythonpath=",
            "-m", "not plain", *FOLDERS, *skipped,
        ],
        cwd=compiled.ROOT,
        env=os.environ
        | {"PYTHONPATH": folders, "CROSSFADE_COMPILED": "1", "CROSSFADE_SOAK": "0"}
        | {"CROSSFADE_EVERY": str(1 if SOAK else EVERY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
