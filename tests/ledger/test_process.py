"""The ledger as a process: killed in the middle of commits, stopped, orphaned, refused, failing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from proxy.control.link import Applied, Ask, Drain, LedgerStats, Register, Reply, SetRouting
from proxy.core.event import Event
from proxy.core.owed import DELIVERED, REFUSED, STATE_NAMES
from proxy.core.routing import Dials, Routing
from proxy.ledger.framing import Unpacker, pack
from proxy.ledger.marks import FAILED
from proxy.ledger.protocol import Durable, Frame, Hello, Welcome, from_ledger
from tests.ledger import support
from tests.ledger.process import FakeSupervisor, LedgerProgram
from tests.ledger.support import FakeWorker, rows, until

pytestmark = pytest.mark.asyncio
MIB = 2**20


@pytest_asyncio.fixture
async def program(short: Path) -> AsyncIterator[LedgerProgram]:
    program = LedgerProgram(short)
    yield program
    await program.close()


def event(n: int, **changes: Any) -> Event:
    """An event of now: older ones would be dropped with their segment."""
    return support.event(n, accepted_ns=time.time_ns(), **changes)


def recorded(program: LedgerProgram) -> dict[str, tuple[str, str]]:
    """States by event id, over all segments; every id once."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((program.state / "ledger").glob("segment-*.db")):
        for id, old, new in rows(path, "SELECT id, old_state, new_state FROM receipt ORDER BY seq"):
            assert id not in found, f"{id} is recorded twice"
            found[id] = (STATE_NAMES[old], STATE_NAMES[new])
    return found


class ResendingWorker:
    """A worker as workers are: it keeps frames until they are durable and sends them again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames: dict[int, bytes] = {}
        self.durable = 0
        self.sent = 0
        self.events = 0
        self._open: list[Event] = []

    async def talk(self, random: Random, frames: int) -> None:
        """Connect, send again what is not durable, then `frames` more; ends when the ledger does or all is durable."""
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        writer.write(pack(Hello("stream", 0, 1)))
        target = self.sent + frames
        unpacker = Unpacker()
        try:
            while data := await reader.read(65536):
                for payload in unpacker.feed(data):
                    message = from_ledger.decode(payload)
                    if isinstance(message, Welcome):
                        assert message.durable >= self.durable, "what was durable is lost"
                        self._made_durable(message.durable)
                        writer.writelines(self._frames[number] for number in sorted(self._frames))
                    elif isinstance(message, Durable):
                        self._made_durable(message.number)
                while self.sent < target and len(self._frames) < 20:
                    writer.write(self._make_frame(random))
                if self.durable == target:
                    return
        except ConnectionError:
            return
        finally:
            writer.close()

    async def reach(self, number: int) -> None:
        """Wait until a frame is durable."""
        await until(lambda: self.durable >= number, f"frame {number} is durable")

    def _made_durable(self, number: int) -> None:
        self.durable = max(self.durable, number)
        self._frames = {at: data for at, data in self._frames.items() if at > number}

    def _make_frame(self, random: Random) -> bytes:
        """Some new events, and outcomes of some old ones."""
        self.sent += 1
        made = []
        for _ in range(random.randint(1, 8)):
            self.events += 1
            made.append(event(self.events, key=f"k{self.events % 11}"))
        reports = []
        for each in list(self._open):
            if random.random() < 0.5:
                self._open.remove(each)
                reports += [(each.n, 0, DELIVERED, 200), (each.n, 1, REFUSED, 409)]
        self._open += made
        data = pack(Frame(self.sent, random.random() < 0.3, made, reports))
        self._frames[self.sent] = data
        return data

    def finish(self) -> None:
        """Report everything that is still open."""
        self.sent += 1
        reports = [r for e in self._open for r in ((e.n, 0, DELIVERED, 200), (e.n, 1, REFUSED, 409))]
        self._frames[self.sent] = pack(Frame(self.sent, True, [], reports))
        self._open = []


async def test_killed_in_the_middle_of_commits_it_records_everything_once(program: LedgerProgram, soak: bool) -> None:
    random = Random(7)
    worker = ResendingWorker(program.socket)
    for _ in range(100 if soak else 6):
        await program.start()
        talk = asyncio.create_task(worker.talk(random, 100_000))
        await worker.reach(worker.durable + random.randint(5, 60))
        await program.kill()
        await talk
    await program.start()
    worker.finish()
    await worker.talk(random, 0)
    program.signal(signal.SIGTERM)
    assert (await program.wait())[0] == 0
    found = recorded(program)
    assert len(found) == worker.events > 100
    assert set(found.values()) == {("delivered", "refused")}
    assert len(list((program.state / "ledger").glob("segment-*.db"))) > 1, "it went over a change of segments"


async def test_an_orderly_stop_flushes_and_says_so(program: LedgerProgram) -> None:
    await program.start()
    worker = FakeWorker(program.socket)
    await worker.connect()
    for n in range(1, 101):
        worker.say([event(n)], [(n, 0, DELIVERED, 200), (n, 1, DELIVERED, 200)])
    await until(lambda: worker.durable > 0, "it reads")
    await worker.die()
    program.signal(signal.SIGTERM)
    code, said = await program.wait()
    assert code == 0, said
    assert len(recorded(program)) == 100
    newest = max((program.state / "ledger").glob("segment-*.db"))
    assert rows(newest, "SELECT value FROM meta WHERE name = 'clean'") == [(1,)]


async def test_orphaned_it_waits_for_its_workers_last_words(program: LedgerProgram) -> None:
    await program.start()
    worker = FakeWorker(program.socket)
    await worker.connect()
    program.cut_lifeline()
    await worker.say_durably([event(1)], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 200)])
    assert program.process is not None
    assert program.process.poll() is None
    await worker.die()
    code, said = await program.wait()
    assert code == 0, said
    assert recorded(program) == {"id-1": ("delivered", "delivered")}


async def test_a_foreign_file_is_refused_with_78(program: LedgerProgram) -> None:
    (program.state / "ledger").mkdir()
    foreign = program.state / "ledger" / "segment-00000001.db"
    foreign.write_text("somebody's diary")
    program.launch()
    code, said = await program.wait()
    assert code == 78
    assert str(foreign) in said
    assert "refuses to start" in said
    assert foreign.read_text() == "somebody's diary"
    assert os.listdir(program.state / "ledger") == ["segment-00000001.db"]


async def test_a_failed_write_ends_it_at_once_and_shows_the_flag(program: LedgerProgram) -> None:
    await program.start(file_size=2 * MIB)
    worker = FakeWorker(program.socket)
    await worker.connect()
    worker.say([event(1)], urgent=True)
    await until(lambda: worker.durable == 1, "the first is durable")
    number = worker.say([event(2, body=b"x" * 4 * MIB)], urgent=True)
    code, said = await program.wait()
    assert code == 70, said
    assert "could not write" in said
    assert program.marks.flag(FAILED)
    assert worker.durable < number, "nothing was acknowledged"
    await worker.die()
    await program.start()
    again = FakeWorker(program.socket)
    await again.connect()
    assert again.welcome == 1
    assert not program.marks.flag(FAILED)
    await again.die()


async def test_it_reports_and_answers_over_the_control_link(program: LedgerProgram) -> None:
    supervisor = FakeSupervisor(program.state / "run" / "control.sock")
    await supervisor.start()
    await program.start()
    worker = FakeWorker(program.socket)
    await worker.connect()
    await worker.say_durably(
        [event(1), event(2, handed=2)], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 200), (2, 0, DELIVERED, 200)]
    )
    registered = await supervisor.heard(Register)
    assert (registered.kind, registered.index) == ("ledger", 0)
    supervisor.tell(SetRouting(Routing(7, {"events": Dials(10.0, "durable")})))
    assert await supervisor.heard(Applied) == Applied(7)
    supervisor.said.clear()
    stats = await supervisor.heard(LedgerStats)
    assert stats.epoch == 7
    assert stats.receipts == 2
    assert stats.rss_bytes > MIB
    sides = {(side.route, side.side): side for side in stats.sides}
    new = sides["events", 1]
    assert (new.backend, new.marked, new.balance["pending"], new.balance["delivered"]) == ("new", 1, 1, 1)
    assert sides["events", 0].balance["owed"] == 2
    supervisor.tell(Ask(1, "events", {"side": 1, "state": "pending"}))
    reply = await supervisor.heard(Reply)
    assert [each["id"] for each in reply.result["events"]] == ["id-2"]
    supervisor.tell(Ask(2, "nonsense", {}))
    reply = await supervisor.heard(Reply)
    assert (reply.id, reply.error) == (2, "unknown question 'nonsense'")
    await worker.die()
    program.signal(signal.SIGTERM)
    assert (await program.wait())[0] == 0
    await supervisor.close()


async def _drained(program: LedgerProgram, seconds: float) -> tuple[int, str]:
    """One event that new has not got, then a stop that is to deliver first; the exit code and what was said."""
    supervisor = FakeSupervisor(program.state / "run" / "control.sock")
    await supervisor.start()
    await program.start()
    worker = FakeWorker(program.socket)
    await worker.connect()
    await supervisor.heard(Register)
    await worker.say_durably([event(1, handed=2)], [(1, 0, DELIVERED, 200)])
    supervisor.tell(Drain(seconds))
    supervisor.tell(SetRouting(Routing(7, {"events": Dials(0.0, "durable")})))
    await supervisor.heard(Applied)  # hence it has heard of the drain, too
    await worker.die()
    program.signal(signal.SIGTERM)
    found = await program.wait()
    await supervisor.close()
    return found


async def test_it_delivers_what_is_pending_before_it_ends_where_that_is_wanted(short: Path) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    program = LedgerProgram(short, new=server.sockets[0].getsockname()[1])
    try:
        code, said = await _drained(program, 20.0)
        assert (code, recorded(program)) == (0, {"id-1": ("delivered", "delivered")}), said
    finally:
        await program.close()
        server.close()


async def test_what_cannot_be_delivered_in_time_stays_owed(program: LedgerProgram) -> None:
    code, said = await _drained(program, 0.5)
    assert (code, recorded(program)) == (0, {"id-1": ("delivered", "pending")})
    assert "1 events are still pending: they stay owed, and the next start delivers them" in said
