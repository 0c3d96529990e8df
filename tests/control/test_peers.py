"""The control links as the supervisor holds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from proxy.control.link import (
    Applied,
    CheckerStats,
    Decided,
    Drain,
    LedgerStats,
    ProposeSettings,
    Register,
    Reply,
    RouteSpread,
    SetSettings,
    SourceProgress,
    SourceStopped,
    Spans,
    WorkerStats,
)
from proxy.control.link_client import pack
from proxy.control.peers import LedgerRefused, LedgerUnavailable, Peer, Peers
from proxy.control.reload import NobodyDecides, propose
from proxy.control.sockets import listen_unix
from proxy.core.drill import Fault
from proxy.core.routing import Dials, Routing
from proxy.core.trace import Span
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
        self.spans: list[Span] = []
        self.sources: list[SourceProgress | SourceStopped] = []
        self.proposals: list[ProposeSettings] = []

    def peer_joined(self, peer: Peer) -> None:
        self.joined.append(peer.life)

    def peer_left(self, peer: Peer) -> None:
        self.left.append(peer.life)

    def worker_said(self, _peer: Peer, stats: WorkerStats) -> None:
        self.stats.append(stats)

    def worker_spread(self, _peer: Peer, spread: RouteSpread) -> None:
        self.spreads.append(spread)

    def spans_said(self, _peer: Peer, spans: Spans) -> None:
        self.spans += spans.spans

    def source_progressed(self, _peer: Peer, progress: SourceProgress) -> None:
        self.sources.append(progress)

    def source_stopped(self, _peer: Peer, stopped: SourceStopped) -> None:
        self.sources.append(stopped)

    def ledger_said(self, _peer: Peer, stats: LedgerStats) -> None:
        self.stats.append(stats)

    def checker_said(self, _peer: Peer, stats: CheckerStats) -> None:
        self.stats.append(stats)

    def settings_proposed(self, peer: Peer, proposal: ProposeSettings) -> None:
        self.proposals.append(proposal)
        peer.send(Decided(["not today"]))


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


async def test_a_later_life_takes_the_place_of_one_that_is_there_still(scene: Scene) -> None:
    old = scene.worker(0, "a", since=1.0)
    await eventually(lambda: 0 in scene.peers.workers)
    new = scene.worker(0, "b", since=2.0)
    await eventually(lambda: scene.heard.joined == ["a", "b"])
    assert (scene.peers.workers[0].life, [peer.life for peer in scene.peers.parting]) == ("b", ["a"])
    assert scene.heard.left == []
    scene.peers.set_routing(routing(1))
    await eventually(lambda: old.epoch == new.epoch == 1)  # one that drains has events still
    await old.link.close()
    await eventually(lambda: scene.heard.left == ["a"])
    assert (scene.peers.workers[0].life, scene.peers.parting) == ("b", [])


async def test_an_earlier_life_that_comes_back_does_not_take_the_place(scene: Scene) -> None:
    scene.worker(0, "new", since=2.0)
    await eventually(lambda: 0 in scene.peers.workers)
    scene.worker(0, "old", since=1.0)  # both of them register with a supervisor that is new
    await eventually(lambda: scene.heard.joined == ["new", "old"])
    assert (scene.peers.workers[0].life, [peer.life for peer in scene.peers.parting]) == ("new", ["old"])


async def test_who_had_the_place_has_it_again_when_the_later_one_ends(scene: Scene) -> None:
    scene.worker(0, "a", since=1.0)
    await eventually(lambda: 0 in scene.peers.workers)
    new = scene.worker(0, "b", since=2.0)
    await eventually(lambda: scene.peers.workers[0].life == "b")
    await new.link.close()
    await eventually(lambda: scene.peers.workers[0].life == "a")
    assert (scene.heard.joined, scene.heard.left) == (["a", "b", "a"], ["b"])
    assert await scene.peers.wait_applied(0, 0.0) == 1


async def test_a_worker_that_is_not_expected_any_more_is_heard_until_it_ends(scene: Scene) -> None:
    surplus = scene.worker(5, "s")
    await eventually(lambda: scene.heard.joined == ["s"])
    assert (scene.peers.workers, scene.peers.garbage) == ({}, 0)
    await surplus.link.close()
    await eventually(lambda: scene.heard.left == ["s"])
    assert scene.peers.parting == []


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


class Later(msgspec.Struct, tag="later"):
    """A message that only a later version knows."""

    n: int = 1


async def test_a_message_of_a_later_version_is_passed_over(scene: Scene) -> None:
    worker = scene.worker(0)
    await eventually(lambda: 0 in scene.peers.workers)
    worker.link.send(Later())  # type: ignore[arg-type]
    scene.peers.workers[0].send(Later())  # type: ignore[arg-type]
    worker.say()
    scene.peers.set_routing(routing(1))
    await eventually(lambda: scene.heard.stats and worker.epoch == 1)
    assert (scene.peers.garbage, worker.link.connections) == (0, 1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (2**30).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        pack(Applied(1)),
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


async def test_drills_are_told_to_workers_and_the_ledger_those_that_come_later_too(scene: Scene) -> None:
    now = 100.0
    scene.peers._clock = lambda: now
    before = scene.worker(0)
    await eventually(lambda: 0 in scene.peers.workers)
    scene.peers.set_faults({"events": Fault("slow", 60.0, 0.5)})
    await eventually(lambda: before.faults == [{"events": Fault("slow", 60.0, 0.5)}])
    now = 145.0
    later, ledger, checker = scene.worker(1), scene.ledger(), scene.checker()
    await eventually(lambda: later.faults == ledger.faults == [{"events": Fault("slow", 15.0, 0.5)}])
    now = 160.0
    again = scene.worker(1, "again")
    await eventually(lambda: again.faults == [{}], "nothing is left of it")
    await eventually(lambda: scene.peers.checker is not None)
    scene.peers.set_faults({})
    await eventually(lambda: before.faults[-1] == ledger.faults[-1] == {})
    assert checker.faults == []


async def test_how_far_sources_are_is_passed_on_and_only_workers_say_it(scene: Scene) -> None:
    worker, ledger = scene.worker(0), scene.ledger()
    progress, stopped = SourceProgress("home", 1, True, True, True, {"a": "v"}), SourceStopped("home", 1)
    await eventually(lambda: len(scene.heard.joined) == 2)
    assert worker.link.send(progress)
    assert worker.link.send(stopped)
    await eventually(lambda: scene.heard.sources == [progress, stopped])
    assert ledger.link.send(stopped)
    await eventually(lambda: scene.peers.garbage == 1)
    assert scene.heard.sources == [progress, stopped]


async def test_live_keys_are_told_to_workers_whose_settings_may_be_followed(scene: Scene) -> None:
    follows, differs = scene.worker(0), scene.worker(1)
    follows.register.configuration, differs.register.configuration = "first", "another"
    await eventually(lambda: set(scene.peers.workers) == {0, 1})
    other = SetSettings("second", ["first"], b"pickled")
    scene.peers.set_settings(other)
    scene.peers.set_routing(routing(1))
    await eventually(lambda: follows.epoch == differs.epoch == 1)
    assert (follows.settings, differs.settings) == ([other], [])
    assert scene.peers.serving("second") == 0
    follows.register.configuration = "second"
    follows.say()
    await eventually(lambda: scene.peers.serving("second") == 1, "its word that it goes by them")
    again = scene.worker(1, "again")
    again.register.configuration = "first"
    await eventually(lambda: again.settings == [other], "one that comes later is told, too")


async def test_a_proposal_is_passed_on_and_what_was_decided_comes_back(scene: Scene) -> None:
    proposal = ProposeSettings("crossfade.yaml", "abc", "second")
    decided = await asyncio.to_thread(propose, scene.path, proposal)
    assert decided == Decided(["not today"])
    assert scene.heard.proposals == [proposal]
    assert scene.heard.joined == [], "it is none of the instance's processes"
    worker = scene.worker(0)
    await eventually(lambda: scene.peers.workers)
    assert worker.link.send(proposal)
    await eventually(lambda: scene.peers.garbage == 1, "no worker proposes settings")


async def test_nobody_decides_where_there_is_no_supervisor(scene: Scene) -> None:
    with pytest.raises(NobodyDecides, match="try again in a moment"):
        await asyncio.to_thread(propose, scene.path.with_name("nobody.sock"), ProposeSettings("f", "t"))


async def test_a_drain_is_told_to_workers_and_the_ledger_those_that_come_later_too(scene: Scene) -> None:
    worker, ledger, checker = scene.worker(0), scene.ledger(), scene.checker()
    await eventually(lambda: len(scene.heard.joined) == 3)
    scene.peers.drain(5.0)
    later = scene.worker(1)
    await eventually(lambda: worker.drains == ledger.drains == later.drains == [Drain(5.0)])
    assert checker.drains == []
