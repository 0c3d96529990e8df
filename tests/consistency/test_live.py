"""A live check between two SQLite files and a ledger that the tests write, on a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from config.consistency import Check
from consistency.live.check import HORIZON, LONGEST_PAUSE, LiveCheck
from consistency.windows import LEAST_SETTLE
from proxy.core.checked import CheckStats
from proxy.core.owed import DEFERRED, DELIVERED, NOT_OWED, PENDING
from proxy.core.routing import Dials, Routing
from tests.consistency.fakes import Ledger

pytestmark = pytest.mark.asyncio

SECOND = 1_000_000_000
BEGIN = 1_769_860_800 * SECOND
"""2026-01-31T12:00:00Z"""
WINDOW = 10
SETTLED = WINDOW + LEAST_SETTLE / SECOND + 2
"""Seconds from a window's beginning until it is judged for sure."""


class Scene:
    """Both stores' files, the ledger and the checker's life. now: the clock, nanoseconds."""

    def __init__(self, folder: Path, **check: Any) -> None:
        self.folder = folder
        self.now = BEGIN
        self.ledger = Ledger(page=500)
        self.ledger.from_ns = 0
        self.pending = 0
        self.segments = 1
        self.settings = Check.model_validate(
            {
                "routes": ["events"],
                **{side: {"sqlite": self._store(side)} for side in ("old", "new")},
                "window": f"{WINDOW}s",
            }
            | check,
            strict=False,
        )
        self.check: LiveCheck | None = None
        self._task: asyncio.Task[Any] | None = None
        self._until = BEGIN
        self._parked = asyncio.Event()
        self._go = asyncio.Event()

    def _store(self, side: str) -> dict[str, Any]:
        return {"file": str(self.folder / f"{side}.db"), "table": "event", "identity": ["id"], "time": "at",
                "time_unit": "ns", "columns": ["value"]}  # fmt: skip

    # --- what happens --------------------------------------------------------------------------------------

    def make(self, *sides: str) -> None:
        for side in sides:
            self.sql(side, "CREATE TABLE event (id TEXT, at INTEGER, value INTEGER)")

    def sql(self, side: str, text: str, *values: Any) -> None:
        db = apsw.Connection(str(self.folder / f"{side}.db"))
        db.execute(text, values)
        db.close()

    def store(self, side: str, id: str, at: int, value: int = 1) -> None:
        self.sql(side, "INSERT INTO event VALUES (?, ?, ?)", id, at, value)

    def event(self, id: str, second: float, sides: str = "old new", **changes: Any) -> None:
        """An accepted event; sides: whose store has it."""
        at = BEGIN + round(second * SECOND)
        self.ledger.add(id, at, **changes)
        for side in sides.split():
            self.store(side, id, at)

    def route(self, weight: float, copy: str = "durable", epoch: int = 1) -> None:
        assert self.check is not None
        self.check.on_routing(Routing(epoch, {"events": Dials(weight, copy), "other": Dials()}))

    # --- the checker's life --------------------------------------------------------------------------------

    async def ask(self, path: str, **query: Any) -> dict[str, Any]:
        if path != "status":
            return await self.ledger.ask(path, **query)
        side = {"ledger": {"pending": bool(self.pending), "oldest_age_s": (self.now - self.pending) / SECOND}}
        routes = [{"name": "events", "sides": {"old": side}}, {"name": "other", "sides": {}}]
        return {"routes": routes, "ledger": {"segments": self.segments}}

    async def sleep(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)
        while self.now >= self._until:
            self._parked.set()
            await self._go.wait()
        await asyncio.sleep(0)

    async def until(self, second: float) -> CheckStats:
        """Let it run until so many seconds after the beginning; what it says then."""
        if self._task is None:
            self.start()
        self._until = BEGIN + round(second * SECOND)
        self._parked.clear()
        self._go.set()
        self._go = asyncio.Event()
        assert self._task is not None
        parked = asyncio.ensure_future(self._parked.wait())
        await asyncio.wait((parked, self._task), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        assert self.check is not None
        return self.check.stats()

    def start(self) -> None:
        if self.check is None:
            self.check = LiveCheck(
                self.settings, self, self.folder / "journal" / "events.db", wall=lambda: self.now, sleep=self.sleep
            )
        self._task = asyncio.ensure_future(self.check.run())

    async def kill(self) -> None:
        """End it wherever it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.check is not None:
            self.check.close()
        self._task = self.check = None


@asynccontextmanager
async def scene(folder: Path, **check: Any) -> AsyncIterator[Scene]:
    opened = Scene(folder, **check)
    opened.make("old", "new")
    try:
        yield opened
    finally:
        await opened.kill()


async def test_windows_are_judged_as_they_settle(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        for number in range(30):
            stage.event(f"e{number}", number)
        early = await stage.until(WINDOW + 4)
        assert (early.judged, early.classes, early.trouble) == (0, {}, "")
        one = await stage.until(SETTLED)
        assert (one.judged, one.classes) == (1, {"equal": 10})
        assert one.judged_until == BEGIN + WINDOW * SECOND
        assert one.record == "three-way"
        all_of_them = await stage.until(20 + SETTLED)
        assert (all_of_them.classes, all_of_them.trial.mismatches) == ({"equal": 30}, 0)
        assert (all_of_them.pending, all_of_them.late) == (0, 0)


async def test_the_first_window_begins_when_the_record_does(tmp_path: Path) -> None:
    """In the middle of a window: what was stored before is nobody's business, what is lost after it is."""
    async with scene(tmp_path) as stage:
        stage.event("before", 2.9, "old")
        stage.event("kept", 3)
        stage.store("old", "past us", BEGIN + 4 * SECOND)
        stage.event("gone", 9, "old")
        stage.ledger.from_ns = stage.now = BEGIN + round(2.3 * SECOND)  # the next whole second: stores may keep no more
        early = await stage.until(WINDOW + 4)
        assert (early.judged, early.judged_until) == (0, BEGIN + 3 * SECOND)
        said = await stage.until(SETTLED + 10)
        assert said.classes == {"equal": 1, "lost": 1, "foreign": 1}
        assert [each["identity"] for each in said.trial.samples] == ["gone"]


async def test_what_is_lost_or_different_is_named_and_held_against_the_weight(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25)
        for number in range(8):
            stage.event(f"e{number}", number)
        stage.event("gone", 3, "old")
        stage.event("changed", 4)
        stage.sql("new", "UPDATE event SET value = 7 WHERE id = 'changed'")
        said = await stage.until(SETTLED + 10)
        assert said.classes == {"equal": 8, "lost": 1, "different": 1}
        assert (said.epoch, said.trial.weights, said.trial.settled) == (1, {"events": 25.0}, 10)
        assert (said.trial.mismatches, said.trial.lost) == (2, 1)
        assert [(each["identity"], each["class"]) for each in said.trial.samples] == [
            ("gone", "lost"), ("changed", "different"),
        ]  # fmt: skip
        stage.route(25, epoch=2)
        assert stage.check is not None
        assert stage.check.stats().trial.epoch == 1, "the same weight: the trial goes on"
        stage.route(50, epoch=3)
        trial = stage.check.stats().trial
        assert (trial.epoch, trial.settled, trial.lost) == (3, 0, 0)
        assert stage.check.stats().classes == said.classes


async def test_a_rule_that_matches_nothing_is_told_once_much_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consistency.live.check.ENOUGH_COMPARED", 15)
    rules = [{"path": "/value", "compare": "tolerance", "abs": 1}, {"path": "/vlaue", "compare": "ignore"}]
    async with scene(tmp_path, rules=rules) as stage:
        for number in range(20):
            stage.event(f"e{number}", number)
        assert (await stage.until(SETTLED)).unused_rules == []
        assert (await stage.until(SETTLED + WINDOW)).unused_rules == ["/vlaue ignore"]


async def test_what_becomes_visible_late_is_late_and_no_mismatch(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.event("slow", 5, "old")
        real = stage.sleep

        async def sleep(seconds: float) -> None:
            if seconds == 4:
                stage.store("new", "slow", BEGIN + 5 * SECOND)
            await real(seconds)

        stage.sleep = sleep  # type: ignore[method-assign]
        said = await stage.until(SETTLED + 10)
        assert (said.classes, said.trial.mismatches) == ({"late": 1}, 0)


async def test_an_outage_is_pending_and_then_equal_without_a_mismatch(tmp_path: Path) -> None:
    """New is down for an hour of event time; what came before and after is judged as ever."""
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25)
        for minute in range(70):
            down = 5 <= minute < 65
            stage.event(f"e{minute}", 60 * minute, "old" if down else "old new", new=PENDING if down else DELIVERED)
        during = await stage.until(64 * 60)
        assert (during.classes, during.trial.mismatches, during.late) == ({"equal": 5}, 0, 0)
        assert during.pending == 59, "one window for each event that waits and is settled"
        assert during.judged > 300, "windows without one are judged meanwhile"
        for minute in range(5, 65):
            stage.store("new", f"e{minute}", BEGIN + 60 * minute * SECOND)
            stage.ledger.change(f"e{minute}", DELIVERED, DELIVERED)
        after = await stage.until(71 * 60)
        assert (after.classes, after.trial.mismatches) == ({"equal": 70}, 0)
        assert after.pending == 0
        assert after.judged_until > BEGIN + 70 * 60 * SECOND


async def test_what_is_carried_over_after_a_rollback_has_its_window_judged_once_more(tmp_path: Path) -> None:
    """Split: new answered these, and they were kept for old. One of them old acknowledges, and does not store."""
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25, copy="none")
        for number in range(5):
            stage.event(f"e{number}", number, "new", old=DEFERRED)
        assert (await stage.until(60)).classes == {"one-sided": 5}
        for number in range(5):
            stage.ledger.change(f"e{number}", PENDING, DELIVERED)
        assert (await stage.until(75)).pending == 1
        for number in range(5):
            stage.ledger.change(f"e{number}", DELIVERED, DELIVERED)
            if number != 3:
                stage.store("old", f"e{number}", BEGIN + number * SECOND)
        said = await stage.until(110)
        assert (said.classes, said.trial.mismatches) == ({"one-sided": 5, "equal": 4, "lost": 1}, 0)


@pytest.mark.parametrize("age", [100, 700])
async def test_an_event_of_an_earlier_time_is_visible_some_seconds_after_its_acknowledgement(
    tmp_path: Path, age: int
) -> None:
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25)
        await stage.until(20)
        stage.now += 979 * SECOND
        await stage.until(1000)
        at = stage.now - age * SECOND
        stage.ledger.add("slow", stage.now, event_time=str(at))
        stage.ledger.add("gone", stage.now, event_time=str(at))
        for id in ("slow", "gone"):
            stage.store("old", id, at)
        await stage.until(1009)
        stage.store("new", "slow", at)
        said = await stage.until(1030)
        assert (said.classes, said.trial.lost) == ({"late": 1, "lost": 1}, 1)
        assert said.judged_until >= BEGIN + 1000 * SECOND


@pytest.mark.parametrize("is_killed", [False, True])
async def test_what_was_delivered_after_an_outage_is_visible_some_seconds_later(
    tmp_path: Path, *, is_killed: bool
) -> None:
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25)
        for number in range(40):
            stage.event(f"e{number}", number, "old", new=PENDING)
        assert (await stage.until(60)).pending == 4
        stage.now += 640 * SECOND
        await stage.until(700)
        for number in range(40):
            stage.ledger.change(f"e{number}", DELIVERED, DELIVERED)
        await stage.until(707)
        if is_killed:  # what it knows of the acknowledgement outlasts it
            await stage.kill()
            stage.start()
            stage.route(25)
        await stage.until(708)
        for number in range(40):
            stage.store("new", f"e{number}", BEGIN + number * SECOND)
        said = await stage.until(800)
        assert (said.classes.keys() | {"late"}, said.trial.mismatches) == ({"late", "equal"}, 0)
        assert sum(said.classes.values()) == 40


async def test_what_is_acknowledged_while_its_window_is_judged_is_waited_for(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.event("a", 3, "old", new=NOT_OWED)
        stage.store("old", "b", BEGIN + 4 * SECOND)
        real = stage.sleep

        async def sleep(seconds: float) -> None:
            if seconds == 4:  # the last reading of b, which is not on record yet
                stage.ledger.add("b", stage.now, event_time=str(BEGIN + 4 * SECOND))
            await real(seconds)

        stage.sleep = sleep  # type: ignore[method-assign]
        stage.start()
        stage.route(25)
        await stage.until(30)
        stage.store("new", "b", BEGIN + 4 * SECOND)
        said = await stage.until(60)
        assert (said.trial.lost, said.classes["one-sided"]) == (0, 1)
        assert said.classes == {"one-sided": 1, "late": 1}


async def test_a_copy_that_comes_later_and_has_a_time_of_its_own_is_found(tmp_path: Path) -> None:
    async with scene(tmp_path, time="ignore") as stage:
        stage.event("late", 5, "old", new=PENDING)
        assert (await stage.until(SETTLED + 5)).pending == 1
        stage.store("new", "late", BEGIN + 100 * SECOND)
        stage.ledger.change("late", DELIVERED, DELIVERED)
        assert (await stage.until(140)).classes == {"equal": 1}


async def test_an_event_that_comes_late_has_its_window_judged_once_more(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.event("a", 1)
        assert (await stage.until(60)).classes == {"equal": 1}
        stage.event("b", 2)
        said = await stage.until(70)
        assert said.classes == {"equal": 2}
        assert said.judged_until >= BEGIN + 50 * SECOND, "and the cursor does not go back"
        stage.event("c", 3, "old")
        assert (await stage.until(90)).classes == {"equal": 2, "lost": 1}, "once a store had time to show it"


async def test_an_event_beyond_the_horizon_opens_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, window="1h") as stage:
        stage.event("a", 1)
        await stage.until(3700)
        stage.now += HORIZON
        late = 3700 + HORIZON / SECOND
        stage.event("b", 2, "old")
        assert (await stage.until(late + 60)).classes == {"equal": 1}
        stage.event("c", late - 3600, "old")
        assert (await stage.until(late + 120)).classes == {"equal": 1, "lost": 1}


async def test_a_killed_checker_goes_on_where_it_was(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25)
        for number in range(40):
            stage.event(f"e{number}", number, "old" if number == 3 else "old new")
        before = await stage.until(SETTLED + 8)
        await stage.kill()
        stage.now += 20 * SECOND
        stage.start()
        assert stage.check is not None
        stage.route(25, epoch=1)
        after = stage.check.stats()
        assert (after.classes, after.trial, after.judged) == (before.classes, before.trial, before.judged)
        done = await stage.until(100)
        assert done.classes == {"equal": 39, "lost": 1}
        assert done.trial.lost == 1, "not counted twice"


async def test_killed_at_any_moment_it_counts_each_window_once(tmp_path: Path) -> None:
    """At every await of a life once."""
    async with scene(tmp_path) as stage:
        for number in range(30):
            stage.event(f"e{number}", number, "old" if number % 10 == 3 else "old new")
        lives = 0
        while stage.now < BEGIN + 120 * SECOND:
            stage.start()
            stage._until = BEGIN + 10_000 * SECOND
            for _ in range(lives % 40):
                await asyncio.sleep(0)
            await stage.kill()
            stage.now += SECOND
            lives += 1
        said = await stage.until(200)
        assert said.classes == {"equal": 27, "lost": 3}
        assert said.trial.lost == 3


async def test_a_store_that_is_away_holds_windows_up_and_loses_none(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        for number in range(20):
            stage.event(f"e{number}", number)
        (tmp_path / "new.db").rename(tmp_path / "away")
        said = await stage.until(60)
        assert (said.judged, said.classes) == (0, {})
        assert "store new: " in said.trouble
        assert said.late >= 2
        (tmp_path / "away").rename(tmp_path / "new.db")
        said = await stage.until(60 + LONGEST_PAUSE + 10)
        assert (said.classes, said.trouble) == ({"equal": 20}, "")


async def test_a_store_whose_table_goes_in_mid_check_is_no_mismatch(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        for number in range(60):
            stage.event(f"e{number}", number)
        assert (await stage.until(SETTLED)).classes == {"equal": 10}
        stage.sql("new", "ALTER TABLE event RENAME TO elsewhere")
        said = await stage.until(70)
        assert said.classes == {"equal": 10}
        assert "store new: " in said.trouble
        stage.sql("new", "ALTER TABLE elsewhere RENAME TO event")
        said = await stage.until(80 + 2 * LONGEST_PAUSE)
        assert (said.classes, said.trouble, said.late) == ({"equal": 60}, "", 0)


async def test_a_window_that_cannot_be_judged_holds_up_itself_alone(tmp_path: Path) -> None:
    async with scene(tmp_path, json_fields=["value"]) as stage:
        for number in range(60):
            stage.event(f"e{number}", number)
        for side, leaf in (("old", "1"), ("new", "2")):
            deep = '{"a":' * 600 + leaf + "}" * 600
            stage.sql(side, "UPDATE event SET value = ? WHERE id = 'e3'", deep)
        said = await stage.until(90)
        assert said.trouble == "a value is nested too deep"
        assert (said.late, said.classes) == (1, {"equal": 50})
        for side in ("old", "new"):
            stage.sql(side, "UPDATE event SET value = 1 WHERE id = 'e3'")
        said = await stage.until(100 + 2 * LONGEST_PAUSE)
        assert (said.classes, said.trouble) == ({"equal": 60}, "")


async def test_a_ledger_that_does_not_answer_holds_everything_up(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.ledger.error = "the ledger is not connected"
        for number in range(5):
            stage.event(f"e{number}", number)
        said = await stage.until(50)
        assert (said.judged, said.trouble) == (0, "the ledger is not connected")
        stage.ledger.error = ""
        assert (await stage.until(60 + LONGEST_PAUSE)).classes == {"equal": 5}


async def test_a_damaged_journal_is_put_aside(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        (tmp_path / "journal").mkdir()
        (tmp_path / "journal" / "events.db").write_bytes(b"no database" * 1000)
        stage.event("a", 1)
        assert (await stage.until(SETTLED)).classes == {"equal": 1}
        (aside,) = (tmp_path / "journal").glob("events.damaged-*")
        assert aside.read_bytes().startswith(b"no database")


async def test_a_window_whose_findings_could_not_be_kept_is_judged_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        for number in range(10):
            stage.event(f"e{number}", number, "old" if number == 3 else "old new")
        await stage.until(1)
        assert stage.check is not None
        stage.check._journal.db.execute(
            "CREATE TEMP TRIGGER full BEFORE INSERT ON judged BEGIN SELECT raise(ABORT, 'the disk is full'); END"
        )
        said = await stage.until(SETTLED + 8)
        assert "the disk is full" in said.trouble
        assert (said.classes, said.trial.lost) == ({}, 0), "what is not on disk is not counted"
        said = await stage.until(80)  # the connection is another one by now, without that trigger
        assert (said.classes, said.trial.lost, said.trouble) == ({"equal": 9, "lost": 1}, 1, "")


async def test_a_split_leaves_nothing_to_find(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        for number in range(40):
            side = "new" if number % 4 == 0 else "old"
            stage.event(
                f"e{number}", number / 4, side, **{other: NOT_OWED for other in ("old", "new") if other != side}
            )
        assert (await stage.until(SETTLED)).classes == {"one-sided": 40}


async def test_pending_receipts_that_the_ledger_has_dropped_hold_nothing_up(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.event("a", 1, new=PENDING)
        assert (await stage.until(SETTLED)).pending == 1
        stage.ledger.add("b", BEGIN + 2 * SECOND)
        stage.ledger.rows.pop(0)
        for side in ("old", "new"):
            stage.store(side, "b", BEGIN + 2 * SECOND)
        said = await stage.until(40)
        assert said.pending == 0
        assert said.classes["equal"] >= 1


async def test_a_store_that_shows_its_rows_late_is_given_more_time(tmp_path: Path) -> None:
    """New shows everything 8 s after it said yes: the first window sees it late, later ones wait for it."""
    async with scene(tmp_path) as stage:
        said = await stage.until(0.5)
        for second in range(300):
            stage.event(f"e{second}", second, "old")
            if second >= 8:
                stage.store("new", f"e{second - 8}", BEGIN + (second - 8) * SECOND)
            said = await stage.until(second + 1)
        assert (said.trial.mismatches, set(said.classes)) == (0, {"equal", "late"})
        assert 15 <= said.settle <= 25
        assert 8 <= said.visible["new"] <= 11
        assert said.visible["old"] < 1.5
        assert said.classes["late"] < said.classes["equal"]


async def test_what_new_is_owed_and_has_not_acknowledged_says_nothing_of_its_store(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        said = await stage.until(0.5)
        for second in range(100):
            stage.event(f"e{second}", second, "old", new=PENDING)
            said = await stage.until(second + 1)
        assert said.settle == 5
        assert said.visible == {"old": pytest.approx(0, abs=1)}


# stores whose rows the ledger cannot name


async def test_without_names_it_goes_by_what_is_owed_at_all(tmp_path: Path) -> None:
    async with scene(tmp_path, identity="none") as stage:
        stage.start()
        stage.route(25)
        stage.pending = BEGIN + 16 * SECOND
        for number in range(30):
            stage.event(f"e{number}", number, "old" if number == 12 else "old new")
        said = await stage.until(60)
        assert said.record.startswith("two-way")
        assert (said.classes, said.pending) == ({"equal": 10}, 4), "the first one ends before the oldest that waits"
        stage.pending = 0
        stage.store("new", "e12", BEGIN + 12 * SECOND)
        assert (await stage.until(70)).classes == {"equal": 30}


async def test_rows_of_one_name_are_held_against_new_each_by_itself(tmp_path: Path) -> None:
    async with scene(tmp_path, identity="content", only_new="compare") as stage:
        stage.start()
        stage.route(25)
        stage.event("there", 20)
        for second in range(21, 26):
            stage.store("old", "sensor", BEGIN + second * SECOND)
        said = await stage.until(60)
        assert (said.classes["equal"], said.classes["unrecorded"], said.trial.mismatches) == (1, 5, 5)


async def test_without_names_what_was_owed_a_moment_ago_is_waited_for(tmp_path: Path) -> None:
    async with scene(tmp_path, identity="none") as stage:
        stage.start()
        stage.route(25)
        stage.pending = BEGIN
        for number in range(40):
            stage.event(f"e{number}", number, "old")
        assert (await stage.until(60)).classes == {}
        stage.now += 640 * SECOND
        await stage.until(700)
        stage.pending = 0
        await stage.until(709)
        for number in range(40):
            stage.store("new", f"e{number}", BEGIN + number * SECOND)
        said = await stage.until(800)
        assert (said.classes.keys() | {"late"}, said.trial.mismatches) == ({"late", "equal"}, 0)
        assert sum(said.classes.values()) == 40


async def test_without_names_nothing_is_said_of_times_when_a_side_is_not_owed_everything(tmp_path: Path) -> None:
    async with scene(tmp_path, identity="none") as stage:
        stage.start()
        stage.route(25, copy="none")
        for number in range(60):
            stage.event(f"e{number}", number, "old" if number < 35 else "old new")
        await stage.until(33)
        stage.route(25, epoch=2)
        said = await stage.until(90)
        assert said.classes == {"equal": 20}, "windows from 40 s on"
        assert said.judged >= 6


async def test_copied_time_is_judged_also_when_the_copy_ended_since(tmp_path: Path) -> None:
    async with scene(tmp_path, identity="none") as stage:
        stage.start()
        stage.route(25)
        stage.pending = BEGIN + SECOND
        for number in range(40):
            stage.event(f"e{number}", number, "old" if number == 15 else "old new")
        await stage.until(30)
        stage.route(100, copy="none", epoch=2)
        stage.pending = 0
        said = await stage.until(80)
        assert said.classes == {"equal": 29, "unrecorded": 1}, "the first three windows"


async def test_a_ledger_that_has_not_said_what_it_owes_holds_everything_up(tmp_path: Path) -> None:
    async with scene(tmp_path, identity="none") as stage:
        stage.start()
        stage.route(25)
        stage.segments = 0
        stage.event("e1", 1, "old")
        said = await stage.until(40)
        assert (said.judged, said.trouble) == (0, "the ledger has not said yet what it owes")


async def test_what_was_taken_back_is_owed_once_more_and_not_lost(tmp_path: Path) -> None:
    """Its receipt said delivered when it was read; then the connection it went by was lost."""
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25)
        stage.event("e1", 1, "old")
        await stage.until(3)
        stage.ledger.change("e1", DELIVERED, PENDING)
        said = await stage.until(SETTLED + 20)
        assert (said.classes, said.trial.lost, said.pending) == ({}, 0, 1)
        stage.store("new", "e1", BEGIN + SECOND)
        stage.ledger.change("e1", DELIVERED, DELIVERED)
        assert (await stage.until(SETTLED + 60)).classes == {"equal": 1}


async def test_what_was_under_way_when_it_began_is_nobody_s_fault(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25, copy="none")
        stage.ledger.add("early", BEGIN - SECOND // 20, new=NOT_OWED)
        stage.store("old", "early", BEGIN + SECOND // 100)
        for number in range(1, 9):
            stage.event(f"e{number}", number)
        said = await stage.until(SETTLED)
        assert said.trial.mismatches == 0
        assert said.classes["equal"] == 8


async def test_receipts_are_read_while_a_store_is_away(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        (tmp_path / "new.db").rename(tmp_path / "away")
        for number in range(5):
            stage.event(f"e{number}", number, "old", new=NOT_OWED)
        await stage.until(40)
        stage.ledger.rows.clear()  # what is settled is dropped in time
        stage.ledger.add("last", BEGIN + 50 * SECOND)
        stage.ledger.rows[0][0] = 6
        stage.ledger.routes[6] = "events"
        (tmp_path / "away").rename(tmp_path / "new.db")
        for side in ("old", "new"):
            stage.store(side, "last", BEGIN + 50 * SECOND)
        said = await stage.until(40 + LONGEST_PAUSE)
        assert (said.classes, said.trial.mismatches) == ({"one-sided": 5, "equal": 1}, 0)


async def test_events_of_a_time_that_was_judged_too_early_are_judged(tmp_path: Path) -> None:
    """The machine's clock ran an hour ahead, and was put right."""
    async with scene(tmp_path) as stage:
        stage.event("a", 1)
        await stage.until(3600)
        stage.now = BEGIN + 600 * SECOND
        stage.event("b", 700, "old")
        stage.event("c", 701)
        assert (await stage.until(3700)).classes == {"equal": 2, "lost": 1}


async def test_a_routing_that_could_not_be_kept_is_tried_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as stage:
        stage.start()
        stage.route(25)
        await stage.until(1)
        assert stage.check is not None
        journal = stage.check._journal
        journal.db.execute("CREATE TEMP TRIGGER full BEFORE INSERT ON state BEGIN SELECT raise(ABORT, 'full'); END")
        stage.route(50, epoch=2)
        assert stage.check.stats().epoch == 1
        journal.db.execute("DROP TRIGGER full")
        said = await stage.until(5)
        assert (said.epoch, said.trial.weights) == (2, {"events": 50.0})
