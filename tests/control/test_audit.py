"""The audit trail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.control.audit import MAX_TEXT, Audit, Entry, lines_backwards
from tests.control.fakes import Clock
from tests.control.helpers import stuck_pool

pytestmark = pytest.mark.asyncio


def entry(epoch: int, action: str = "set-weight", route: str = "events") -> Entry:
    return Entry("", epoch, epoch - 1, "somebody@host", action, route)


async def test_newest_first_filtered_and_limited(state_dir: Path) -> None:
    audit = Audit(state_dir / "audit.jsonl", Clock(1_700_000_000.5))
    for epoch in range(1, 6):
        await audit.write(entry(epoch, "revert" if epoch == 2 else "set-weight", "a" if epoch % 2 else "b"))
    assert [each.epoch for each in await audit.history(3)] == [5, 4, 3]
    assert [each.epoch for each in await audit.history(10, "a")] == [5, 3, 1]
    assert [each.epoch for each in await audit.history(1, "b", "revert")] == [2]
    assert await audit.history(5, "c") == []
    assert (await audit.history(1))[0].at == "2023-11-14T22:13:20.500Z"
    assert audit.last_epoch() == 5
    assert (state_dir / "audit.jsonl").stat().st_mode & 0o777 == 0o600


async def test_of_a_time_and_in_pages(state_dir: Path) -> None:
    clock = Clock()
    audit = Audit(state_dir / "audit.jsonl", clock)
    for epoch, at in enumerate((10.0, 10.001, 10.002, 9.0, 11.0), 1):
        clock.now = 1_700_000_000 + at
        await audit.write(entry(epoch))

    async def epochs(since: float = 0.0, until: float = 1000.0) -> list[int]:
        found = await audit.history(10, since=1_700_000_000 + since, until=1_700_000_000 + until)
        return [each.epoch for each in found]

    assert await epochs(since=10.001) == [5, 3, 2]
    assert await epochs(since=10.0011) == [5, 3]
    assert await epochs(until=10.001) == [4, 1], "also where the clock was set back"
    assert await epochs(until=10.0011) == [4, 2, 1]
    assert await epochs(since=10.0, until=11.0) == [3, 2, 1]
    pages = [await audit.history(2, since=1_700_000_009.5, offset=offset) for offset in (0, 2, 4)]
    assert [[each.epoch for each in page] for page in pages] == [[5, 3], [2, 1], []]


async def test_no_file_is_no_history(state_dir: Path) -> None:
    audit = Audit(state_dir / "audit.jsonl", Clock())
    assert await audit.history(5) == []
    assert audit.last_epoch() == 0


async def test_damaged_lines_are_passed_over_and_counted(state_dir: Path) -> None:
    path = state_dir / "audit.jsonl"
    audit = Audit(path, Clock())
    await audit.write(entry(1))
    with path.open("ab") as file:
        file.write(b'{"at":"2026')  # what a power cut leaves
    await audit.write(entry(2))
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n[]\n")
    assert [each.epoch for each in await audit.history(5)] == [2, 1]
    assert audit.damaged == 3


async def test_long_texts_are_cut(state_dir: Path) -> None:
    audit = Audit(state_dir / "audit.jsonl", Clock())
    written = await audit.write(Entry("", 1, 0, "a" * 5000, "stage", reason="r" * 5000))
    assert len(written.actor) == len(written.reason) == MAX_TEXT


async def test_nobody_else_holds_a_write_up(state_dir: Path) -> None:
    audit = Audit(state_dir / "audit.jsonl", Clock())
    with stuck_pool():
        async with asyncio.timeout(5):
            await audit.write(entry(1))
    assert audit.last_epoch() == 1


async def test_it_ends_with_what_is_under_way(state_dir: Path) -> None:
    audit = Audit(state_dir / "audit.jsonl", Clock())
    writing = asyncio.create_task(audit.write(entry(1)))
    await asyncio.sleep(0)
    audit.close()
    await writing
    assert audit.last_epoch() == 1
    with pytest.raises(RuntimeError, match="shutdown"):
        await audit.write(entry(2))


@pytest.mark.parametrize("length", [1, 100, 64 * 1024, 64 * 1024 + 1, 200_000])
async def test_lines_backwards_over_chunk_borders(state_dir: Path, length: int) -> None:
    path = state_dir / "f"
    lines = [bytes([97 + i]) * length for i in range(5)]
    path.write_bytes(b"\n".join(lines))
    assert list(lines_backwards(path)) == lines[::-1]
    path.write_bytes(b"\n".join(lines) + b"\n\n")
    assert list(lines_backwards(path)) == lines[::-1]
