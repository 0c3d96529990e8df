"""The supervisor as a whole: readiness, taking over, files that are not ours."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from proxy.control.handlers import Handlers
from proxy.control.link import LedgerStats
from proxy.control.operations import OPERATIONS
from proxy.core.errors import RefuseToStart
from tests.control.conftest import MakePlane
from tests.control.fakes import FakeLedger, FakeWorker, Plane, ledger_stats
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio


async def test_first_start_makes_epoch_one(plane: Plane) -> None:
    status = await plane.get("/api/v1/status")
    assert status["epoch"] == 1
    assert status["ready"] is True
    assert status["routes"][0]["stage"] == "off"
    assert [worker["epoch"] for worker in status["workers"]] == [1, 1]


async def test_the_configured_stage_is_the_first_one(make_plane: MakePlane) -> None:
    route = {"name": "events", "match": {"path": "/e"}, "stage": "live", "weight": 12.5}
    plane = make_plane(routes=[route])
    await plane.start()
    status = await plane.get("/api/v1/status")
    assert (status["routes"][0]["stage"], status["routes"][0]["weight_target"]) == ("live", 12.5)
    assert plane.workers[0].routings[-1].routing.routes["events"].weight == 12.5


async def test_another_supervisor_takes_over_where_the_last_one_left(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await plane.restart()
    await plane.until_ready()
    status = await plane.get("/api/v1/status")
    assert (status["epoch"], status["routes"][0]["weight_target"]) == (2, 25.0)
    assert [worker["restarts"] for worker in status["workers"]] == [0, 0]
    assert {worker.epoch for worker in plane.workers} == {2}
    assert (await plane.change("weight", weight=30))["epoch"] == 3


async def test_readiness_is_told_to_the_launcher_once(plane: Plane) -> None:
    with pytest.raises(BlockingIOError):
        os.read(plane.ready_read_fd, 100)
    assert plane.ledger is not None
    for _ in range(2):
        plane.ledger.tell(ledger_stats())
        plane.workers[0].say()
    await eventually(lambda: (slot := plane.supervisor.instance.tally.slot(0)) and slot.latest)
    await eventually(lambda: plane.supervisor.instance.tally.ledger)
    assert os.read(plane.ready_read_fd, 100) == b"ready\n"


async def test_the_launcher_is_told_the_real_admin_address(make_plane: MakePlane) -> None:
    plane = make_plane(admin={"tcp": "127.0.0.1:0"})
    await plane.start()
    plane.workers[0].say()
    await eventually(lambda: (slot := plane.supervisor.instance.tally.slot(0)) and slot.latest)
    assert os.read(plane.ready_read_fd, 100).decode() == f"ready {plane.supervisor.admin.tcp}\n"
    assert plane.supervisor.admin.tcp.startswith("http://127.0.0.1:")
    assert not plane.supervisor.admin.tcp.endswith(":0")


async def test_readiness_comes_and_goes(plane: Plane) -> None:
    assert (await plane.ask("GET", "/readyz"))[0] == 200
    assert plane.ledger is not None
    await plane.ledger.link.close()
    await eventually(lambda: plane.supervisor.instance.peers.ledger is None)
    status, body = await plane.ask("GET", "/readyz")
    assert (status, body["reasons"]) == (503, ["the ledger is not connected"])
    assert (await plane.ask("GET", "/healthz"))[0] == 200


async def test_a_restarted_worker_gets_the_present_routing(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await plane.workers[0].link.close()
    await eventually(lambda: 0 not in plane.supervisor.instance.peers.workers)
    heir = FakeWorker(plane.places.control_socket, 0, "another-life")
    heir.link.start()
    plane.workers[0] = heir
    await plane.until_ready()
    assert heir.epoch == 2
    status = await plane.get("/api/v1/status")
    assert [worker["restarts"] for worker in status["workers"]] == [1, 0]


@pytest.mark.parametrize("name", ["routing.json", "tokens.json"])
async def test_a_file_that_is_not_ours_is_refused_and_left_alone(
    make_plane: MakePlane, state_dir: Path, name: str
) -> None:
    path = state_dir / name
    await asyncio.to_thread(path.write_text, "someone else's")
    with pytest.raises(RefuseToStart, match=name.replace(".", r"\.")):
        make_plane()
    assert await asyncio.to_thread(path.read_text) == "someone else's"


async def test_probes_tell_workers_and_ledger(make_plane: MakePlane) -> None:
    health = {"interval": "10ms", "unhealthy": 1}
    backends = {"old": {"url": "http://127.0.0.1:9"}, "new": {"url": "http://127.0.0.1:9", "health": health}}
    plane = make_plane(backends=backends)
    await plane.start()
    assert plane.ledger is not None
    for each in (*plane.workers, plane.ledger):
        await each.informed()
        assert each.health[-1].healthy == {"new": False}
    assert (await plane.get("/api/v1/status"))["routes"][0]["sides"]["new"]["healthy"] is False


def of_new(*, is_open: bool) -> LedgerStats:
    stats = ledger_stats()
    stats.sides[1].is_open = is_open
    return stats


async def test_workers_hear_that_a_backend_takes_deliveries_again(plane: Plane) -> None:
    assert plane.ledger is not None
    for is_open in (True, False, False, True, True):
        plane.ledger.tell(of_new(is_open=is_open))
    await eventually(lambda: all(worker.recovered for worker in plane.workers), "the recovery")
    assert [worker.recovered for worker in plane.workers] == [[["new"]], [["new"]]]


async def test_a_new_ledger_does_not_vouch_for_a_backend(plane: Plane) -> None:
    assert plane.ledger is not None
    plane.ledger.tell(of_new(is_open=False))
    await eventually(lambda: plane.supervisor._failing == {"new"}, "the failure")
    await plane.ledger.link.close()
    await eventually(lambda: plane.supervisor.instance.peers.ledger is None)
    plane.ledger = FakeLedger(plane.places.control_socket, "ledger-2")
    plane.ledger.link.start()
    await plane.until_ready()
    for is_open in (True, False, True):
        plane.ledger.tell(of_new(is_open=is_open))
    await eventually(lambda: plane.workers[0].recovered, "the recovery")
    assert plane.workers[0].recovered == [["new"]]


async def test_every_operation_has_a_handler(plane: Plane) -> None:
    supervisor = plane.supervisor
    handlers = Handlers(
        supervisor.instance, supervisor._rollouts, supervisor._hooks, supervisor._reloads, supervisor._streams
    )
    assert set(handlers.table()) == {each.name for each in OPERATIONS}


async def test_counters_that_cannot_be_saved_are_counted(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("proxy.control.tally.write_whole", full)
    plane.supervisor._tally.save()
    assert (await plane.get("/api/v1/status"))["counters"]["control_counters_not_saved"] == 1


async def test_a_rollback_does_not_hang_on_a_ledger_that_is_stuck(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.control.peers.LEDGER_FIRST_WAIT", 0.05)
    assert plane.ledger is not None
    await plane.change("stage", stage="split", weight=50)
    assert (await plane.change("weight", weight=25))["applied"]["workers"] == 2
    assert "control_routings_before_ledger" not in (await plane.get("/api/v1/status"))["counters"]
    plane.ledger.applies = False
    assert (await plane.change("weight", weight=50))["applied"]["workers"] == 2, "nothing is taken back: no wait"
    answer = await plane.change("rollback")
    assert (answer["applied"]["workers"], answer["after"]["weight"]) == (2, 0)
    counters = (await plane.get("/api/v1/status"))["counters"]
    assert counters["control_routings_before_ledger"] == 1
    assert "the ledger did not apply epoch 5 in time: deferred events of events may reach old" in caplog.text
