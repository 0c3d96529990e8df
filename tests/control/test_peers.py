"""The control links as the supervisor holds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.control.link import Applied, CheckerStats, LedgerStats, Register, Reply, RouteSpread, WorkerStats
from proxy.control.link_client import pack
from proxy.control.peers import LedgerRefused, LedgerUnavailable, Peer, Peers
from proxy.control.sockets import listen_unix
from proxy.core.routing import Dials, Routing
from tests.control.fakes import FakeChecker, FakeLedger, FakeWorker, worker_stats
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio


class Heard:
    """Notes what the peers do and say."""

    def __init__(self) -> None:
        self.joined: list[str] = []
        self.left: list[str] = []
        self.stats: list[WorkerStats | LedgerStats | CheckerStats] = []
        self.spreads: list[RouteSpread] = []

    def peer_joined(self, peer: Peer) -> None:
        self.joined.append(peer.life)

    def peer_left(self, peer: Peer) -> None:
        self.left.append(peer.life)

    def worker_said(self, _peer: Peer, stats: WorkerStats) -> None:
        self.stats.append(stats)

    def worker_spread(self, _peer: Peer, spread: RouteSpread) -> None:
        self.spreads.append(spread)

    def ledger_said(self, _peer: Peer, stats: LedgerStats) -> None:
        self.stats.append(stats)

    def checker_said(self, _peer: Peer, stats: CheckerStats) -> None:
        self.stats.append(stats)


class Scene:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard = Heard()
        self.peers = Peers(2, self.heard)
        self.fakes: list[FakeWorker] = []

    def worker(self, index: int, life: str = "", **more: Any) -> FakeWorker:
        return self._start(FakeWorker(self.path, index, life, **more))

    def ledger(self) -> FakeLedger:
        fake = FakeLedger(self.path)
        self._start(fake)
        return fake

    def checker(self) -> FakeChecker:
        fake = FakeChecker(self.path)
        self._start(fake)
        return fake

    def _start(self, fake: FakeWorker) -> FakeWorker:
        self.fakes.append(fake)
        fake.link.start()
        return fake


@pytest_asyncio.fixture
async def scene(state_dir: Path) -> AsyncIterator[Scene]:
    made = Scene(state_dir / "c.sock")
    await made.peers.start(listen_unix(made.path))
    yield made
    for fake in made.fakes:
        await fake.link.close()
    await made.peers.close()


def routing(epoch: int) -> Routing:
    return Routing(epoch, {"events": Dials(25.0, "durable", False)})


async def test_present_and_future_peers_get_the_routing(scene: Scene) -> None:
    first = scene.worker(0)
    await eventually(lambda: 0 in scene.peers.workers)
    scene.peers.set_routing(routing(1))
    scene.peers.set_health({"new": False})
    second, ledger = scene.worker(1), scene.ledger()
    for each in (first, second, ledger):
        await each.informed()
        assert each.routings[0].routing == routing(1)
        assert each.health[-1].healthy == {"new": False}
    assert await scene.peers.wait_applied(1, 5.0) == 2


async def test_waiting_for_a_worker_that_does_not_apply_ends(scene: Scene) -> None:
    scene.worker(0)
    scene.worker(1, applies=False)
    await eventually(lambda: len(scene.peers.workers) == 2)
    scene.peers.set_routing(routing(5))
    await eventually(lambda: scene.peers.applied(5) == 1)
    assert await scene.peers.wait_applied(5, 0.01) == 1


async def test_the_ledger_applies_a_routing_before_workers_get_it(scene: Scene) -> None:
    worker, ledger = scene.worker(0), scene.ledger()
    ledger.applies = False
    await eventually(lambda: scene.peers.workers and scene.peers.ledger)
    scene.peers.set_routing(routing(1))
    giving = asyncio.create_task(scene.peers.set_routing_ledger_first(routing(2)))
    await eventually(lambda: ledger.epoch == 2, "the ledger has it")
    late = scene.worker(1)
    await eventually(lambda: late.epoch == 1, "who registers meanwhile gets what the others have")
    assert (worker.epoch, giving.done()) == (1, False)
    assert ledger.link.send(Applied(2))
    assert await giving
    await eventually(lambda: worker.epoch == late.epoch == 2)


async def test_workers_do_not_wait_for_ever_for_a_ledger(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.control.peers.LEDGER_FIRST_WAIT", 0.05)
    worker = scene.worker(0)
    await eventually(lambda: scene.peers.workers)
    assert not await scene.peers.set_routing_ledger_first(routing(1))  # there is none
    await eventually(lambda: worker.epoch == 1)
    ledger = scene.ledger()
    ledger.applies = False
    await eventually(lambda: scene.peers.ledger)
    assert not await scene.peers.set_routing_ledger_first(routing(2))  # it is stuck
    await eventually(lambda: worker.epoch == ledger.epoch == 2)


async def test_a_new_life_takes_the_place_of_the_old(scene: Scene) -> None:
    scene.worker(0, "a")
    await eventually(lambda: 0 in scene.peers.workers)
    before = scene.peers.workers[0]
    other = scene.worker(0, "b")
    await eventually(lambda: scene.heard.joined == ["a", "b"])
    assert scene.heard.left == ["a"]
    assert scene.peers.workers[0] is not before
    await other.link.close()
    await eventually(lambda: "b" in scene.heard.left)


async def test_a_peer_that_ends_is_gone(scene: Scene) -> None:
    worker, ledger = scene.worker(0), scene.ledger()
    await eventually(lambda: scene.peers.workers and scene.peers.ledger)
    assert not await scene.peers.wait_empty(0.01)
    await worker.link.close()
    await ledger.link.close()
    assert await scene.peers.wait_empty(5.0)
    assert sorted(scene.heard.left) == ["ledger-1", "worker-0"]


async def test_an_orphan_takes_nobody_new_and_keeps_whom_it_has(scene: Scene) -> None:
    scene.worker(0, "present")
    await eventually(lambda: scene.heard.joined == ["present"], "the worker joined")
    scene.peers.stop_listening()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(str(scene.path))
    assert scene.heard.joined == ["present"]
    assert scene.heard.left == []


async def test_questions_and_answers(scene: Scene) -> None:
    with pytest.raises(LedgerUnavailable, match="not connected"):
        await scene.peers.ask("summary", {})
    ledger = scene.ledger()
    ledger.answers = {"summary": {"balanced": True}, "replay": "no bodies", "events": lambda args: args["limit"]}
    await eventually(lambda: scene.peers.ledger)
    results = await asyncio.gather(*(scene.peers.ask("events", {"limit": n}) for n in range(20)))
    assert results == list(range(20))
    assert await scene.peers.ask("summary", {}) == {"balanced": True}
    with pytest.raises(LedgerRefused, match="no bodies"):
        await scene.peers.ask("replay", {})
    with pytest.raises(LedgerUnavailable, match="did not answer within"):
        await scene.peers.ask("unanswered", {}, timeout=0.01)


async def test_a_question_to_a_ledger_that_dies_ends_at_once(scene: Scene) -> None:
    ledger = scene.ledger()
    await eventually(lambda: scene.peers.ledger)
    asking = asyncio.create_task(scene.peers.ask("unanswered", {}))
    await eventually(lambda: ledger.asked)
    await ledger.link.close()
    with pytest.raises(LedgerUnavailable, match="ended before it answered"):
        await asking


async def test_an_answer_that_comes_too_late_is_nobodys(scene: Scene) -> None:
    ledger = scene.ledger()
    await eventually(lambda: scene.peers.ledger)
    with pytest.raises(LedgerUnavailable):
        await scene.peers.ask("unanswered", {}, timeout=0.01)
    ledger.link.send(Reply(1, "late"))
    ledger.answers = {"summary": 1}
    assert await scene.peers.ask("summary", {}) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (2**30).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        pack(Applied(1)),
        pack(Register("worker", 2, 1, "x")),
        pack(Register("worker", -1, 1, "x")),
        pack(Register("intruder", 0, 1, "x")),
        pack(Register("ledger", 0, 1, "x")) + pack(worker_stats()),
        pack(Register("worker", 0, 1, "x")) + pack(Register("worker", 0, 1, "x")),
        pack(Register("worker", 0, 1, "x")) + pack(Reply(1, None)),
    ],
)
async def test_garbage_closes_that_connection_alone(scene: Scene, garbage: bytes) -> None:
    scene.worker(1)
    await eventually(lambda: 1 in scene.peers.workers)
    reader, writer = await asyncio.open_unix_connection(str(scene.path))
    writer.write(garbage)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    await eventually(lambda: scene.peers.garbage == 1)
    assert list(scene.peers.workers) == [1]


async def test_a_peer_that_does_not_read_is_cut_off(scene: Scene) -> None:
    reader, writer = await asyncio.open_unix_connection(str(scene.path))
    writer.write(pack(Register("worker", 0, 1, "deaf")))
    await eventually(lambda: 0 in scene.peers.workers)
    big = Routing(1, {f"route-{i}": Dials() for i in range(50_000)})
    for _ in range(20):
        scene.peers.set_routing(big)
    await eventually(lambda: scene.heard.left == ["deaf"])
    writer.close()
    del reader


async def test_a_checker_gets_every_routing_and_says_its_figures(scene: Scene) -> None:
    scene.peers.set_routing(routing(1))
    checker = scene.checker()
    await eventually(lambda: checker.epoch == 1, "the routing at its registration")
    scene.peers.set_routing(routing(2))
    await eventually(lambda: checker.epoch == 2, "the next one")
    checker.find(settled=3)
    await eventually(lambda: scene.heard.stats, "its figures")
    assert scene.peers.applied(2) == 0, "nobody waits for a checker"
    assert scene.peers.workers == {}
    checker.say()
    await eventually(lambda: scene.peers.garbage == 1, "a worker's figures are none of a checker's")
