"""The workers' end of the ledger, against a socket that reads when it is told to."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.event import Event
from proxy.core.owed import DELIVERED
from proxy.http.tick import End, Tick
from proxy.ledger.client import KEPT_BYTES, LedgerClient
from proxy.ledger.framing import Unpacker, pack
from proxy.ledger.protocol import Durable, Frame, FromLedger, Hello, Turn, Welcome, from_worker
from tests.harness.descriptors import no_descriptors
from tests.http.wire import until


class Waiter:
    """Notes what it is told."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    def record_durable(self) -> None:
        self._notes.append(f"{self._name} durable")

    def turn_came(self) -> None:
        self._notes.append(f"{self._name} turn")

    def record_unsafe(self) -> None:
        self._notes.append(f"{self._name} unsafe")


class Ledger:
    """The other end: a plain socket, read only on demand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.setblocking(False)
        self._unpacker = Unpacker()
        self.socket: socket.socket | None = None

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        self.socket, _ = await loop.sock_accept(self._listener)
        self.socket.setblocking(False)
        self._unpacker = Unpacker()

    async def read(self, count: int) -> list[Hello | Frame]:
        """So many messages."""
        assert self.socket is not None
        found: list[Hello | Frame] = []
        while len(found) < count:
            data = await asyncio.get_running_loop().sock_recv(self.socket, 2**20)
            assert data
            found += [from_worker.decode(payload) for payload in self._unpacker.feed(data)]
        assert len(found) == count
        return found

    def say(self, *messages: FromLedger) -> None:
        self.say_bytes(b"".join(pack(message) for message in messages))

    def say_bytes(self, data: bytes) -> None:
        assert self.socket is not None
        self.socket.send(data)

    def drop(self) -> None:
        assert self.socket is not None
        self.socket.close()
        self.socket = None

    def close(self) -> None:
        self._listener.close()
        if self.socket is not None:
            self.socket.close()
        self._path.unlink()


@pytest.fixture
def path() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    yield directory / "l.sock"
    shutil.rmtree(directory)


def event(number: int, body: bytes = b"") -> Event:
    return Event(number, f"e{number}", "r", "k", 0, 1, 0, 3, 0, 0, False, 0, "http", b"POST / HTTP/1.1\r\n", body)


async def connected(path: Path, durable: int = 0) -> tuple[LedgerClient, Ledger]:
    ledger = Ledger(path)
    client = LedgerClient(path, "stream", 3, asyncio.get_running_loop())
    client.connect()
    await ledger.accept()
    (hello,) = await ledger.read(1)
    assert isinstance(hello, Hello)
    assert (hello.stream, hello.worker) == ("stream", 3)
    assert not client.is_connected, "until it knows what the ledger has"
    ledger.say(Welcome(durable))
    await until(lambda: client.is_connected)
    return client, ledger


@pytest.mark.asyncio
async def test_what_was_said_in_one_iteration_is_one_frame(path: Path) -> None:
    client, ledger = await connected(path)
    assert client.flush(), "nothing was said"
    client.add(event(client.next_number()))
    client.add(event(client.next_number()))
    client.report(1, 0, DELIVERED, 200)
    assert not client.is_flushed
    assert client.flush()
    client.report(2, 1, DELIVERED, 201)
    assert client.flush()
    first, second = await ledger.read(2)
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert [(found.n, found.id) for found in first.events] == [(1, "e1"), (2, "e2")]
    assert [(n, side) for n, side, _, _ in first.reports] == [(1, 0)]
    assert (first.number, first.urgent, second.number, second.events) == (1, False, 2, [])
    ledger.say(Durable(2))
    await until(lambda: client.is_flushed)
    client.close()
    ledger.close()


def contexts(*frames: Hello | Frame) -> list[list[bytes]]:
    """Of each frame's events."""
    return [[each.context for each in frame.events] for frame in frames if isinstance(frame, Frame)]


@pytest.mark.asyncio
async def test_a_context_is_left_out_for_who_understands_that_and_given_to_who_does_not(path: Path) -> None:
    """An upgrade that is put back: what the new ledger has not confirmed goes to the one that was there before."""
    client, ledger = await connected(path)
    one = b"GET /a HTTP/1.1\r\n\r\n"

    def message(number: int) -> Event:
        return Event(number, f"e{number}", "r", "k", 0, 1, 0, 3, 0, 0, False, 0, "websocket", one, b"")

    for number in (1, 2):
        client.add_message(message(number))
    client.flush()
    assert contexts(*await ledger.read(1)) == [[one, one]], "it has not said that it understands"
    ledger.say(Welcome(1, shares_context=True), Durable(1))
    await until(lambda: client.is_flushed)
    for number in (3, 4, 5):
        client.add_message(message(number))
    client.flush()
    assert contexts(*await ledger.read(1)) == [[one, b"", b""]]
    for number in (6, 7):
        client.add_message(message(number))
    ledger.drop()
    await until(lambda: not client.is_connected)
    await ledger.accept()
    await ledger.read(1)
    ledger.say(Welcome(1))
    await until(lambda: client.is_connected)
    client.add_message(message(8))
    client.flush()
    assert contexts(*await ledger.read(2)) == [[one] * 3, [one] * 3]
    assert client.kept_bytes == sum(len(data) for _, data in client._kept)
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_what_nobody_waits_for_leaves_with_what_comes_next(path: Path) -> None:
    client, ledger = await connected(path)
    client.report_late(1, 0, 24, 0)
    assert client.flush()
    assert client.frame == 1, "for that alone there is no frame"
    assert not client.is_flushed
    client.add(event(2))
    assert client.flush()
    (frame,) = await ledger.read(1)
    assert isinstance(frame, Frame)
    assert ([each.n for each in frame.events], frame.reports) == ([2], [(1, 0, 24, 0)])
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_it_does_not_wait_for_long_and_keeps_its_place(path: Path) -> None:
    client, ledger = await connected(path)
    client.report_late(1, 0, 24, 0)
    client.report_late(1, 1, 24, 0)
    (frame,) = await ledger.read(1)
    assert isinstance(frame, Frame)
    assert frame.reports == [(1, 0, 24, 0), (1, 1, 24, 0)]
    client.report_late(2, 0, 24, 0)
    client.report(2, 0, 21, 1)
    assert client.flush()
    (frame,) = await ledger.read(1)
    assert isinstance(frame, Frame)
    assert frame.reports == [(2, 0, 24, 0), (2, 0, 21, 1)]
    client.add(event(3))  # and who added it sends nothing yet
    client.report_late(2, 1, 24, 0)
    (frame,) = await ledger.read(1)
    assert isinstance(frame, Frame)
    assert ([each.n for each in frame.events], frame.reports) == ([3], [(2, 1, 24, 0)])
    client.report_late(3, 0, 24, 0)
    draining = asyncio.create_task(client.drain(5.0))
    (frame,) = await ledger.read(1)
    assert isinstance(frame, Frame)
    assert (frame.number, frame.urgent, frame.reports) == (4, True, [(3, 0, 24, 0)])
    ledger.say(Durable(4))
    assert await draining
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_waiters_are_told_in_order_and_not_too_early(path: Path) -> None:
    client, ledger = await connected(path)
    notes: list[str] = []
    client.add(event(1))
    client.wait_durable(Waiter("one", notes))
    client.flush()
    client.wait_durable(Waiter("two", notes))  # nothing else was said: a frame of its own
    client.wait_durable(Waiter("three", notes))
    client.flush()
    frames = await ledger.read(2)
    assert [isinstance(frame, Frame) and frame.urgent for frame in frames] == [True, True]
    ledger.say(Durable(1))
    await until(lambda: notes)
    assert notes == ["one durable"]
    ledger.say(Durable(2))
    await until(lambda: len(notes) > 1)
    assert notes == ["one durable", "two durable", "three durable"]
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_a_turn_is_asked_for_with_its_event_and_told_once(path: Path) -> None:
    client, ledger = await connected(path)
    notes: list[str] = []
    waiting = event(client.next_number())
    client.add(waiting)
    client.wait_turn(waiting, Waiter("one", notes))
    client.flush()
    client.add(event(2))
    client.flush()
    first, second = await ledger.read(2)
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert (first.turns, second.turns) == ([1], [])
    ledger.say(Turn(1), Turn(1), Turn(99))
    await until(lambda: notes)
    ledger.say(Durable(2))
    await until(lambda: client.is_flushed)
    assert notes == ["one turn"]
    client.close()
    ledger.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("durable", [0, 1, 2, 3])
async def test_a_ledger_that_comes_back_gets_what_it_does_not_have(path: Path, durable: int) -> None:
    client, ledger = await connected(path)
    for number in (1, 2, 3):
        client.add(event(number))
        client.flush()
    sent = await ledger.read(3)
    ledger.drop()
    await until(lambda: client.away_since is not None)
    client.add(event(4))
    assert client.flush(), "nobody has to wait while it is away"
    await ledger.accept()
    await ledger.read(1)
    ledger.say(Welcome(durable))
    again = await ledger.read(4 - durable)
    assert again[:-1] == sent[durable:]
    assert isinstance(again[-1], Frame)
    assert again[-1].number == 4
    assert client.away_since is None
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_without_a_descriptor_it_tries_again_until_there_is_one(path: Path) -> None:
    client, ledger = await connected(path)
    ledger.drop()
    await until(lambda: client.away_since is not None)
    with no_descriptors():
        attempt = client._attempt
        await until(lambda: client._attempt is not attempt, "an attempt")
        assert client._socket is None
    await asyncio.wait_for(ledger.accept(), 10)
    assert isinstance((await ledger.read(1))[0], Hello)
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_welcome_resolves_what_became_durable_unheard(path: Path) -> None:
    client, ledger = await connected(path)
    notes: list[str] = []
    client.wait_durable(Waiter("one", notes))
    client.flush()
    await ledger.read(1)
    ledger.drop()
    await ledger.accept()
    await ledger.read(1)
    assert notes == []
    ledger.say(Welcome(1))
    await until(lambda: notes == ["one durable"])
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_a_ledger_that_does_not_read_holds_writes_until_it_does(path: Path) -> None:
    client, ledger = await connected(path)
    resumed: list[bool] = []
    client.resume = lambda: resumed.append(True)
    number = 0
    while client.flush():
        number += 1
        client.add(event(number, b"x" * 500_000))
    for _ in range(3):  # more is kept in order behind it
        number += 1
        client.add(event(number, b"y" * 1000))
        assert not client.flush()
    assert not resumed
    frames = await ledger.read(number)
    assert [frame.number for frame in frames if isinstance(frame, Frame)] == list(range(1, number + 1))
    await until(lambda: resumed)
    assert client.flush()
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_a_ledger_that_dies_while_writes_are_held_lets_them_go(path: Path) -> None:
    client, ledger = await connected(path)
    resumed: list[bool] = []
    client.resume = lambda: resumed.append(True)
    number = 0
    while client.flush():
        number += 1
        client.add(event(number, b"x" * 500_000))
    ledger.drop()
    await until(lambda: resumed)
    assert client.flush()
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_what_is_kept_is_bounded(path: Path) -> None:
    client = LedgerClient(path, "stream", 0, asyncio.get_running_loop())
    number = 0
    while not client.is_full:
        number += 1
        client.add(event(number, b"x" * 2**20))
        client.flush()
    assert number <= KEPT_BYTES // 2**20 + 1
    client.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02hi", b"\x00\x00\x00\x01\xc1"])
async def test_garbage_from_a_ledger_is_a_lost_ledger(
    path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client, ledger = await connected(path)
    client.add(event(1))
    client.flush()
    await ledger.read(1)
    with caplog.at_level(logging.WARNING):
        ledger.say_bytes(garbage)
        await until(lambda: client.away_since is not None)
    assert [record.message for record in caplog.records] == ["ledger lost"]
    ledger.drop()
    await ledger.accept()
    await ledger.read(1)
    ledger.say(Welcome(0))
    assert len(await ledger.read(1)) == 1
    client.close()
    ledger.close()


@pytest.mark.asyncio
async def test_everybody_who_waits_can_be_told_that_the_ledger_is_away(path: Path) -> None:
    client = LedgerClient(path, "stream", 0, asyncio.get_running_loop())
    notes: list[str] = []
    client.wait_durable(Waiter("one", notes))
    waiting = event(1)
    client.add(waiting)
    client.wait_turn(waiting, Waiter("two", notes))
    client.fail_waiters()
    assert notes == ["one unsafe", "two unsafe"]
    client.close()


@pytest.mark.asyncio
async def test_drain_waits_until_everything_is_durable(path: Path) -> None:
    client, ledger = await connected(path)
    client.add(event(1))
    draining = asyncio.create_task(client.drain(10))
    (frame,) = await ledger.read(1)
    assert isinstance(frame, Frame)
    assert frame.urgent
    assert not draining.done()
    ledger.say(Durable(1))
    assert await draining
    client.add(event(2))
    assert not await client.drain(0.01)
    client.close()
    ledger.close()


# the tick


class Transport(asyncio.Transport):
    """Notes what is done to it."""

    def __init__(self, name: str, notes: list[str]) -> None:
        super().__init__()
        self._name = name
        self._notes = notes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._notes.append(f"{self._name} write {bytes(data).decode()}")

    def close(self) -> None:
        self._notes.append(f"{self._name} close")

    def write_eof(self) -> None:
        self._notes.append(f"{self._name} eof")

    def is_closing(self) -> bool:
        return False


@pytest.mark.asyncio
async def test_records_leave_before_anything_is_written() -> None:
    notes: list[str] = []
    is_open = True

    def flush() -> bool:
        notes.append("flush")
        return is_open

    tick = Tick(asyncio.get_running_loop(), flush)
    one, two = Transport("one", notes), Transport("two", notes)
    tick.write(one, b"a")
    tick.write(two, b"b")
    tick.end(one, End.CLOSE)
    tick.end(two, End.LINGER)
    assert notes == []
    await until(lambda: notes)
    assert notes == ["flush", "one write a", "two write b", "one close", "two eof"]
    notes.clear()
    is_open = False
    tick.write(one, b"c")
    tick.write(two, b"d")
    await until(lambda: notes)
    assert notes == ["flush"], "held"
    assert tick.drop_writes(two)
    assert not tick.drop_writes(two)
    is_open = True
    tick.run()
    assert notes == ["flush", "flush", "one write c"]


@pytest.mark.asyncio
async def test_a_ledger_that_has_forgotten_the_stream_ends_it(path: Path) -> None:
    client, ledger = await connected(path)
    forgotten: list[bool] = []
    client.forgotten = lambda: forgotten.append(True)
    client.add(event(1))
    assert client.flush()
    await ledger.read(1)
    ledger.say(Durable(1))
    await until(lambda: client.is_flushed)
    ledger.drop()
    await until(lambda: client.away_since is not None)
    await ledger.accept()
    await ledger.read(1)
    ledger.say(Welcome(0))
    await until(lambda: bool(forgotten))
    assert not client.is_connected
    client.close()
    ledger.close()
