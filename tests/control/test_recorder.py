"""Samples of a running instance, and what the admin API tells of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxy.control import figure_handlers, figures_file, recorder, views
from proxy.control.figures import Figures
from proxy.control.figures_file import EVERY, FiguresFile, read
from proxy.control.link import SideStats, WorkerStats
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats, requests
from tests.control.helpers import CHECK, eventually, stuck_pool

pytestmark = pytest.mark.asyncio

API = "/api/v1/routes/-/figures"
WALL = 1_700_001_000
"""What the wall clock of a plane says when it is made."""


async def heard(plane: Plane, index: int = 0, **changes: Any) -> WorkerStats:
    """A worker says figures, and they arrive."""
    plane.workers[index].say(**changes)

    def latest() -> WorkerStats | None:
        slot = plane.supervisor.instance.tally.slot(index)
        stats = slot.latest if slot is not None else None
        return stats if stats is not None and stats.accepted == changes["accepted"] else None

    found: WorkerStats = await eventually(latest)
    return found


async def everybody(plane: Plane) -> None:
    """Every worker and the ledger have said something."""
    tally = plane.supervisor.instance.tally
    for index, worker in enumerate(plane.workers):
        if index not in tally.heard:
            worker.say()
    if not tally.has_heard_ledger:
        assert plane.ledger is not None
        plane.ledger.tell(ledger_stats())
    await eventually(lambda: len(tally.heard) == len(plane.workers) and tally.has_heard_ledger)


async def sample(plane: Plane, seconds: float = EVERY) -> None:
    await everybody(plane)
    plane.clock.now += seconds
    await plane.supervisor.recorder.take()


async def figures(plane: Plane, query: str = "") -> Any:
    return await plane.get(f"{API}?since={WALL}{query}")


async def test_a_sample_has_what_the_account_knows(make_plane: MakePlane) -> None:
    plane = make_plane(consistency=[CHECK])
    await plane.start()
    await plane.change("stage", stage="live", weight=25)
    assert plane.ledger is not None
    assert plane.checker is not None
    plane.checker.find(classes={"lost": 7, "equal": 100})
    await eventually(lambda: plane.supervisor.instance.tally.checks)
    await sample(plane)
    said = [requests(0, ok=90, latency=0.002), requests(1, ok=8, failed=2, latency=0.004)]
    said[1].body_bytes = 290 * 8
    await heard(plane, accepted={"events": 100}, chosen={"events": (90, 10)}, requests=said, sessions=3)
    plane.ledger.tell(
        ledger_stats(
            sides=[
                SideStats("events", 0, "old", balance(), 0.0, 0),
                SideStats("events", 1, "new", balance(pending=5), 12.5, 1, delivered_bytes=10),
            ]
        )
    )
    plane.checker.find(classes={"lost": 9, "equal": 200})
    await eventually(lambda: plane.supervisor.instance.tally.checks[0].classes["lost"] == 9)
    await eventually(lambda: plane.supervisor.instance.tally.ledger_bytes("events", 1))
    await sample(plane)
    answer = await figures(plane)
    assert (answer["route"], answer["step_s"], answer["finest_s"]) == ("events", EVERY, EVERY)
    assert answer["began"] == answer["points"][0]["at"]
    first, second = answer["points"]
    assert (first["accepted"], first["mismatches"], first["weight_observed"]) == (0, {}, None)
    assert (second["accepted"], second["rate"], second["seconds"], second["sessions"]) == (100, 10.0, 10.0, 3)
    assert (second["weight_target"], second["weight_observed"], second["epoch"]) == (25.0, 10.0, 2)
    assert second["mismatches"] == {"lost": 2}
    new = second["sides"]["new"]
    assert (new["answers"], new["failed"], new["error_rate"]) == (10, 2, 0.2)
    assert (new["pending"], new["oldest_age_s"], new["body_bytes"]) == (5, 12.5, 290 * 8 + 10)
    assert new["p50"] == new["p99"] == pytest.approx(0.004, rel=0.01)
    assert second["sides"]["old"]["p95"] == pytest.approx(0.002, rel=0.01)
    total = answer["total"]
    assert (total["accepted"], total["seconds"], total["mismatches"]) == (100, 20.0, {"lost": 2})


async def test_a_ledger_that_is_away_and_a_checker_that_is_none_are_not_zero(plane: Plane) -> None:
    assert plane.ledger is not None
    await everybody(plane)
    await plane.ledger.link.close()
    await eventually(lambda: plane.supervisor.instance.peers.ledger is None)
    await sample(plane)
    (point,) = (await figures(plane))["points"]
    assert point["sides"]["new"]["pending"] is None
    assert point["mismatches"] is None
    assert point["sides"]["new"]["p99"] is None


async def test_another_supervisor_goes_on(plane: Plane) -> None:
    await heard(plane, accepted={"events": 100})
    await sample(plane)
    await plane.restart()
    await plane.until_ready()
    await heard(plane, accepted={"events": 130})
    await sample(plane)
    answer = await figures(plane)
    assert [point["accepted"] for point in answer["points"]] == [100, 30]


async def test_a_kill_counts_nothing_twice(plane: Plane) -> None:
    await sample(plane)
    await heard(plane, accepted={"events": 1000})
    plane.supervisor._tally.save()
    saved = plane.supervisor._tally._path.read_bytes()
    await heard(plane, accepted={"events": 1400})
    await sample(plane)
    await plane.restart(between=lambda: plane.supervisor._tally._path.write_bytes(saved))
    await plane.until_ready()
    plane.clock.now += EVERY
    await plane.supervisor.recorder.take()  # before anybody was heard
    await heard(plane, accepted={"events": 1500})
    await sample(plane)
    total = (await figures(plane))["total"]
    assert (total["accepted"], total["seconds"]) == (1500, 40.0)


async def test_a_worker_that_is_never_heard_is_not_waited_for_for_ever(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats())
    await heard(plane, accepted={"events": 5})
    for seconds in (recorder.HEAR_WAIT - 1, 1, EVERY):
        plane.clock.now += seconds
        await plane.supervisor.recorder.take()
    assert caplog.text.count("without a word of worker 1: some seconds before this start may count twice") == 1
    answer = await figures(plane)
    assert [point["seconds"] for point in answer["points"]] == [60.0, 10.0]


async def test_the_last_figures_are_kept_when_it_stops(plane: Plane) -> None:
    await everybody(plane)
    await heard(plane, accepted={"events": 100})
    plane.clock.now += 4
    await plane.restart()
    answer = await plane.get(f"{API}?since={WALL - EVERY}")
    assert [(point["accepted"], point["seconds"]) for point in answer["points"]] == [(100, 4.0)]


async def test_no_figures_yet(plane: Plane) -> None:
    answer = await plane.get(API)
    assert (answer["points"], answer["began"], answer["total"]) == ([], None, None)


async def test_fewer_points(plane: Plane) -> None:
    for number in range(6):
        await heard(plane, accepted={"events": 10 * (number + 1)})
        await sample(plane)
    answer = await figures(plane, "&points=2")
    assert (answer["step_s"], [point["accepted"] for point in answer["points"]]) == (30, [30, 30])
    answer = await figures(plane, f"&until={WALL + 20}&points=1000")
    assert [point["accepted"] for point in answer["points"]] == [10, 10]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("points=0", 422),
        ("points=1001", 422),
        ("since=2&until=1", 422),
        ("since=1&until=1", 422),
        ("since=never", 422),
        ("since=nan", 422),
        ("since=-1", 422),
        ("until=1e300", 422),
        ("from=1", 422),
    ],
)
async def test_what_is_no_question(plane: Plane, query: str, status: int) -> None:
    assert (await plane.ask("GET", f"{API}?{query}"))[0] == status


async def test_a_route_that_is_not_there(plane: Plane) -> None:
    assert (await plane.ask("GET", "/api/v1/routes/other/figures"))[0] == 404


async def test_a_full_disk_is_counted_told_and_over(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    await heard(plane, accepted={"events": 100})
    with monkeypatch.context() as patched:
        patched.setattr(FiguresFile, "_keep", full)
        for _ in range(3):
            await sample(plane)
    status = await plane.get("/api/v1/status")
    assert status["counters"]["control_figures_not_kept"] == 3
    assert "figures are not kept: database or disk is full" in status["warnings"]
    assert caplog.text.count("figures cannot be kept") == 1, "said once"
    await sample(plane)
    status = await plane.get("/api/v1/status")
    assert not any("figures" in warning for warning in status["warnings"])
    (point,) = (await figures(plane))["points"]
    assert (point["accepted"], point["seconds"]) == (100, 40.0)


async def test_a_damaged_file_is_counted(plane: Plane) -> None:
    await sample(plane)
    with closing(apsw.Connection(str(plane.places.figures))) as db:
        db.execute("UPDATE base SET said = x'c1'; UPDATE figures SET said = x'c1'")
    status, answer = await plane.ask("GET", API)
    assert (status, "figures.db" in answer["detail"]) == (503, True)
    await sample(plane)
    assert (await plane.get("/api/v1/status"))["counters"]["control_figures_put_aside"] == 1
    assert len((await plane.get(f"{API}?since={WALL}"))["points"]) == 1


async def test_a_disk_that_does_not_answer_holds_nobody_up(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = threading.Event()

    def hang(*_: object) -> None:
        assert stuck.wait(60)

    monkeypatch.setattr(recorder, "LAST_WAIT", 0.05)
    monkeypatch.setattr(FiguresFile, "_keep", hang)
    await everybody(plane)
    try:
        async with asyncio.timeout(5):
            await plane.supervisor.recorder.close()
            await asyncio.get_running_loop().shutdown_default_executor()
        assert "the last figures were not kept" in caplog.text
    finally:
        stuck.set()


STUCK = """
import asyncio, time
from pathlib import Path
from types import SimpleNamespace
import uvloop
from proxy.control import recorder
from proxy.control.figures_file import FiguresFile

FiguresFile._keep = lambda *_: time.sleep(600)
recorder.LAST_WAIT = 0.1

async def main():
    tally = SimpleNamespace(own={}, unheard=lambda workers: [])
    settings = SimpleNamespace(workers=1)
    instance = SimpleNamespace(clock=time.monotonic, wall=time.time, tally=tally, settings=settings, state=None)
    one = recorder.Recorder(instance, FiguresFile(Path("figures.db")))
    one.start()
    await one.close()

uvloop.run(main())
print("ended")
"""


async def test_the_process_ends_beside_a_disk_that_does_not_answer(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(Path(recorder.__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUCK, cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, out) == (0, b"ended\n")


async def test_a_sample_that_is_being_written_when_it_stops_counts_once(
    make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, going_on = threading.Event(), threading.Event()
    real = FiguresFile._keep

    def slow(self: FiguresFile, at: float, seconds: float, *counted: Any) -> None:
        if seconds > 5:
            writing.set()
            assert going_on.wait(20)
        real(self, at, seconds, *counted)

    monkeypatch.setattr(FiguresFile, "_keep", slow)
    monkeypatch.setattr(recorder, "EVERY", 0.02)
    plane = make_plane()
    await plane.start()
    await everybody(plane)
    await heard(plane, accepted={"events": 100})
    plane.clock.now += EVERY
    assert await asyncio.to_thread(writing.wait, 20)
    ending = asyncio.create_task(plane.supervisor.close())
    await asyncio.sleep(0.3)
    assert not ending.done(), "it waits for the one that writes"
    going_on.set()
    await ending
    found = read(plane.places.figures, "events", WALL - EVERY, WALL + 60, 10, WALL + 60)
    assert sum(each.accepted for _, each in found.rows) == 100
    assert sum(each.seconds for _, each in found.rows) == EVERY


async def test_it_samples_by_itself(make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "EVERY", 0.02)
    plane = make_plane()
    await plane.start()
    await everybody(plane)

    def kept(path: Path = plane.places.figures) -> bool:
        return path.exists()

    await eventually(kept)
    await eventually(lambda: plane.supervisor.recorder._file._db)


async def test_one_reads_at_a_time_and_the_loop_goes_on(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    loop_thread, go_on = threading.get_ident(), threading.Event()
    at_work: list[int] = []
    real = figure_handlers._point

    def slow(start: int, told: Figures) -> views.FiguresPoint:
        at_work.append(threading.get_ident())
        assert go_on.wait(20)
        return real(start, told)

    monkeypatch.setattr(figure_handlers, "_point", slow)
    await sample(plane)
    first = asyncio.create_task(plane.ask("GET", f"{API}?since={WALL}"))
    await eventually(lambda: at_work)
    async with plane.session().get(f"http://localhost{API}?since={WALL}") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    with stuck_pool():
        async with asyncio.timeout(5):
            await plane.change("stage", stage="live", weight=25)
    go_on.set()
    assert (await first)[0] == 200
    assert loop_thread not in at_work
    assert len((await figures(plane))["points"]) == 1, "and the next one reads"


async def test_a_disk_that_does_not_answer_is_said_to_who_asks(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, asked = threading.Event(), 0

    def hang(*_: object) -> figures_file.Read:
        nonlocal asked
        asked += 1
        assert stuck.wait(60)
        return figures_file.Read(None, EVERY, [])

    monkeypatch.setattr(figure_handlers, "READ_WAIT", 0.05)
    monkeypatch.setattr(figure_handlers, "read", hang)
    assert (await plane.ask("GET", API))[0] == 503
    for _ in range(5):
        assert (await plane.ask("GET", API))[0] == 429, "the thread is still under way"
    assert asked == 1
    stuck.set()

    async def answered() -> bool:
        return (await plane.ask("GET", API))[0] == 200

    async with asyncio.timeout(10):
        while not await answered():
            await asyncio.sleep(0.01)
