"""History copied from one SQLite file into another: nothing twice, nothing over anything, and on after a stop."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from config.consistency import Check
from config.loader import load
from consistency.backfill import TRIES, Backfill, Done, Order, Outcome
from consistency.classes import Record
from consistency.recorded import NoRecords, Recorded, Records, RecordsUnavailable
from consistency.rows import Key, Span
from proxy.core.owed import DEAD, DEFERRED, DELIVERED, PENDING
from tests.consistency.test_verify import BEGIN, SAME, ask, configuration, event, put, rows

asynchronous = pytest.mark.asyncio

SPAN = Span(BEGIN * 10**9, (BEGIN + 600) * 10**9)


class Clock:
    """Time that only sleeping moves. then: what happens at each sleep, by number."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.then: dict[int, Any] = {}

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        if len(self.slept) in self.then:
            self.then[len(self.slept)]()

    def __call__(self) -> float:
        return self.now


class Pending(NoRecords):
    """A ledger that still owes new some events, and answers after some errors."""

    def __init__(self, *names: str, errors: int = 0, state: int = PENDING) -> None:
        self.names = names
        self.state = state
        self.errors = errors

    async def again(self, keys: Sequence[Key]) -> list[Recorded]:
        if self.errors:
            self.errors -= 1
            raise RecordsUnavailable("the ledger is not connected")
        record = Record.of(DELIVERED, self.state)
        return [Recorded(key.identity, record, key.at, (key.identity,)) for key in keys if key.identity in self.names]


def check_of(path: Path) -> Check:
    return load(str(path)).consistency[0]


async def run(folder: Path, order: Order | None = None, records: Records | None = None, **more: Any) -> Outcome:
    clock = more.pop("clock", None) or Clock()
    backfill = Backfill(
        check_of(configuration(folder, **({"new": more.pop("new")} if "new" in more else {}))),
        msgspec.structs.replace(order or Order("old", "new", SPAN), least_window=0),
        records or NoRecords(),
        folder / "state" / "backfill.json",
        sleep=clock.sleep,
        clock=clock,
        **more,
    )
    return await backfill.run()


def stores(folder: Path, old: int = 500, new: Sequence[int] = ()) -> None:
    put(folder, "old", *(event(number) for number in range(old)))
    put(folder, "new", *(event(number) for number in new))


@asynchronous
async def test_what_is_missing_is_copied_once(tmp_path: Path) -> None:
    stores(tmp_path, new=range(100, 150))
    put(tmp_path, "new", event(7, state="newer"))
    outcome = await run(tmp_path)
    assert (outcome.error, outcome.resumed_at) == ("", None)
    assert (outcome.done.read, outcome.done.written) == (500, 449)
    assert rows(tmp_path, "new") == [event(n, state="newer") if n == 7 else event(n) for n in range(500)]
    again = await run(tmp_path)
    assert (again.done.read, again.done.written) == (500, 0)
    assert not (tmp_path / "state" / "backfill.json").exists(), "there is nothing to go on with"


@asynchronous
async def test_it_goes_both_ways_and_within_its_span(tmp_path: Path) -> None:
    stores(tmp_path, old=0, new=range(500))
    outcome = await run(tmp_path, Order("new", "old", Span(SPAN.start + 100 * 10**9, SPAN.start + 200 * 10**9)))
    assert outcome.done.written == 100
    assert rows(tmp_path, "old") == [event(n) for n in range(100, 200)]


@asynchronous
async def test_a_row_that_stands_twice_is_written_once(tmp_path: Path) -> None:
    put(tmp_path, "old", event(1), event(1), event(2))
    put(tmp_path, "new")
    assert (await run(tmp_path)).done.written == 2
    assert rows(tmp_path, "new") == [event(1), event(2)]


@asynchronous
async def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    stores(tmp_path, new=range(10))
    outcome = await run(tmp_path, Order("old", "new", SPAN, is_dry=True))
    assert (outcome.done.written, len(rows(tmp_path, "new"))) == (490, 10)
    assert not (tmp_path / "state").exists()


@asynchronous
async def test_what_the_ledger_will_deliver_is_left_to_it(tmp_path: Path) -> None:
    stores(tmp_path, old=20)
    outcome = await run(tmp_path, records=Pending("e0003", "e0004"))
    assert (outcome.done.written, outcome.done.waiting) == (18, 2)
    assert {row[0] for row in rows(tmp_path, "new")} == {f"e{n:04}" for n in range(20)} - {"e0003", "e0004"}


@asynchronous
@pytest.mark.parametrize("state", [PENDING, DEFERRED, DEAD])
async def test_what_may_come_by_the_ledger_is_left_to_it(state: int, tmp_path: Path) -> None:
    stores(tmp_path, old=3)
    outcome = await run(tmp_path, records=Pending("e0001", state=state))
    assert (outcome.done.written, outcome.done.waiting) == (2, 1)


@asynchronous
async def test_a_cursor_of_other_stores_is_not_used(tmp_path: Path) -> None:
    stores(tmp_path)
    clock = Clock()

    def stop() -> None:
        raise asyncio.CancelledError

    clock.then[100] = stop
    with pytest.raises(asyncio.CancelledError):
        await run(tmp_path, Order("old", "new", SPAN, rate=1), clock=clock)
    (tmp_path / "new.db").rename(tmp_path / "gone.db")
    put(tmp_path, "other")
    outcome = await run(tmp_path, new={"sqlite": SAME | {"file": "other.db"}})
    assert (outcome.resumed_at, outcome.done.written) == (None, 500)


@asynchronous
async def test_it_keeps_to_its_rate(tmp_path: Path) -> None:
    stores(tmp_path, old=400)
    clock = Clock()
    await run(tmp_path, Order("old", "new", SPAN, rate=20), clock=clock)
    assert clock.now == pytest.approx(20, rel=0.01)
    assert max(clock.slept) <= 1.0, "not in lumps"


@asynchronous
async def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    stores(tmp_path)
    clock = Clock()
    seen: list[tuple[int, int]] = []

    def stop() -> None:
        raise asyncio.CancelledError

    clock.then[300] = stop
    with pytest.raises(asyncio.CancelledError):
        await run(tmp_path, Order("old", "new", SPAN, rate=1), clock=clock)
    assert len(rows(tmp_path, "new")) == 300
    later = Span(SPAN.start + 3 * 10**9, SPAN.end)
    outcome = await run(
        tmp_path, Order("old", "new", later), progress=lambda number, of, done: seen.append((number, done.read))
    )
    assert outcome.resumed_at is not None
    assert outcome.resumed_at > SPAN.start
    assert outcome.done.read == 500
    assert rows(tmp_path, "new") == [event(n) for n in range(500)]
    assert len(seen) < 10, "windows that were done are not read again"


@asynchronous
async def test_a_cursor_of_another_span_is_not_used(tmp_path: Path) -> None:
    stores(tmp_path, old=100)
    (tmp_path / "state").mkdir()
    kept = Done(SPAN.start + 50 * 10**9, SPAN.end, SPAN.start + 80 * 10**9)
    (tmp_path / "state" / "backfill.json").write_bytes(msgspec.json.encode(kept))
    outcome = await run(tmp_path)
    assert (outcome.resumed_at, outcome.done.written) == (None, 100), "it had begun later than is wanted now"


@asynchronous
async def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    stores(tmp_path)
    (tmp_path / "new.db").rename(tmp_path / "away")
    (tmp_path / "new.db").symlink_to("away")
    clock = Clock()

    def gone() -> None:
        (tmp_path / "new.db").unlink()

    def back() -> None:
        (tmp_path / "new.db").symlink_to("away")

    clock.then |= {200: gone, 203: back}
    outcome = await run(tmp_path, Order("old", "new", SPAN, rate=1), clock=clock)
    assert outcome.error == ""
    assert rows(tmp_path, "new") == [event(n) for n in range(500)]


@asynchronous
async def test_a_ledger_that_stays_away_ends_it_and_it_can_go_on(tmp_path: Path) -> None:
    stores(tmp_path)
    outcome = await run(tmp_path, records=Pending(errors=TRIES))
    assert (outcome.error, outcome.done.written) == ("the ledger is not connected", 0)
    outcome = await run(tmp_path, records=Pending(errors=TRIES - 1))
    assert (outcome.error, outcome.done.written) == ("", 500)


@asynchronous
async def test_a_store_that_cannot_be_written_to_is_said_at_once(tmp_path: Path) -> None:
    stores(tmp_path)
    db = apsw.Connection(str(tmp_path / "new.db"))
    db.execute("ALTER TABLE event RENAME TO kept; CREATE VIEW event AS SELECT * FROM kept")
    db.close()
    assert (await run(tmp_path)).error == "store new cannot be written to"


def test_the_process(tmp_path: Path) -> None:
    stores(tmp_path, new=range(10))
    path = configuration(tmp_path)
    answer = ask(path, do="backfill", source="old", target="new")
    assert (answer["result"], answer["read"], answer["written"], answer["record"][:7]) == ("done", 500, 490, "two-way")
    assert ask(path)["result"] == "pass"
    for words, message in (
        ({"source": "old", "target": "old"}, "from one side to the other"),
        ({"source": "old", "target": "new", "from_ns": None}, "needs a time from when on"),
    ):
        assert message in ask(path, do="backfill", **words)["error"]["message"]


def test_one_at_a_time_goes_on_from_a_place(tmp_path: Path) -> None:
    put(tmp_path, "old", event(1))
    put(tmp_path, "new", event(2))
    path = configuration(tmp_path)
    folder = tmp_path / "crossfade-state" / "checker"
    folder.mkdir(parents=True)
    words = {"do": "backfill", "source": "old", "target": "new"}
    with (folder / "backfill-events-old-new.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is running already" in ask(path, **words)["error"]["message"]
        assert ask(path, **words, dry_run=True)["written"] == 1, "who writes nothing disturbs nobody"
        assert ask(path, **words | {"source": "new", "target": "old"})["written"] == 1
    assert ask(path, **words)["written"] == 1
    (folder / "backfill-events-old-new.lock").unlink()
    (folder / "backfill-events-old-new.lock").mkdir()
    assert "cannot be kept in" in ask(path, **words)["error"]["message"]
