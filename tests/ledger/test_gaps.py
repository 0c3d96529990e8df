"""Coverage gaps: when the record may be incomplete it says so, and only then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.core.owed import DELIVERED
from proxy.ledger import keeper as keeper_module
from proxy.ledger.entry import Stream
from tests.ledger.support import Ledgers, event, rows, until

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "RESUME_GRACE", 0.02)
    monkeypatch.setattr(keeper_module, "GAP_AFTER", 0.15)
    monkeypatch.setattr(keeper_module, "HEARTBEAT_EVERY", 0.03)


def gaps_of(ledgers: Ledgers) -> list[tuple[Any, ...]]:
    return [
        row
        for path in sorted(ledgers.directory.glob("segment-*.db"))
        for row in rows(path, "SELECT from_ns, to_ns, reason FROM gap")
    ]


def open_streams(ledgers: Ledgers) -> int:
    [(n,)] = rows(sorted(ledgers.directory.glob("segment-*.db"))[-1], "SELECT count(*) FROM stream WHERE closed = 0")
    assert isinstance(n, int)
    return n


async def test_worker_and_ledger_died_together(ledgers: Ledgers, caplog: pytest.LogCaptureFixture) -> None:
    await ledgers.start()
    worker = await ledgers.worker("s1", 3)
    await worker.say_durably([event(1)], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 200)])
    said_at = ledgers.clock()
    await ledgers.stop(clean=False)
    await worker.die()
    ledgers.clock.go(60)
    keeper = await ledgers.start()
    await until(lambda: gaps_of(ledgers), "a gap")
    assert gaps_of(ledgers) == [(said_at, ledgers.clock(), "worker 3 and the ledger died together")]
    assert "coverage gap" in caplog.text
    figures = await keeper.figures()
    assert (figures.gaps, figures.last_gap_ns > 0) == (1, True)
    summary = await keeper.queries.answer("summary", {})
    assert [gap["reason"] for gap in summary["gaps"]] == ["worker 3 and the ledger died together"]
    await ledgers.stop(clean=False)
    await ledgers.start()
    await asyncio.sleep(0.3)
    assert len(gaps_of(ledgers)) == 1, "it is recorded once"


async def test_the_ledger_alone_died(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    real = keeper_module.Keeper._close_awaited

    def judge(self: keeper_module.Keeper, awaited: list[Stream]) -> None:
        real(self, awaited)
        judged.append(len(awaited))

    monkeypatch.setattr(keeper_module.Keeper, "_close_awaited", judge)
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)])
    await ledgers.stop(clean=False)
    await worker.die()
    judged.clear()
    await ledgers.start()
    await worker.connect()
    await until(lambda: judged, "the look for gaps")
    assert judged == [1]
    await worker.say_durably([event(2)])
    await worker.die()
    await until(lambda: open_streams(ledgers) == 0, "the stream ended in order")
    assert gaps_of(ledgers) == []


async def test_a_worker_alone_died(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)])
    await worker.die()
    await until(lambda: open_streams(ledgers) == 0, "everything it said is in the record, so it is closed")
    await ledgers.stop(clean=False)
    keeper = await ledgers.start()
    assert [stream.closed for stream in keeper.book.streams.values()] == [True]
    assert gaps_of(ledgers) == []


async def test_an_orderly_stop_leaves_no_gap(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)])
    await ledgers.stop()
    await worker.die()
    keeper = await ledgers.start()
    assert list(keeper.book.streams) == ["s1"], "it may come back to us"
    await until(lambda: open_streams(ledgers) == 0, "but it did not")
    assert gaps_of(ledgers) == []


async def test_an_orderly_stop_after_its_workers_leaves_no_gap_whatever_its_successor_meets(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)])
    await worker.die()
    await ledgers.stop()
    assert open_streams(ledgers) == 0
    await ledgers.start()
    await ledgers.stop(clean=False)
    await ledgers.start()
    await asyncio.sleep(0.2)
    assert gaps_of(ledgers) == []


@pytest.mark.parametrize("has_said", [True, False])
async def test_a_worker_that_was_away_at_an_orderly_stop_goes_on_where_it_was(ledgers: Ledgers, has_said: bool) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    if has_said:
        await worker.say_durably([event(1)])
    await worker.die()
    await ledgers.stop()
    await ledgers.start()
    await worker.connect()
    assert worker.welcome == int(has_said)
    await worker.say_durably([event(2)])
    assert open_streams(ledgers) == 1
    assert gaps_of(ledgers) == []


async def test_a_worker_that_was_forgotten_begins_anew(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "FORGET_AFTER", 0.05)
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)])
    await worker.die()
    await until(lambda: not keeper.book.streams, "it is forgotten")
    await worker.connect()
    assert worker.welcome == 0
    await until(lambda: open_streams(ledgers) == 1, "its new life is in the record")


async def test_a_gap_is_not_forgotten_by_an_orderly_stop(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)])
    await ledgers.stop(clean=False)
    await worker.die()
    await ledgers.start()
    await ledgers.stop()
    await ledgers.start()
    await until(lambda: len(gaps_of(ledgers)) == 1, "a gap")


async def test_a_quiet_streams_gap_begins_at_its_last_heartbeat(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)])
    ledgers.clock.go(100)
    path = ledgers.directory / "segment-00000001.db"
    await until(lambda: rows(path, "SELECT last_ns FROM stream") == [(ledgers.clock(),)], "a heartbeat")
    last = ledgers.clock()
    await ledgers.stop(clean=False)
    await worker.die()
    ledgers.clock.go(5)
    await ledgers.start()
    await until(lambda: gaps_of(ledgers), "a gap")
    assert gaps_of(ledgers)[0][0] == last
