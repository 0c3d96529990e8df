"""A full disk: 503 with Retry-After before dispatch, nothing accepted is lost, and it recovers by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.load import until_accepted, wait_until
from tests.harness.scene import paced, scene

DISK_MIB = 48


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own; making one needs root, and without it this test fails."""
    path = Path(tempfile.mkdtemp(prefix="cf-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "crossfade-test", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)
    shutil.rmtree(path)


def fill(path: Path) -> None:
    """Write until there is no byte left."""
    with path.open("wb", buffering=0) as ballast:
        for size in (64 * 2**10, 1):
            with contextlib.suppress(OSError):
                while ballast.write(bytes(size)) == size:
                    pass


@pytest.mark.asyncio
async def test_a_full_disk_refuses_and_recovers(small_disk: Path) -> None:
    def small(config: dict[str, Any]) -> None:
        config["state_dir"] = str(small_disk / "state")
        config["ledger"] |= {"reserve": "4MiB", "min_free": "4MiB", "segment_size": "4MiB"}

    async with scene(small, stage="dualwrite") as opened:
        await opened.new.fault("down")  # so that every event needs the ledger
        load = opened.load(rate=200.0, patience=0.0, pad=4_000)
        await until_accepted(load, 100)
        ballast = small_disk / "ballast"
        fill(ballast)
        assert os.statvfs(small_disk).f_bavail * 4096 < 8 * 2**20
        await wait_until(lambda: load.record.retry_after >= 50, 30, "50 refusals with Retry-After")
        assert load.record.statuses.keys() == {201, 503}
        assert load.record.retry_after == load.record.statuses[503]
        assert not load.record.failures

        await opened.new.fault("none")
        await opened.settled()  # draining goes on while the disk is full
        ballast.unlink()
        await until_accepted(load, paced(200))
        record = await load.stop()
        assert not record.failures, record.errors_text()
        await opened.verify(record)
