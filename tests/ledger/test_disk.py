"""The reserve and the low-disk flag; then a really full disk: a small tmpfs."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.owed import DELIVERED
from proxy.ledger.disk import Disk
from proxy.ledger.marks import LOW_DISK
from tests.ledger.support import Ledgers, event, rows, settings_for, short_directory, until

MIB = 2**20


class SmallDisk(Disk):
    """A disk whose room a test tells."""

    room = 100 * MIB

    def free(self) -> int:
        return self.room - (MIB if (self._directory / "reserve").exists() else 0)


def test_the_reserve_is_made_when_there_is_room_for_it(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, MIB, MIB)
    disk.room = MIB
    assert disk.check(), "no reserve yet, so the disk is low"
    disk.room = 10 * MIB
    assert not disk.check()
    assert disk.has_reserve()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= MIB, "really allocated"
    assert stat.S_IMODE((tmp_path / "reserve").stat().st_mode) == 0o600


def test_low_begins_below_the_limit_and_ends_well_above_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = SmallDisk(tmp_path, 0, 10 * MIB)
    assert not disk.check()
    disk.room = 9 * MIB
    assert disk.check()
    disk.room = int(10.5 * MIB)
    assert disk.check(), "it does not flap"
    disk.room = 12 * MIB
    assert not disk.check()
    assert "nearly full" in caplog.text
    assert "there is room" in caplog.text


def test_a_released_reserve_is_made_again(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, MIB, MIB)
    assert not disk.check()
    assert disk.release()
    assert disk.is_low
    assert not disk.release(), "it was spent already"
    disk.room = MIB
    assert disk.check()
    disk.room = 10 * MIB
    assert not disk.check()
    assert disk.has_reserve()
    assert disk.released == 1


def test_without_a_reserve_there_is_nothing_to_release(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, 0, 0)
    assert not disk.check()
    assert disk.has_reserve()
    assert not disk.release()


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    """A file system of 24 MiB. Mounting needs root; where that is not so, this fails and is not skipped."""
    with short_directory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(directory)], check=True)
        try:
            yield directory
        finally:
            subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        chunk = b"x" * 65536
        while chunk:
            try:
                file.write(chunk)
            except OSError:
                chunk = chunk[: len(chunk) // 2]


@pytest.mark.asyncio
async def test_on_a_full_disk_nothing_is_lost_and_draining_goes_on(tmpfs: Path) -> None:
    ledgers = Ledgers(tmpfs, settings_for(tmpfs, reserve="4MiB", min_free="1MiB"))
    keeper = await ledgers.start()
    try:
        worker = await ledgers.worker()
        assert not ledgers.marks.flag(LOW_DISK)
        ledgers.backends.open.clear()
        await worker.say_durably([event(1, handed=2)], [(1, 0, DELIVERED, 200)])
        await asyncio.to_thread(fill, tmpfs / "others")
        n = 1
        while keeper.committer.counters["disk_full"] == 0:
            n += 1
            assert n < 200
            big = event(n, key=f"k{n}", handed=2, body=b"b" * 65536)
            await worker.say_durably([big], [(n, 0, DELIVERED, 200)])  # with the reserve's help
        await until(lambda: ledgers.marks.flag(LOW_DISK), "workers see that the disk is low")
        assert keeper.is_low
        assert not (tmpfs / "ledger" / "reserve").exists()
        ledgers.backends.open.set()
        await until(lambda: len(ledgers.backends.got) == n, "the backlog drains on the full disk")
        await until(lambda: set(ledgers.states().values()) == {("delivered", "delivered")}, "and that is recorded")
        os.unlink(tmpfs / "others")
        await until(lambda: not ledgers.marks.flag(LOW_DISK), "there is room again")
        assert (tmpfs / "ledger" / "reserve").exists()
        assert ledgers.deaths == []
        await worker.die()
    finally:
        await ledgers.stop()


@pytest.mark.asyncio
async def test_a_commit_without_any_room_waits_for_it(tmpfs: Path) -> None:
    ledgers = Ledgers(tmpfs, settings_for(tmpfs, reserve="64KiB", min_free="0B"))
    keeper = await ledgers.start()
    try:
        worker = await ledgers.worker()
        await worker.say_durably([event(1)])
        await asyncio.to_thread(fill, tmpfs / "others")
        number = worker.say([event(2, key="big", body=b"b" * 2 * MIB)], urgent=True)
        await until(lambda: keeper.committer.counters["disk_full"] >= 2, "tried again and again")
        assert worker.durable < number
        os.unlink(tmpfs / "others")
        await until(lambda: worker.durable >= number, "durable once there is room")
        assert rows(tmpfs / "ledger" / "segment-00000001.db", "SELECT count(*) FROM receipt") == [(2,)]
        assert ledgers.deaths == []
        await worker.die()
    finally:
        await ledgers.stop()
