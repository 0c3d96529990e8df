"""Group commit: when it commits, and what it does when the disk fails."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
import pytest_asyncio

from proxy.ledger import committer
from proxy.ledger.committer import Committer
from proxy.ledger.disk import Disk
from proxy.ledger.entry import Stream
from tests.ledger.support import Desk, event, frame, until

pytestmark = pytest.mark.asyncio


class Bench:
    """A committer on a desk, and what it said."""

    def __init__(self, directory: Path) -> None:
        self.desk = Desk(directory / "ledger")
        self.stream = self.desk.book.hello("s1", 0)
        self.durable: list[int] = []
        self.low: list[bool] = []
        self.deaths: list[str] = []
        self.frames = 0
        self.accepted_ns = 0
        self.committer = Committer(
            self.desk.book, self.desk.store, Disk(directory / "ledger", 0, 0), interval=30.0, now_ns=self.desk.clock,
            durable=self.tell, low=self.low.append, die=self.deaths.append,
        )  # fmt: skip

    def tell(self, streams: list[Stream]) -> None:
        self.durable += [stream.durable for stream in streams]

    def say(self, *, urgent: bool) -> None:
        self.frames += 1
        said = event(self.frames, accepted_ns=self.accepted_ns)
        self.desk.book.take_frame(self.stream, frame(self.frames, [said]))
        self.committer.need(urgent=urgent)

    def leave_the_next(self) -> None:
        """What is said next has just been accepted."""
        self.accepted_ns = self.desk.clock()

    def hold_commits(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Each of them waits for this."""
        gate, real = threading.Event(), self.desk.store.commit

        def slow(group: Any) -> None:
            assert gate.wait(20)
            real(group)

        monkeypatch.setattr(self.desk.store, "commit", slow)
        return gate

    def fail(self, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> Callable[[], int]:
        """Let the next commits raise; how many are left to be raised."""
        left, real = list(errors), self.desk.store.commit

        def commit(group: Any) -> None:
            if left:
                raise left.pop(0)
            real(group)

        monkeypatch.setattr(self.desk.store, "commit", commit)
        return lambda: len(left)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    bench.committer.start()
    yield bench
    if not bench.deaths:
        await bench.committer.close()
    bench.committer.release_thread()
    bench.desk.store.close()


async def test_an_urgent_frame_does_not_wait_for_the_interval(bench: Bench) -> None:
    bench.say(urgent=False)
    bench.say(urgent=True)
    await until(lambda: bench.durable == [2], "one commit for both")
    assert bench.committer.counters["commits"] == 1
    assert 0 < bench.committer.p99() < 30


@pytest.mark.plain
async def test_only_what_nobody_waits_for_may_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    take = bench.desk.book.take

    def note(now_ns: int, young_ns: int = 0) -> Any:
        asked.append(young_ns)
        return take(now_ns, young_ns)

    monkeypatch.setattr(bench.desk.book, "take", note)
    monkeypatch.setattr(bench.committer, "_interval", 0.001)
    bench.say(urgent=True)
    await until(lambda: bench.durable == [1], "written")
    bench.say(urgent=False)
    await until(lambda: bench.durable == [1, 2], "written")
    bench.say(urgent=False)
    bench.say(urgent=True)
    await until(lambda: bench.durable == [1, 2, 4], "written")
    assert asked == [0, int(30.0 * committer.YOUNG * 1e9), 0]


@pytest.mark.plain
async def test_what_was_left_is_written_without_further_news(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.committer, "_interval", 0.01)
    bench.leave_the_next()
    bench.say(urgent=False)
    await until(lambda: bench.durable == [1], "written with the second commit")
    assert bench.committer.counters["commits"] == 2


async def test_who_asks_during_a_commit_waits_for_what_it_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = bench.hold_commits(monkeypatch)
    monkeypatch.setattr(bench.committer, "_interval", 0.01)
    bench.leave_the_next()
    bench.say(urgent=False)
    await until(lambda: bench.desk.book.group_number == 1, "it was left, and the group is being written")
    asked = asyncio.create_task(bench.committer.written())
    gate.set()
    await asked
    assert bench.durable == [1]


async def test_what_comes_during_a_commit_goes_out_with_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = bench.hold_commits(monkeypatch)
    bench.say(urgent=True)
    await asyncio.sleep(0)
    await until(lambda: not bench.desk.book.has_changes(), "the first is being written")
    for _ in range(5):
        bench.say(urgent=True)
    gate.set()
    await until(lambda: bench.durable == [1, 6], "then the five together")
    assert bench.committer.counters["commits"] == 2


async def test_flush_waits_for_everything(bench: Bench) -> None:
    bench.say(urgent=False)
    await bench.committer.flush()
    assert bench.durable == [1]
    await bench.committer.flush()


async def test_a_full_disk_is_tried_again_and_shown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fail(monkeypatch, apsw.FullError("full"), OSError(errno.ENOSPC, "No space left on device"))
    bench.say(urgent=True)
    await until(lambda: bench.durable == [1], "written in the end")
    assert bench.low == [True, True]
    assert bench.committer.counters["disk_full"] == 2
    assert bench.deaths == []


@pytest.mark.parametrize(
    "error", [apsw.IOError("fsync failed"), apsw.CorruptError("malformed"), OSError(5, "Input/output error")]
)
async def test_a_failed_write_ends_the_ledger_and_acknowledges_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    left = bench.fail(monkeypatch, error, RuntimeError("it must not be tried again"))
    bench.say(urgent=True)
    await until(lambda: bench.deaths, "it ends")
    assert "could not write" in bench.deaths[0]
    bench.say(urgent=True)
    await asyncio.sleep(0.01)
    assert bench.durable == []
    assert left() == 1, "never again on the same connection"
    task = bench.committer._task
    assert task is not None
    with pytest.raises(type(error)):
        await task


async def test_commits_gather_while_many_events_are_half_in_the_ledgers_hands(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "GATHER", 0.5)
    bench.desk.book.take_frame(bench.stream, frame(1, [event(n, handed=2) for n in range(committer.MANY)]))
    bench.committer.need(urgent=True)
    await until(lambda: bench.durable == [1], "the first at once")
    for number in (2, 3):
        bench.desk.book.take_frame(bench.stream, frame(number, [event(100 + number)]))
        bench.committer.need(urgent=True)
        await asyncio.sleep(0.02)
    await until(lambda: bench.durable == [1, 3], "then what came meanwhile, together")
    assert bench.committer.counters["commits"] == 2


@pytest.mark.parametrize(("events", "handed"), [(committer.MANY, 0), (committer.MANY, 3), (committer.MANY - 1, 2)])
async def test_neither_whole_ones_nor_a_few_wait_for_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, events: int, handed: int
) -> None:
    monkeypatch.setattr(committer, "GATHER", 20.0)
    for number in (1, 2, 3):
        some = [event(number * 100 + n, handed=handed) for n in range(events)]
        bench.desk.book.take_frame(bench.stream, frame(number, some))
        bench.committer.need(urgent=True)
        await until(lambda wanted=number: bench.durable[-1:] == [wanted], "at once")  # type: ignore[misc]


async def test_sequential_and_deferred_events_do_not_make_others_gather(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "GATHER", 20.0)
    kinds: list[dict[str, Any]] = [{"after_authority": True}, {"deferred": 1, "authority": 1}]
    for number, changes in enumerate(kinds, start=1):
        some = [event(number * 100 + n, **changes) for n in range(committer.MANY)]
        bench.desk.book.take_frame(bench.stream, frame(2 * number - 1, some))
        bench.committer.need(urgent=True)
        await until(lambda wanted=2 * number - 1: bench.durable[-1:] == [wanted], "at once")  # type: ignore[misc]
        bench.desk.book.take_frame(bench.stream, frame(2 * number, [event(number * 100 + 50)]))
        bench.committer.need(urgent=True)
        await until(lambda wanted=2 * number: bench.durable[-1:] == [wanted], "and so the next")  # type: ignore[misc]


async def test_checkpoints_are_made_after_everybody_was_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, seen = threading.Event(), []

    def work() -> None:
        seen.append(list(bench.durable))
        assert gate.wait(20)

    monkeypatch.setattr(bench.desk.store, "checkpoint", work)
    monkeypatch.setattr(bench.desk.store, "is_checkpoint_due", lambda: not gate.is_set())
    bench.say(urgent=True)
    await until(lambda: seen, "a checkpoint")
    assert seen == [[1]]
    before = bench.committer.counters["commits"]
    needed = 0
    real = bench.committer.need

    def need(*, urgent: bool = False) -> None:
        nonlocal needed
        needed += 1
        real(urgent=urgent)

    monkeypatch.setattr(bench.committer, "need", need)
    bench.say(urgent=True)
    flushed = asyncio.create_task(bench.committer.flush())
    await asyncio.sleep(0.05)
    assert needed < 10, "who waits for it does so in peace"
    gate.set()
    await flushed
    assert bench.durable == [1, 2]
    assert bench.committer.counters["commits"] == before + 1


async def test_whatever_ends_the_committer_ends_the_ledger(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(bench.desk.store, "is_checkpoint_due", broken)
    bench.say(urgent=True)
    await until(lambda: bench.deaths, "it ends")
    assert "can't start new thread" in bench.deaths[0]
