"""A source between a real supervisor and two data planes: it runs in one of them, and moves with all that it knows."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from config.sources import Source
from proxy.control.link import FromSupervisor, Register, RunSource, SourceProgress, SourceStopped, StopSource
from proxy.control.link_client import LinkClient
from proxy.sources.sources import Sources
from tests.control.fakes import FakeWorker, Plane, worker_stats
from tests.control.helpers import make_settings
from tests.http.rig import Rig, make_route, running
from tests.http.wire import until
from tests.sources.fake_home import TOKEN, FakeHome

pytestmark = pytest.mark.asyncio


class PlaneWorker(FakeWorker):
    """The control link of a worker that has a data plane: its sources are real."""

    def __init__(self, path: Path, index: int, pid: int, rig: Rig, sources: tuple[Source, ...]) -> None:
        super().__init__(path, index)
        self.pid = pid
        self.link = LinkClient(path, Register("worker", index, pid, f"life-{pid}"), self.take)
        self.rig = rig
        self.sources = Sources(sources, rig.service, self.link.send)
        self.leases: list[RunSource] = []
        self._reporting = asyncio.create_task(self._report())

    def take(self, message: FromSupervisor) -> None:
        if isinstance(message, RunSource):
            self.leases.append(message)
            self.sources.run(message)
        elif isinstance(message, StopSource):
            self.sources.stop(message)
        else:
            super().take(message)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            if self.link.is_connected:
                counters = dict(self.rig.plane.counters)
                self.link.send(worker_stats(epoch=self.epoch, sources=self.sources.stats(), counters=counters))
                self.sources.report(self.link.connections)

    @property
    def runs(self) -> bool:
        return bool(self.sources.stats())

    async def die(self) -> None:
        """Nothing of it is heard any more, and nothing that it had is accepted."""
        self._reporting.cancel()
        await asyncio.gather(self._reporting, return_exceptions=True)
        await self.link.close()
        for running_source in [*self.sources._running.values()]:
            await running_source.stop(0.0)
        self.sources._running.clear()

    async def stop(self, after: float = 0.0) -> None:
        """In order, as a worker stops. after: seconds."""
        await asyncio.sleep(after)
        await self.sources.close(1.0)
        await self.die()


class Scene:
    def __init__(self, home: FakeHome, rigs: list[Rig], plane: Plane) -> None:
        self.home, self.rigs, self.plane = home, rigs, plane
        self.alive: set[int] = set()
        self.workers: list[PlaneWorker] = []
        self._take_over()

    def _take_over(self) -> None:
        leases = self.plane.supervisor.instance.sources
        leases._started = lambda pid: pid if pid in self.alive else 0  # these workers are no processes

    async def another_supervisor(self) -> None:
        await self.plane.supervisor.close()
        self.plane.supervisor = self.plane._make()
        self._take_over()
        await self.plane.supervisor.start()

    def start(self, index: int) -> PlaneWorker:
        pid = 5000 + len(self.workers)
        self.alive.add(pid)
        sources = self.plane.settings.sources
        made = PlaneWorker(self.plane.places.control_socket, index, pid, self.rigs[index], sources)
        self.workers.append(made)
        made.link.start()
        return made

    async def kill(self, worker: PlaneWorker) -> None:
        await worker.die()
        self.alive.remove(worker.pid)

    def told(self, side: str) -> list[tuple[str, str | None]]:
        """What both planes' backends of a side were told: they stand for one."""
        bodies = [orjson.loads(seen.body) for rig in self.rigs for seen in getattr(rig, side).seen]
        return [(body["entity_id"], (body["data"]["new_state"] or {"state": None})["state"]) for body in bodies]

    async def begun(self) -> None:
        """Its first snapshot was taken: from now on what changes is told."""
        await until(lambda: self.plane.supervisor.instance.sources.of("home").is_established, "it has begun")

    async def kept(self) -> None:
        """The supervisor has all that there is."""
        wanted = {name: state["last_updated"] for name, state in self.home.states.items()}
        await until(lambda: self.plane.supervisor.instance.sources.of("home").states == wanted, "it is kept")


@asynccontextmanager
async def scene(**changes: Any) -> AsyncIterator[Scene]:
    directory = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    async with AsyncExitStack() as stack:
        home = FakeHome()
        await home.start()
        rigs = [await stack.enter_async_context(running(make_route(key="json:/entity_id"))) for _ in range(2)]
        own = {"url": home.url, "token": TOKEN}
        source = {"name": "home", "route": "events", "home_assistant": own}
        source |= {"retry_initial": "10ms", "retry_max": "50ms"}
        plane = Plane(make_settings(directory, sources=[source | changes]))
        await plane.start(everybody=False)
        made = Scene(home, rigs, plane)
        for index in range(2):
            made.start(index)
        try:
            yield made
        finally:
            for worker in made.workers:
                await worker.die()
            await plane.close()
            await home.stop()
    shutil.rmtree(directory)


async def test_no_change_is_lost_and_none_told_twice_when_its_worker_stops() -> None:
    """One worker after the other stops in order while states change; both backends have every last state, once."""
    async with scene() as made:
        await made.begun()
        for turn in range(3):
            worker = next(each for each in made.workers if each.runs)
            stopping = asyncio.create_task(worker.stop(after=0.015))
            for number in range(30):
                made.home.change(f"sensor.{number % 4}", f"{turn}.{number}")
                await asyncio.sleep(0.001)
            await stopping
            made.alive.discard(worker.pid)
            await until(lambda: any(each.runs for each in made.workers), "it has moved")
            made.start(worker.index)
        await made.kept()
        last = {entity: state["state"] for entity, state in made.home.states.items()}
        for side in ("old", "new"):
            assert set(made.told(side)) >= set(last.items())
            assert len(made.told(side)) == len(set(made.told(side))), "told once"
        assert max(lease.generation for worker in made.workers for lease in worker.leases) == 4


async def test_what_a_worker_cannot_run_goes_to_another_one() -> None:
    """It finishes its clients when it is leased the source, or it was started with other settings."""
    async with scene() as made:
        one, two = made.workers
        await made.begun()
        await two.sources.close(0.0)
        await made.kill(one)
        await until(lambda: two.leases, "it is leased to the one that cannot have it")
        three = made.start(0)
        await until(lambda: three.runs, "and then to the one that can")
        assert not two.runs


async def test_a_lease_of_a_source_that_is_in_no_settings_is_given_back_once() -> None:
    said: list[SourceProgress | SourceStopped] = []

    def say(word: SourceProgress | SourceStopped) -> bool:
        said.append(word)
        return True

    async with running(make_route(key="json:/entity_id")) as rig:
        sources = Sources([], rig.service, say)
        sources.run(RunSource("home", 3))
        sources.report(1)
        sources.report(1)
        assert said == [SourceStopped("home", 3)]


async def test_it_moves_when_its_worker_is_killed_and_what_changed_is_recovered() -> None:
    async with scene() as made:
        one, two = made.workers
        await made.begun()
        made.home.change("sensor.a", "1")
        await made.kept()
        await made.kill(one)
        made.home.change("sensor.a", "2")
        made.home.change("sensor.b", "1")
        await until(lambda: two.runs, "it has moved")
        await made.kept()
        for side in ("old", "new"):
            assert sorted(made.told(side), key=str) == [("sensor.a", "1"), ("sensor.a", "2"), ("sensor.b", "1")]
        (lease,) = two.leases
        assert (lease.generation, lease.is_established, lease.had_connection) == (2, True, True)
        history = await made.plane.supervisor.instance.audit.history(1)
        assert (history[0].action, history[0].reason) == ("source-moved", "worker 0 is dead")


async def test_it_runs_on_without_a_supervisor_and_stays_where_it_is() -> None:
    async with scene() as made:
        one, two = made.workers
        await made.begun()
        await made.plane.supervisor.close()
        made.home.change("sensor.a", "1")
        await until(lambda: made.told("new") == [("sensor.a", "1")], "it goes on")
        made.plane.supervisor = made.plane._make()
        made._take_over()
        await made.plane.supervisor.start()
        await made.kept()
        assert (one.runs, two.runs, made.home.attempts) == (True, False, 1)


async def test_a_restarted_instance_tells_what_changed_while_it_was_off() -> None:
    async with scene() as made:
        await made.begun()
        made.home.change("sensor.a", "1")
        await made.kept()
        for worker in made.workers:
            await worker.stop()
            made.alive.discard(worker.pid)
        await made.plane.supervisor.close()
        made.home.change("sensor.a", "2")
        made.plane.supervisor = made.plane._make()
        made._take_over()
        await made.plane.supervisor.start()
        for index in range(2):
            made.start(index)
        await until(lambda: ("sensor.a", "2") in made.told("old"), "it is recovered")
        await made.kept()
        assert len(made.told("old")) == 2


async def test_status_and_metrics_know_it() -> None:
    async with scene() as made:
        await made.begun()
        made.home.change("sensor.a", "1")
        await made.kept()
        counters = made.plane.supervisor.instance.tally.total
        await until(lambda: counters().counters["source:home:accepted"] == 1, "it is counted")
        (view,) = (await made.plane.get("/api/v1/status"))["sources"]
        assert {name: view[name] for name in ("name", "kind", "route", "state", "trouble", "worker", "accepted")} == {
            "name": "home",
            "kind": "home_assistant",
            "route": "events",
            "state": "connected",
            "trouble": None,
            "worker": 0,
            "accepted": 1,
        }
        text = await made.plane.get("/metrics")
        assert 'crossfade_source_up{source="home"} 1.0' in text
        assert 'crossfade_source_counts_total{name="accepted",source="home"} 1.0' in text
        assert "source:" not in text
        made.home.token = "another"
        await made.home.restart()
        said = made.plane.supervisor.instance.tally

        def is_refused() -> bool:
            return any("token" in each.trouble for _, stats in said.present() for each in stats.sources)

        await until(is_refused, "it is told that its token is refused")
        status = await made.plane.get("/api/v1/status")
        assert status["sources"][0]["state"] == "unhealthy"
        (warning,) = [each for each in status["warnings"] if each.startswith("source ")]
        assert warning == ("source home is unhealthy: the token is refused: Invalid access token or password")
        assert not any("source" in each for each in made.plane.supervisor.instance.not_ready())
