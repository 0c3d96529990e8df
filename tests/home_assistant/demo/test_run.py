"""Whatever goes wrong is said in a line, everything is stopped, and the exit code is 1."""

from __future__ import annotations

import tempfile
from pathlib import Path

import aiohttp
import pytest

from deploy.home_assistant.demo.run import run
from deploy.home_assistant.demo.story import Story
from deploy.home_assistant.session import ApiError
from deploy.influxdb import InfluxError

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    "error",
    [
        ApiError("POST /api/states/sensor.room_1: 500"),
        InfluxError("engine: no space left"),
        aiohttp.ServerDisconnectedError("Server disconnected"),
        RuntimeError("missing influxdb; install it"),
        TimeoutError("the automatic revert did not happen within 60 s"),
        ValueError("only 3 changes went both ways, not 20"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_goes_wrong_is_said(
    error: Exception, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def play(story: Story) -> None:
        raise error

    monkeypatch.setattr(Story, "play", play)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    assert await run(fast=True, output="text", lose=0) == 1
    out, said = capsys.readouterr()
    assert out.endswith(f"FAILED: {error}\n")
    (kept,) = found(directory)
    assert said == f"logs and stores are kept in {kept}\n"
    assert alive(kept) == []


def found(directory: Path) -> list[Path]:
    return [*directory.iterdir()]


def alive(directory: Path) -> list[Path]:
    """Processes whose command line names a file of the demo's."""
    return [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if str(directory).encode() in _read(entry)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it has ended
