"""The audit trail."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.control.audit import MAX_TEXT, Audit, Entry, lines_backwards
from tests.control.fakes import Clock

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


@pytest.mark.parametrize("length", [1, 100, 64 * 1024, 64 * 1024 + 1, 200_000])
async def test_lines_backwards_over_chunk_borders(state_dir: Path, length: int) -> None:
    path = state_dir / "f"
    lines = [bytes([97 + i]) * length for i in range(5)]
    path.write_bytes(b"\n".join(lines))
    assert list(lines_backwards(path)) == lines[::-1]
    path.write_bytes(b"\n".join(lines) + b"\n\n")
    assert list(lines_backwards(path)) == lines[::-1]
