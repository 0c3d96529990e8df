"""A whole worker on inherited descriptors: it waits for its routing, serves, tells its figures, and stops in order."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import shutil
import socket
import tempfile
from array import array
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast

import pytest

from config.model import Settings
from proxy.control.inherit import Inherited, places_of
from proxy.control.link import (
    Applied,
    BackendHealth,
    BackendRecovered,
    Drain,
    FromSupervisor,
    Register,
    RouteSpread,
    RunSource,
    SetFaults,
    SetRouting,
    SetSettings,
    SourceProgress,
    SourceStopped,
    StopSource,
    ToSupervisor,
    WorkerStats,
    to_supervisor,
)
from proxy.control.link_client import pack
from proxy.core.choose import BUCKETS
from proxy.core.drill import Fault
from proxy.core.routing import Dials, Routing
from proxy.ledger import marks
from proxy.ledger.framing import Unpacker
from proxy.ledger.marks import RESTORED, Marks
from proxy.worker.worker import Worker
from tests.http.backend import Backend, BackendConnection, reply
from tests.http.fake_ledger import FakeLedger
from tests.http.rig import event_bytes
from tests.http.wire import Wire, until
from tests.sources.fake_home import TOKEN, FakeHome

M = TypeVar("M")


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """A worker freezes what there is for the life of its process; ours goes on, with its tests frozen (conftest)."""
    yield
    gc.unfreeze()
    gc.freeze()


class Supervisor(asyncio.Protocol):
    """The other end of the control link."""

    def __init__(self) -> None:
        self.heard: list[ToSupervisor] = []
        self.transport: asyncio.Transport | None = None
        self._unpacker = Unpacker()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard += [to_supervisor.decode(payload) for payload in self._unpacker.feed(data)]

    def say(self, message: FromSupervisor) -> None:
        assert self.transport is not None
        self.transport.write(pack(message))

    def all(self, kind: type[M]) -> list[M]:
        return [message for message in self.heard if isinstance(message, kind)]


class Scene:
    """A worker and everything around it."""

    def __init__(
        self, directory: Path, sources: tuple[object, ...] = (), route: Mapping[str, Any] | None = None
    ) -> None:
        self.old, self.new = Backend(), Backend()
        self.settings = Settings.model_validate(
            {
                "version": 1,
                "state_dir": str(directory),
                "salt": "a-salt-for-tests",
                "backends": {
                    "old": {"url": f"http://127.0.0.1:{self.old.port}"},
                    "new": {"url": f"http://127.0.0.1:{self.new.port}"},
                },
                "routes": (
                    {
                        "name": "events",
                        "match": {"path": "/events"},
                        "key": "header:X-Key",
                        "event_time": "header:X-Time",
                        "identities": ("cookie:c",),
                        **(route or {}),
                    },
                ),
                "sources": sources,
                "stop_grace": "5s",
            }
        )
        places = places_of(self.settings)
        places.ledger_socket.parent.mkdir()
        self.fake = FakeLedger(places.ledger_socket)
        self.supervisor = Supervisor()
        self.control = places.control_socket
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.marks_fd = marks.create(1)
        self.marks = Marks(self.marks_fd)
        inherited = Inherited(
            self.settings, places, directory / "c.yaml", self.marks_fd, (os.dup(self.listening.fileno()),), 0, 0, 0, 0
        )
        self.worker = Worker(inherited, 2, asyncio.get_running_loop())


@asynccontextmanager
async def scene(**changes: Any) -> AsyncIterator[Scene]:
    directory = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    found = Scene(directory, **changes)
    control = await asyncio.get_running_loop().create_unix_server(lambda: found.supervisor, str(found.control))
    try:
        await found.fake.start()
        await found.old.start()
        await found.new.start()
        yield found
    finally:
        control.close()
        if found.supervisor.transport is not None:
            found.supervisor.transport.abort()
        found.fake.stop()
        found.old.stop()
        found.new.stop()
        found.listening.close()
        os.close(found.marks_fd)
        shutil.rmtree(directory)


async def serving(found: Scene) -> None:
    """Route, restore, serve."""
    starting = asyncio.create_task(found.worker.start())
    await until(lambda: found.supervisor.all(Register), "registered")
    found.supervisor.say(SetRouting(Routing(7, {"events": Dials(0.0, "durable")})))
    found.marks.set_flag(RESTORED, True)
    await starting
    await until(lambda: found.worker.ledger.is_connected, "the ledger")


@pytest.mark.asyncio
async def test_a_worker_serves_once_it_has_its_routing_and_the_marks_are_true() -> None:
    async with scene() as found:
        starting = asyncio.create_task(found.worker.start())
        await until(lambda: found.supervisor.all(Register), "registered")
        (register,) = found.supervisor.all(Register)
        assert (register.kind, register.index, register.pid) == ("worker", 2, os.getpid())
        wire = await Wire.open(found.port)  # it waits in the queue
        wire.send(event_bytes("e1"))
        found.supervisor.say(SetRouting(Routing(7, {"events": Dials(0.0, "durable")})))
        await until(lambda: found.supervisor.all(Applied), "applied")
        assert not starting.done()
        assert found.old.seen == []
        found.marks.set_flag(RESTORED, True)
        await starting
        assert (await wire.answer()).status == 200
        assert found.supervisor.all(Applied) == [Applied(7)]
        await until(lambda: "e1" in found.fake.events, "recorded")
        assert found.fake.events["e1"].epoch == 7
        wire.close()
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_worker_reads_the_headers_of_every_source() -> None:
    async with scene() as found:
        await serving(found)
        wire = await Wire.open(found.port)
        headers = b"Host: a\r\nX-Key: k\r\nX-Time: noon\r\nCookie: c=v"
        assert (await wire.ask(event_bytes("e1").replace(b"Host: a", headers))).status == 200
        await until(lambda: "e1" in found.fake.events, "recorded")
        event = found.fake.events["e1"]
        assert (event.key, event.event_time, event.identities) == ("k", "noon", ("v",))
        wire.close()
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_worker_tells_its_figures() -> None:
    async with scene() as found:
        await serving(found)
        wire = await Wire.open(found.port)
        found.new.behave = lambda seen, connection: connection.write(reply(500))
        assert (await wire.ask(event_bytes("e1", field="value"))).status == 200
        assert (await wire.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET")).status == 404
        await until(lambda: any(stats.accepted["events"] == 1 for stats in found.supervisor.all(WorkerStats)), "told")
        stats = found.supervisor.all(WorkerStats)[-1]
        assert (stats.epoch, stats.clients, stats.in_flight) == (7, 1, 0)
        assert stats.chosen == {"events": (1, 0)}
        assert {(r.backend, r.role): r.code_classes for r in stats.requests} == {
            ("old", "authority"): {"2xx": 1},
            ("new", "copy"): {"5xx": 1},
        }
        assert sum(stats.requests[0].latency.values()) == 1
        assert {r.backend: r.body_bytes for r in stats.requests} == {"old": len(b'{"field":"value"}'), "new": 0}, (
            "new failed"
        )
        assert stats.breakers == {"old": "closed", "new": "closed"}
        assert stats.open_connections == {"old": 1, "new": 1}
        assert stats.counters["handed"] == 1
        assert stats.counters["refused_no_route"] == 1
        assert stats.counters["key_missing"] == 1
        assert stats.rss_bytes > 2**20
        wire.close()
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_worker_tells_where_its_events_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.worker.worker.FIRST_SPREAD", 2)
    monkeypatch.setattr("proxy.worker.worker.SPREAD_EVERY", 3)
    async with scene() as found:
        await serving(found)
        wire = await Wire.open(found.port)
        for number in range(3):
            assert (await wire.ask(event_bytes(f"e{number}"))).status == 200

        def told() -> int:
            return sum(sum(array("I", each.counts)) for each in found.supervisor.all(RouteSpread))

        await until(lambda: told() == 3, "the events are told")
        first = next(each for each in found.supervisor.all(RouteSpread) if each.counts)
        assert len(first.counts) == 4 * BUCKETS
        assert (first.route, len(first.seen)) == ("events", 8192)
        heard = len(found.supervisor.all(RouteSpread))
        await until(lambda: len(found.supervisor.all(RouteSpread)) > heard, "the next one")
        last = found.supervisor.all(RouteSpread)[-1]
        assert (last.counts, last.seen, told()) == (b"", b"", 3)
        assert 0.5 < last.seconds < 5.0
        wire.close()
        await found.worker.stop()


@pytest.mark.asyncio
async def test_what_the_probe_finds_counts_for_the_next_event() -> None:
    async with scene() as found:
        await serving(found)
        found.supervisor.say(BackendHealth({"new": False}))
        await until(lambda: not found.worker.plane.upstreams["new"].is_healthy, "heard")
        wire = await Wire.open(found.port)
        assert (await wire.ask(event_bytes("e1"))).status == 200
        assert found.new.seen == []
        found.supervisor.say(BackendHealth({"new": True}))
        await until(lambda: found.worker.plane.upstreams["new"].is_healthy, "heard")
        assert (await wire.ask(event_bytes("e2"))).status == 200
        await until(lambda: found.new.ids() == ["e2"], "the copy")
        wire.close()
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_backend_that_the_ledger_found_well_needs_no_trial() -> None:
    async with scene() as found:
        await serving(found)
        breakers = {name: upstream.breaker for name, upstream in found.worker.plane.upstreams.items()}
        for breaker in breakers.values():
            while not breaker.failed(monotonic()):
                pass
        found.supervisor.say(BackendRecovered(["new"]))
        await until(lambda: breakers["new"].is_closed, "heard")
        assert not breakers["old"].is_closed
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_drill_fails_copies_and_tells_the_guard_as_if_new_did() -> None:
    async with scene() as found:
        await serving(found)
        found.supervisor.say(SetFaults({"events": Fault("dead", 60.0)}))
        await until(lambda: found.worker.plane.routes[0].fault is not None, "heard")
        wire = await Wire.open(found.port)
        for number in range(5):
            assert (await wire.ask(event_bytes(f"e{number}"))).status == 200
        assert found.new.seen == []

        def told() -> bool:
            stats = found.supervisor.all(WorkerStats)[-1]
            failed = {(r.backend, r.role): r.code_classes for r in stats.requests}.get(("new", "copy"))
            return (stats.breakers, failed) == ({"old": "closed", "new": "open"}, {"error": 5})

        await until(told, "told")
        assert found.worker.plane.upstreams["new"].breaker.is_closed
        found.supervisor.say(SetFaults({}))
        await until(lambda: found.worker.plane.routes[0].fault is None, "it is over")
        assert (await wire.ask(event_bytes("after"))).status == 200
        await until(lambda: found.new.ids() == ["after"], "a copy")
        await until(lambda: found.supervisor.all(WorkerStats)[-1].breakers["new"] == "closed", "told")
        wire.close()
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_stopping_worker_answers_what_is_on_its_way_and_makes_the_record_durable() -> None:
    async with scene() as found:
        await serving(found)
        held: list[BackendConnection] = []
        found.old.behave = lambda seen, connection: held.append(connection)
        busy, idle = await Wire.open(found.port), await Wire.open(found.port)
        busy.send(event_bytes("e1"))
        await until(lambda: held and len(found.worker.service.clients) == 2, "on its way")
        found.fake.holds = True
        stopping = asyncio.create_task(found.worker.stop())
        assert await idle.is_cut()
        idle.close()
        assert not stopping.done()
        held[0].write(reply(200))
        answer = await busy.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        busy.close()
        await until(lambda: 3 in found.fake.codes(1, 0), "said")
        assert not stopping.done()
        found.fake.holds = False
        found.fake.release()
        await stopping
        assert found.worker.ledger.is_flushed
        assert found.supervisor.all(WorkerStats)[-1].accepted == {"events": 1}


@pytest.mark.asyncio
async def test_a_stop_takes_no_longer_than_its_grace(caplog: pytest.LogCaptureFixture) -> None:
    async with scene() as found:
        found.worker._settings = found.settings.model_copy(update={"stop_grace": 0.05})
        await serving(found)
        found.old.behave = lambda seen, connection: None
        wire = await Wire.open(found.port)
        wire.send(event_bytes("e1"))
        await until(lambda: found.old.seen, "on its way")
        await found.worker.stop()
        assert "clients cut at the end of the grace time" in caplog.messages
        wire.reset()
        await until(lambda: not found.worker.service.clients, "gone")


@pytest.mark.asyncio
async def test_a_worker_goes_by_other_live_keys_without_touching_a_connection() -> None:
    async with scene() as found:
        await serving(found)
        (register,) = found.supervisor.all(Register)
        wire = await Wire.open(found.port)
        first = await wire.ask(event_bytes("e1"))
        assert "x-backend" not in first.headers
        route = found.settings.routes[0].model_copy(update={"backend_header": "X-Backend", "copy_wait": 0.5})
        backend = found.settings.backends["old"].model_copy(update={"response_timeout": 0.05})
        backends = found.settings.backends | {"old": backend}
        other = found.settings.model_copy(update={"routes": (route,), "backends": backends})
        found.supervisor.say(SetSettings("second", ["somebody else's"], pickle.dumps(other)))
        found.supervisor.say(SetSettings("third", [register.configuration], pickle.dumps(other)))
        await until(lambda: found.worker.plane.routes[0].settings.copy_wait == 0.5, "other settings")
        again = await wire.ask(event_bytes("e2"))  # on the same connection
        assert again.headers["x-backend"] == "old"
        assert found.worker.plane.routes[0].accepted == 2, "it is the same route, and counts on"
        assert found.worker.plane.upstreams["old"].settings.response_timeout == 0.05
        await until(lambda: found.supervisor.all(WorkerStats)[-1].configuration == "third", "its word")
        wire.close()
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_backend_that_is_probed_no_more_is_not_unhealthy_for_ever() -> None:
    async with scene() as found:
        await serving(found)
        (register,) = found.supervisor.all(Register)
        found.supervisor.say(BackendHealth({"old": False, "of another file": False}))
        await until(lambda: not found.worker.plane.upstreams["old"].is_healthy, "what the probe says")
        found.supervisor.say(SetSettings("second", [register.configuration], pickle.dumps(found.settings)))
        await until(lambda: found.worker.plane.upstreams["old"].is_healthy, "nobody's word")
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_drain_closes_with_the_next_answer_and_takes_new_clients() -> None:
    async with scene() as found:
        await serving(found)
        before = await Wire.open(found.port)
        assert "connection" not in (await before.ask(event_bytes("e1"))).headers
        found.supervisor.say(Drain())
        await until(lambda: found.worker.service.is_draining, "it is told")
        last = await before.ask(event_bytes("e2"))
        assert (last.status, last.headers["connection"]) == (200, "close")
        later = await Wire.open(found.port)
        answer = await later.ask(event_bytes("e3"))
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        before.close()
        later.close()
        await until(lambda: not found.worker.service.clients, "both are gone")
        await found.worker.stop()


@pytest.mark.asyncio
async def test_a_source_runs_where_the_supervisor_says_and_stops_with_its_worker() -> None:
    home = FakeHome()
    await home.start()
    source = {"name": "home", "route": "events", "home_assistant": {"url": home.url, "token": TOKEN}}
    async with scene(sources=(source,), route={"key": "json:/entity_id"}) as found:
        await serving(found)
        assert home.attempts == 0, "not before it is told to"
        found.supervisor.say(RunSource("home", 4))
        await until(lambda: found.supervisor.all(SourceProgress), "the first snapshot is taken")
        home.change("sensor.a", "1")
        await until(lambda: found.old.seen, "the event is there")
        wanted = {"sensor.a": home.states["sensor.a"]["last_updated"]}
        await until(lambda: found.supervisor.all(SourceProgress)[-1].states == wanted, "it is told how far it is")
        await until(lambda: any(stats.sources for stats in found.supervisor.all(WorkerStats)), "and how it is")
        (stats,) = found.supervisor.all(WorkerStats)[-1].sources
        assert (stats.name, stats.generation, stats.state, stats.trouble) == ("home", 4, "connected", "")
        await found.worker.stop()
        assert found.supervisor.all(SourceStopped) == [SourceStopped("home", 4)]
        assert found.supervisor.all(SourceProgress)[-1].states == wanted
        assert found.supervisor.all(WorkerStats)[-1].counters["source:home:accepted"] == 1
        await until(lambda: not home.sessions, "it has left")
    await home.stop()


@pytest.mark.asyncio
async def test_a_lease_that_is_over_ends_a_source_and_the_worker_serves_on() -> None:
    home = FakeHome()
    await home.start()
    source = {"name": "home", "route": "events", "home_assistant": {"url": home.url, "token": TOKEN}}
    async with scene(sources=(source,), route={"key": "json:/entity_id"}) as found:
        await serving(found)
        found.supervisor.say(RunSource("home", 4))
        await until(lambda: home.sessions, "it runs")
        found.supervisor.say(RunSource("home", 4))
        found.supervisor.say(StopSource("home", 3))
        await asyncio.sleep(0.05)
        assert (home.attempts, len(home.sessions)) == (1, 1), "it goes on"
        found.supervisor.say(StopSource("home", 4))
        await until(lambda: found.supervisor.all(SourceStopped) == [SourceStopped("home", 4)], "it has stopped")
        assert not home.sessions
        found.supervisor.say(RunSource("home", 5))
        await until(lambda: home.sessions, "it runs again")
        await found.worker.stop()
    await home.stop()
