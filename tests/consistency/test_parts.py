"""Rows of a window in parts: nothing is lost on the way to disk and back, and every name is in one part alone."""

from __future__ import annotations

import errno
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistency import judge as judging
from consistency.classes import Class, Record
from consistency.compare import Judge
from consistency.identity import Naming
from consistency.judge import BACK_OFF, Checker, Judged
from consistency.parts import FAN_OUT, NoRoom, Parts, everything, size_of
from consistency.repair import Repair
from consistency.rows import Row, Span
from consistency.rules import Rules
from consistency.stores.protocol import CHUNK
from consistency.verify import OneWindow
from proxy.core import owed
from proxy.core.event import NEW, OLD
from tests.consistency.fakes import Clock, MemoryRecords, MemoryStore

BOTH = Record.of(owed.DELIVERED, owed.DELIVERED)
values = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.none() | st.integers()),
)
rows = st.lists(
    st.builds(
        Row,
        st.integers(0, 40).map(str) | st.text(alphabet=st.characters()),  # some stand there often
        st.integers(0, 10**18),
        st.dictionaries(st.text(min_size=1), values, max_size=3),
    )
)


def name_of(row: Row) -> str:
    return row.identity


@given(old=rows, new=rows, most=st.integers(0, 20_000))
@settings(max_examples=min(settings().max_examples, 300))  # files are written and read: more take a quarter of an hour
def test_all_rows_come_back_in_order_and_a_name_is_in_one_part(old: list[Row], new: list[Row], most: int) -> None:
    parts = Parts(name_of, most)
    for start in range(0, max(len(old), len(new)), 7):
        parts.add(OLD, old[start : start + 7])
        parts.add(NEW, new[start : start + 7])
    names: Counter[str] = Counter()
    found: dict[str, tuple[list[Row], list[Row]]] = {}
    for part in parts:
        here = {row.identity for row in part.old + part.new}
        names.update(here)
        assert all(part.has(name) for name in here)
        assert not any(part.has(name) for name in found)
        for name in here:
            found[name] = (
                [row for row in part.old if row.identity == name],
                [row for row in part.new if row.identity == name],
            )
    assert set(names.values()) <= {1}
    for name, (olds, news) in found.items():
        assert olds == [row for row in old if row.identity == name]
        assert news == [row for row in new if row.identity == name]
    assert found.keys() == {row.identity for row in old + new}


def test_what_fits_is_one_part_and_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", full_disk)
    parts = Parts(name_of, 10**6)
    parts.add(OLD, some_rows(100))
    (part,) = parts
    assert part.is_all
    assert part.has is everything
    assert (len(part.old), part.new) == (100, [])


def test_a_part_that_is_too_large_is_split_again() -> None:
    parts = Parts(name_of, size_of(some_rows(1)) * 50)
    for start in range(0, 20_000, CHUNK):
        parts.add(OLD, some_rows(CHUNK, start))
    sizes = [len(part.old) for part in parts]
    assert sum(sizes) == 20_000
    assert len(sizes) > FAN_OUT**2, "twice and more"
    assert max(sizes) < 150, "and hardly one is larger than it should be"


def test_one_name_with_many_rows_is_one_part() -> None:
    parts = Parts(name_of, 1000)
    parts.add(OLD, [Row("a", number, {}) for number in range(3000)])
    parts.add(NEW, [Row("a", number, {}) for number in range(3000)])
    sizes = [(len(part.old), len(part.new)) for part in parts]
    assert [size for size in sizes if size != (0, 0)] == [(3000, 3000)]


def test_files_are_closed_whether_or_not_all_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    real = tempfile.TemporaryFile

    def kept() -> Any:
        made.append(real(dir=tmp_path))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", kept)
    for stop_after in (1, 10**9):
        parts = Parts(name_of, 5000)
        parts.add(OLD, some_rows(2000))
        given = iter(parts)
        for number, _ in enumerate(given, 1):
            if number == stop_after:
                break
        given.close()
        parts.close()
    assert len(made) > FAN_OUT
    assert all(file.closed for file in made)
    assert list(tmp_path.iterdir()) == [], "nothing that a kill would leave behind"


def some_rows(count: int, start: int = 0) -> list[Row]:
    return [Row(f"e{number:06d}", number, {"n": number, "t": 0.5}) for number in range(start, start + count)]


def full_disk(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", full_disk)
    with pytest.raises(NoRoom, match="No space left on device"):
        Parts(name_of, 100).add(OLD, some_rows(2000))


class Stand:
    """Of two stores new lacks every fifth event."""

    def __init__(self, count: int = 4000) -> None:
        self.old = MemoryStore(some_rows(count))
        self.new = MemoryStore([row for row in some_rows(count) if row.at % 5], name="new")
        self.records = MemoryRecords()
        for row in some_rows(count):
            self.records.put(row.identity, row.at, BOTH)
        self.clock = Clock()
        self.window = Span(0, count)

    def checker(self, memory: int = 1_000_000) -> Checker:
        judge = Judge(Rules(), Naming(), self.records.covers)
        return Checker(
            self.old,
            self.new,
            self.records,
            judge,
            memory=memory,
            sleep=self.clock.sleep,
            wall=lambda: self.window.end,
        )

    async def judge(self, memory: int = 1_000_000) -> Judged:
        return await self.checker(memory).judge(self.window)


@pytest.mark.asyncio
async def test_the_back_off_is_slept_through_once_and_not_for_each_part() -> None:
    stand = Stand()
    judged = await stand.judge()
    assert (judged.counts.classes[Class.LOST], judged.counts.classes[Class.EQUAL]) == (800, 3200)
    assert [each.key.at for each in judged.findings] == list(range(0, 4000, 5)), "in order of time, over all parts"
    assert stand.clock.slept == list(BACK_OFF)


@pytest.mark.asyncio
async def test_a_stray_is_judged_with_its_part_alone() -> None:
    stand = Stand()
    stand.new.put([Row("e000005", 10**6, {"n": 5, "t": 0.5})])
    judged = await stand.checker().judge(stand.window, [Row("e000005", 10**6, {}).key])
    assert (judged.counts.classes[Class.LOST], judged.counts.settled) == (799, 4000)


@pytest.mark.asyncio
async def test_without_room_on_disk_nothing_is_said_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", full_disk)
    judged = await Stand().judge()
    assert "No space left on device" in judged.inconclusive
    assert judged.counts.settled == 0
    assert (await Stand().judge(memory=10**8)).inconclusive == "", "and who has memory needs no disk"


@pytest.mark.asyncio
async def test_more_than_is_listed_is_counted_and_mended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MOST_FINDINGS", 150)
    stand = Stand()
    judged = await stand.judge()
    assert (len(judged.findings), judged.unlisted, judged.counts.classes[Class.LOST]) == (150, 650, 800)
    assert judged.against_new == 800
    assert [each.key.at for each in judged.findings] == list(range(0, 750, 5)), (
        "the earliest, whatever parts come first"
    )
    dry = OneWindow(stand.checker(), Repair(stand.old, stand.new, is_dry=True))
    await dry.judge(stand.window, [])
    assert (dry.repaired.written, dry.unlisted) == ({"old": 0, "new": 150}, 650)
    real = OneWindow(stand.checker(), Repair(stand.old, stand.new))
    judged = await real.judge(stand.window, [])
    assert (real.repaired.written, real.unlisted) == ({"old": 0, "new": 800}, 0)
    assert (judged.counts.classes[Class.EQUAL], judged.counts.mismatches, judged.unlisted) == (4000, 0, 0)
    assert judged.against_new == 0


@pytest.mark.asyncio
async def test_a_store_that_keeps_nothing_is_not_written_to_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MOST_FINDINGS", 150)
    stand = Stand()
    written: list[Row] = []

    async def write(rows: list[Row]) -> int:
        written.extend(rows)
        return len(rows)

    monkeypatch.setattr(stand.new, "write", write)
    window = OneWindow(stand.checker(), Repair(stand.old, stand.new))
    judged = await window.judge(stand.window, [])
    assert (len(written), judged.counts.classes[Class.LOST], window.unlisted) == (150, 800, 650)


def test_a_disk_that_fills_up_while_writing_says_so_and_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("r+b"))  # noqa: SIM115 - as it is used
    parts = Parts(name_of, 100)
    with pytest.raises(NoRoom, match="No space left on device"):
        parts.add(OLD, some_rows(100_000))
    parts.close()
