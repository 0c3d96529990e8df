"""The socket: order within a round, backpressure, a stream that comes twice."""

from __future__ import annotations

import os
import stat

import pytest

from proxy.core.event import BOTH
from proxy.ledger import server as server_module
from proxy.ledger.framing import pack
from proxy.ledger.server import LedgerServer, WorkerConnection
from tests.ledger.support import Desk, FakeWorker, Ledgers, event, frame, rows, until

pytestmark = pytest.mark.asyncio


async def test_the_socket_is_only_ours(ledgers: Ledgers) -> None:
    ledgers.socket.parent.mkdir()
    ledgers.socket.write_text("left by a dead one")
    await ledgers.start()
    assert stat.S_IMODE(os.stat(ledgers.socket).st_mode) == 0o600


async def test_a_round_is_ordered_by_acceptance_and_streams_keep_their_own_order(ledgers: Ledgers) -> None:
    desk = Desk(ledgers.directory)
    server = LedgerServer(desk.book, lambda urgent: None, lambda stream: None, desk.clock)
    one, two = WorkerConnection(server), WorkerConnection(server)
    inbox = [
        (one, frame(1, [event(1, id="d", accepted_ns=40)])),
        (one, frame(2, [], [(1, 0, 3, 200)])),
        (one, frame(3, [event(2, id="e", accepted_ns=50)])),
        (two, frame(1, [event(1, id="a", accepted_ns=10), event(2, id="b", accepted_ns=20)])),
        (two, frame(2, [event(3, id="c", accepted_ns=30)])),
        (two, frame(3, [event(4, id="early clock", accepted_ns=1)])),
    ]
    ordered = [(connection is one, each.number) for connection, each in server._in_order(inbox)]
    assert ordered == [(False, 1), (False, 2), (False, 3), (True, 1), (True, 2), (True, 3)]
    desk.store.close()


@pytest.mark.plain
async def test_it_stops_reading_when_commits_do_not_keep_up(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_UNCOMMITTED", 50_000)
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    numbers = [worker.say([event(n, body=b"b" * 60_000)]) for n in range(1, 31)]
    await until(lambda: worker.durable == numbers[-1], "all of it is durable in the end")
    assert keeper.counters()["reading_paused"] > 0


async def test_a_second_connection_of_a_stream_replaces_the_first(ledgers: Ledgers) -> None:
    await ledgers.start()
    first = await ledgers.worker("s1")
    await first.say_durably([event(1)])
    second = FakeWorker(ledgers.socket, "s1")
    ledgers.workers.append(second)
    await second.connect()
    await until(lambda: first.is_closed, "the first is closed")
    assert second.welcome == 1
    second.number = 1
    await second.say_durably([event(2)], [(1, 0, 3, 200), (1, 1, 3, 200)])
    assert ledgers.states() == {"id-1": ("delivered", "delivered"), "id-2": ("pending", "pending")}


async def test_turns_pass_between_workers_and_over_a_restart(ledgers: Ledgers) -> None:
    await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    await one.say_durably([event(1)], turns=[1])
    await until(lambda: one.turns == [1], "the first has its turn")
    await two.say_durably([event(1, id="second", owed=BOTH)], turns=[1])
    assert two.turns == []
    await ledgers.stop(clean=False)
    await one.die()
    await two.die()
    await ledgers.start()
    await two.connect()
    await one.connect()
    await until(lambda: one.turns == [1, 1], "told again")
    assert two.turns == []
    one.say([], [(1, 0, 3, 200), (1, 1, 3, 200)])
    await until(lambda: two.turns == [1], "then the next")


async def test_a_frame_before_hello_or_a_second_hello_is_garbage(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    worker.send_raw(pack(worker._hello))
    await until(lambda: worker.is_closed, "closed")
    assert keeper.counters()["garbage_connections"] == 1
    assert rows(keeper._store.newest.path, "SELECT count(*) FROM receipt") == [(0,)]
