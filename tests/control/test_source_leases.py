"""Leases: one worker at a time has a source, whatever dies, and what it had told goes with it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from config.sources import Source
from proxy.control import processes
from proxy.control.audit import Audit, Entry
from proxy.control.files import write_whole
from proxy.control.link import FromSupervisor, RunSource, SourceProgress, SourceStats, SourceStopped, StopSource
from proxy.control.peers import Peer, Peers
from proxy.control.source_leases import FIRST_WAIT, HANG, Lease, SourceLeases
from proxy.core.errors import RefuseToStart

SOURCE = Source.model_validate({"name": "home", "route": "events", "websocket": {"url": "ws://127.0.0.1:1"}})


class Worker:
    """A worker process: what it runs, and its link, which may be down while it lives."""

    def __init__(self, index: int, pid: int) -> None:
        self.kind, self.index, self.pid, self.life = "worker", index, pid, f"life-{pid}"
        self.applied = 1
        self.heard_at = 0.0
        self.runs: dict[str, int] = {}
        self.said: list[FromSupervisor] = []
        self.is_stopping = False

    def send(self, message: FromSupervisor) -> None:
        self.said.append(message)
        if isinstance(message, RunSource) and message.generation > self.runs.get(message.name, 0):
            self.runs[message.name] = message.generation

    @property
    def peer(self) -> Peer:
        return cast(Peer, self)

    def stats(self) -> list[SourceStats]:
        return [SourceStats(name, generation, "connected", "", 0) for name, generation in self.runs.items()]


class FakePeers:
    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}


class FakeAudit:
    def __init__(self) -> None:
        self.entries: list[Entry] = []

    async def write(self, entry: Entry) -> None:
        self.entries.append(entry)


class Scene:
    """Leases of one source over two workers, without sockets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 100.0
        self.born = 0
        self.peers, self.audit = FakePeers(), FakeAudit()
        self.processes: dict[int, Worker] = {}
        """Those that are alive, by number."""
        self.hidden: set[int] = set()
        """Numbers of processes that cannot be looked at."""
        self.stopped: set[int] = set()
        self.ended: list[int] = []
        self.is_draining = False
        self.counts: Counter[str] = Counter()
        self.leases = self.made()

    def made(self) -> SourceLeases:
        return SourceLeases(
            [SOURCE],
            cast(Peers, self.peers),
            cast(Audit, self.audit),
            self.path,
            self.counts,
            workers=2,
            clock=lambda: self.now,
            epoch=lambda: 7,
            is_draining=lambda: self.is_draining,
            started=self.started,
            is_stopped=lambda pid: pid in self.stopped,
            end=self.ended.append,
        )

    def started(self, pid: int) -> int:
        return processes.UNKNOWN if pid in self.hidden else pid if pid in self.processes else processes.GONE

    def worker(self, index: int) -> Worker:
        """Another process in this place, linked and heard."""
        self.born += 1
        made = Worker(index, 1000 + self.born)
        self.processes[made.pid] = made
        self.link(made)
        return made

    def link(self, worker: Worker) -> None:
        worker.heard_at = self.now
        self.peers.workers[worker.index] = worker
        self.leases.heard(worker.peer, worker.stats())

    def unlink(self, worker: Worker) -> None:
        self.peers.workers.pop(worker.index, None)

    def kill(self, worker: Worker) -> None:
        del self.processes[worker.pid]
        self.unlink(worker)

    def running(self) -> list[Worker]:
        return [worker for worker in self.processes.values() if worker.runs]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "sources.json")


def progress(generation: int, is_whole: bool = False, **states: str | None) -> SourceProgress:
    return SourceProgress("home", generation, is_whole, True, True, states)


@pytest.mark.asyncio
async def test_one_worker_gets_it_and_a_dead_ones_source_goes_to_another(scene: Scene) -> None:
    one, two = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    assert [worker.runs for worker in (one, two)] == [{"home": 1}, {}]
    scene.leases.progress(one.peer, progress(1, a="v1", b="v1"))
    scene.leases.progress(one.peer, progress(1, b=None, c="v2"))
    scene.kill(one)
    await scene.leases.look()
    assert two.said == [RunSource("home", 2, True, True, {"a": "v1", "c": "v2"})]
    (entry,) = scene.audit.entries
    assert (entry.action, entry.route, entry.epoch, entry.reason) == ("source-moved", "events", 7, "worker 0 is dead")
    assert entry.evidence == {"source": "home", "worker": 1, "generation": 2}
    assert scene.counts["sources_moved"] == 1


@pytest.mark.asyncio
async def test_a_link_that_ended_is_no_death(scene: Scene) -> None:
    """It may run without us: only its end, or its word, makes the source free."""
    one, two = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    scene.unlink(one)
    await scene.leases.look()
    assert two.runs == {}
    scene.link(one)
    await scene.leases.look()
    assert [type(each) for each in one.said] == [RunSource] * 1
    one.runs.clear()
    scene.leases.stopped(one.peer, SourceStopped("home", 1))
    await scene.leases.look()
    assert (one.runs, two.runs) == ({}, {"home": 2}), "not to the one that stops"


@pytest.mark.asyncio
async def test_nothing_is_leased_while_nobody_can_say_who_lives(scene: Scene) -> None:
    one, two = scene.worker(0), scene.worker(1)
    scene.hidden = {one.pid, two.pid}
    await scene.leases.look()
    assert (one.runs, two.runs) == ({}, {})
    scene.hidden = set()
    await scene.leases.look()
    assert one.runs == {"home": 1}
    scene.unlink(one)
    scene.hidden = {one.pid}
    await scene.leases.look()
    assert two.runs == {}, "its link ended, and it runs on"
    scene.hidden = set()
    scene.kill(one)
    await scene.leases.look()
    assert two.runs == {"home": 2}


@pytest.mark.asyncio
async def test_one_that_runs_without_a_file_is_known_once_its_process_is(scene: Scene) -> None:
    one, _ = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    scene.path.unlink()
    scene.leases = scene.made()
    scene.hidden = {one.pid}
    scene.link(one)
    scene.hidden = set()
    assert (scene.leases.of("home").generation, one.runs) == (0, {"home": 1})
    scene.link(one)
    scene.unlink(one)
    await scene.leases.look()
    assert len(scene.running()) == 1


@pytest.mark.asyncio
async def test_one_that_dies_as_it_is_leased_to_keeps_nothing(scene: Scene) -> None:
    one, two = scene.worker(0), scene.worker(1)
    del scene.processes[one.pid]
    await scene.leases.look()
    scene.unlink(one)
    await scene.leases.look()
    assert two.runs == {"home": 2}


@pytest.mark.asyncio
async def test_words_of_an_earlier_lease_do_nothing(scene: Scene) -> None:
    one = scene.worker(0)
    two = scene.worker(1)
    await scene.leases.look()
    scene.kill(one)
    await scene.leases.look()
    scene.leases.stopped(one.peer, SourceStopped("home", 1))
    scene.leases.progress(one.peer, progress(1, a="old"))
    assert (scene.leases.of("home").is_over, scene.leases.of("home").states) == (False, {})
    assert two.runs == {"home": 2}


@pytest.mark.asyncio
async def test_nothing_is_leased_before_every_worker_has_said_what_it_runs(scene: Scene) -> None:
    one = scene.worker(0)
    await scene.leases.look()
    assert one.runs == {}, "another one is expected, which may run it"
    scene.now += FIRST_WAIT
    one.heard_at = scene.now
    silent = Worker(1, 77)
    scene.processes[77] = scene.peers.workers[1] = silent
    scene.peers.workers[1] = silent
    scene.processes[77] = silent
    await scene.leases.look()
    assert one.runs == {}
    scene.link(silent)
    await scene.leases.look()
    assert one.runs == {"home": 1}


@pytest.mark.asyncio
async def test_the_next_supervisor_knows_who_has_it(scene: Scene) -> None:
    one, two = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    scene.leases.progress(one.peer, progress(1, a="v1"))
    await scene.leases.close()
    scene.leases = scene.made()
    scene.link(two)
    scene.unlink(one)
    scene.now += FIRST_WAIT
    two.heard_at = scene.now
    await scene.leases.look()
    assert two.runs == {}, "one is alive, and has not come back yet"
    scene.link(one)
    await scene.leases.look()
    assert (one.runs, two.runs, scene.leases.of("home").states) == ({"home": 1}, {}, {"a": "v1"})


@pytest.mark.asyncio
async def test_a_file_that_was_lost_costs_no_second_worker(scene: Scene) -> None:
    one, two = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    scene.path.unlink()
    scene.leases = scene.made()
    scene.link(two)
    scene.link(one)
    await scene.leases.look()
    assert (one.runs, two.runs, scene.leases.of("home").generation) == ({"home": 1}, {}, 1)


@pytest.mark.asyncio
async def test_one_that_runs_without_a_lease_is_told_to_stop(scene: Scene) -> None:
    one, two = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    assert one.runs
    scene.leases.heard(two.peer, [SourceStats("home", 1, "connected", "", 0)])
    assert two.said == [StopSource("home", 1)]


@pytest.mark.asyncio
async def test_nothing_is_begun_while_it_drains_nor_by_a_worker_that_hangs(scene: Scene) -> None:
    one, two = scene.worker(0), scene.worker(1)
    scene.is_draining = True
    await scene.leases.look()
    assert (one.runs, two.runs) == ({}, {})
    scene.is_draining = False
    scene.now += 10
    two.heard_at = scene.now
    await scene.leases.look()
    assert (one.runs, two.runs) == ({}, {"home": 1})


@pytest.mark.asyncio
@pytest.mark.parametrize("is_linked", [True, False])
async def test_one_that_hangs_is_ended(scene: Scene, *, is_linked: bool) -> None:
    """With a link that stands, or under a supervisor that came later, stopped by a signal."""
    one, two = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    if not is_linked:
        scene.unlink(one)
        scene.stopped.add(one.pid)
    for _ in range(int(HANG)):
        assert scene.ended == []
        scene.now += 1.0
        two.heard_at = scene.now
        await scene.leases.look()
    for _ in range(5):
        scene.now += 1.0
        two.heard_at = scene.now
        await scene.leases.look()
    assert scene.ended == [one.pid]
    assert scene.counts["workers_ended"] == 1
    assert two.runs == {}, "not before it is gone"
    scene.kill(one)
    await scene.leases.look()
    assert two.runs == {"home": 2}


@pytest.mark.asyncio
async def test_who_is_not_heard_because_nobody_looked_or_is_just_not_linked_is_not(scene: Scene) -> None:
    one, two = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    scene.now += 1000
    await scene.leases.look()
    one.heard_at = two.heard_at = scene.now
    scene.unlink(one)
    for _ in range(100):
        scene.now += 1.0
        two.heard_at = scene.now
        await scene.leases.look()
    assert scene.ended == []


@pytest.mark.asyncio
async def test_a_source_that_is_not_configured_any_more_is_forgotten_unless_it_runs(scene: Scene) -> None:
    one = scene.worker(0)
    scene.worker(1)
    await scene.leases.look()
    held = scene.leases.of("home")
    other = Lease(generation=3, worker=0, life=one.life, pid=one.pid, started=one.pid, is_over=False)
    scene.leases._leases |= {"gone": Lease(generation=5, states={"a": "1"}), "runs": other}
    scene.leases._is_changed = True
    await scene.leases.close()
    scene.leases = scene.made()
    assert scene.leases.of("gone").generation == 5
    await scene.leases.forget_removed()
    scene.leases = scene.made()
    assert [scene.leases.of(name).generation for name in ("gone", "runs", "home")] == [0, 3, held.generation]


@pytest.mark.asyncio
async def test_no_lease_is_given_that_is_not_written(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    one = scene.worker(0)
    scene.worker(1)
    with monkeypatch.context() as patch:
        patch.setattr("proxy.control.source_leases.write_whole", full)
        await scene.leases.look()
        assert one.runs == {}
        assert scene.leases.trouble == "sources.json cannot be written: No space left on device"
        assert scene.counts["sources_not_saved"] >= 1
    await scene.leases.look()
    assert (one.runs, scene.leases.trouble) == ({"home": 2}, "")


@pytest.mark.asyncio
async def test_a_move_is_written_down_as_it_was_though_its_lease_is_written_late(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    one, two = scene.worker(0), scene.worker(1)
    await scene.leases.look()
    scene.leases.progress(one.peer, progress(1, a="v1"))
    scene.kill(one)
    with monkeypatch.context() as patch:
        patch.setattr("proxy.control.source_leases.write_whole", full)
        for _ in range(3):
            await scene.leases.look()
    assert two.runs == {}
    assert len([each for each in caplog.records if "cannot be written" in each.getMessage()]) == 1
    await scene.leases.look()
    assert two.said == [RunSource("home", 5, True, True, {"a": "v1"})]
    assert [(entry.action, entry.reason) for entry in scene.audit.entries] == [("source-moved", "worker 0 is dead")]
    assert scene.counts["sources_moved"] == 1


@pytest.mark.asyncio
async def test_a_write_that_was_cut_short_is_made_up_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task that writes is cancelled as everything stops; what is newer must not be lost for it."""
    written = write_whole
    go_on = threading.Event()

    def slow(path: Path, data: bytes) -> None:
        go_on.wait(10)
        written(path, data)

    one = scene.worker(0)
    scene.worker(1)
    await scene.leases.look()
    monkeypatch.setattr("proxy.control.source_leases.write_whole", slow)
    scene.leases.progress(one.peer, progress(1, a="v1"))
    scene.now += 10
    looking = asyncio.create_task(scene.leases.look())
    await asyncio.sleep(0.02)
    scene.leases.progress(one.peer, progress(1, a="v2"))
    looking.cancel()
    go_on.set()
    await scene.leases.close()
    assert scene.made().of("home").states == {"a": "v2"}


@pytest.mark.parametrize("text", ["", "{", '{"schema":9,"sources":{}}', '{"schema":1,"sources":[]}', "[]"])
def test_a_file_that_is_not_ours_is_refused_and_left(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sources.json"
    path.write_text(text)
    with pytest.raises(RefuseToStart, match=r"sources\.json"):
        Scene(path)
    assert path.read_text() == text


class OneAtATime(RuleBasedStateMachine):
    """Workers, links and supervisors come and go in any order; a process runs on until it dies or stops."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
        self.scene = Scene(self.directory / "sources.json")
        for index in range(2):
            self.scene.worker(index)
        self.generation = 0

    def do(self, work: Any) -> None:
        asyncio.run(work)

    def of(self, index: int) -> Worker | None:
        return next((worker for worker in self.scene.processes.values() if worker.index == index), None)

    @rule()
    def look(self) -> None:
        self.do(self.scene.leases.look())

    @rule(index=st.integers(0, 1))
    def die(self, index: int) -> None:
        worker = self.of(index)
        if worker is not None:
            self.scene.kill(worker)

    @rule(index=st.integers(0, 1))
    def start(self, index: int) -> None:
        """The launcher starts another one only when the last one is gone."""
        if self.of(index) is None:
            self.scene.worker(index)

    @rule(index=st.integers(0, 1), is_linked=st.booleans())
    def links(self, index: int, is_linked: bool) -> None:
        worker = self.of(index)
        if worker is not None:
            (self.scene.link if is_linked else self.scene.unlink)(worker)

    @rule(index=st.integers(0, 1), is_heard=st.booleans())
    def stop(self, index: int, is_heard: bool) -> None:
        """It stops the source; the word of it may be lost with the process."""
        worker = self.of(index)
        if worker is None:
            return
        for name, generation in worker.runs.items():
            if is_heard:
                self.scene.leases.stopped(worker.peer, SourceStopped(name, generation))
        worker.runs.clear()
        self.scene.kill(worker)

    @rule()
    def report(self) -> None:
        for worker in [*self.scene.peers.workers.values()]:
            worker.heard_at = self.scene.now
            self.scene.leases.heard(worker.peer, worker.stats())

    @rule(is_in_order=st.booleans())
    def another_supervisor(self, is_in_order: bool) -> None:
        if is_in_order:
            self.do(self.scene.leases.close())
        self.scene.peers.workers.clear()
        self.scene.leases = self.scene.made()

    @rule(hidden=st.sets(st.integers(0, 1)))
    def looks(self, hidden: set[int]) -> None:
        """Some processes cannot be looked at for a while."""
        self.scene.hidden = {pid for pid, worker in self.scene.processes.items() if worker.index in hidden}

    @precondition(lambda self: len(self.scene.peers.workers) == 2)
    @rule()
    def time_passes(self) -> None:
        self.scene.now += 1

    @invariant()
    def no_two_run_it(self) -> None:
        assert len(self.scene.running()) <= 1

    @invariant()
    def generations_rise(self) -> None:
        for worker in self.scene.running():
            assert worker.runs["home"] >= self.generation
            self.generation = worker.runs["home"]

    def teardown(self) -> None:
        """Somebody gets it in the end."""
        self.scene.hidden = set()
        try:
            for index in range(2):
                self.start(index)
                self.links(index, True)
            self.report()
            self.look()
            assert len(self.scene.running()) == 1
        finally:
            self.do(self.scene.leases.close())
            shutil.rmtree(self.directory)


TestOneAtATime = OneAtATime.TestCase


def test_a_lease_is_over_until_there_is_one() -> None:
    assert Lease().is_over
