"""A ledger that is there but does nothing: it takes nothing any more, or it confirms nothing."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

import pytest

from proxy.ledger.protocol import Claims, Frame, Hello
from tests.http.backend import BackendConnection, always, reply
from tests.http.fake_ledger import FakeLedger, _Link
from tests.http.rig import Rig, event_bytes, make_route, running
from tests.http.wire import Answer, until

LARGE = "x" * 500_000


class StuckLedger(FakeLedger):
    """Stops reading when it is told to, connections that come later too.

    copies: frames that came again although they were there, which a ledger ignores by their number.
    """

    is_stuck = False
    copies = 0

    def stick(self) -> None:
        """Read nothing more."""
        self.is_stuck = True
        for link in self._links:
            link.transport.pause_reading()

    def go_on(self) -> None:
        """Read again, from the latest connection: a stream has one, and what came by an older one ends with it."""
        self.is_stuck = False
        for link in self._links[:-1]:
            link.transport.abort()
        (link,) = self._links[-1:]
        assert isinstance(link, _StuckLink)
        link.go_on()

    def _take(self, link: _Link, message: Hello | Frame | Claims) -> None:
        if isinstance(message, Frame) and message.number in self.frames and message.number > self.durable:
            assert self.frames[message.number] == message, "a frame that is sent again is the same"
            self.copies += 1
            return
        super()._take(link, message)


class _StuckLink(_Link):
    unread = b""

    def data_received(self, data: bytes) -> None:
        ledger = self._ledger
        assert isinstance(ledger, StuckLedger)
        if ledger.is_stuck:  # a loop may read once although reading was paused when the connection was made
            self.transport.pause_reading()
            self.unread += data
        else:
            super().data_received(data)

    def go_on(self) -> None:
        """Take what was not read."""
        data, self.unread = self.unread, b""
        self.data_received(data)
        self.transport.resume_reading()


pytestmark = pytest.mark.plain


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short times, and rigs whose ledger can be stuck."""
    monkeypatch.setattr("proxy.ledger.client.TAKES_NOTHING", 0.5)
    monkeypatch.setattr("proxy.ledger.client.CONFIRMS_NOTHING", 0.2)
    monkeypatch.setattr("proxy.ledger.client._SIGN_OF_LIFE", 0.02)
    monkeypatch.setattr("proxy.http.plane._AWAY", 0.1)
    monkeypatch.setattr("proxy.http.plane._HOUSEKEEPING", 0.01)
    monkeypatch.setattr("tests.http.rig.FakeLedger", StuckLedger)
    monkeypatch.setattr("tests.http.fake_ledger._Link", _StuckLink)


def stuck(rig: Rig) -> StuckLedger:
    """Its ledger."""
    assert isinstance(rig.fake, StuckLedger)
    return rig.fake


async def fill(rig: Rig) -> list[asyncio.Task[Answer]]:
    """Send events until the ledger's socket takes no more; the last ones are held."""
    asked: list[asyncio.Task[Answer]] = []
    while not rig.ledger._unsent:
        asked.append(asyncio.create_task(rig.ask(event_bytes(f"held-{len(asked)}", key="k", text=LARGE))))
        await until(lambda: rig.ledger.number == len(asked), "recorded")
        await until(lambda: rig.ledger._unsent or all(task.done() for task in asked), "held or answered")
    return asked


@pytest.mark.asyncio
async def test_a_ledger_that_stops_reading_holds_nobody_for_long(caplog: pytest.LogCaptureFixture) -> None:
    strict = make_route(name="strict", match={"path": "/strict", "methods": ("POST",)}, ordering="strict")
    needing = event_bytes("needing", key="k").replace(b"/events", b"/strict")
    async with running(make_route(), strict) as rig:
        rig.plane.start()
        stuck(rig).stick()
        with caplog.at_level(logging.WARNING):
            asked = await fill(rig)
            assert not asked[-1].done(), "its record has not left"
            assert [(await task).status for task in asked] == [200] * len(asked)
        assert [record.message for record in caplog.records] == ["ledger lost"]
        for i in range(5):
            assert (await rig.ask(event_bytes(f"healthy-{i}", key="k"))).status == 200
        away = rig.ledger.away_since
        assert away is not None, "connecting again is not enough, it has to say something"
        await until(lambda: monotonic() - away > 0.1, "away for too long")
        answer = await rig.ask(needing)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.plane.counters["refused_ledger_away"] == 1
        stuck(rig).go_on()
        await rig.settled()
        ids = [*(f"held-{i}" for i in range(len(asked))), *(f"healthy-{i}" for i in range(5))]
        assert [rig.story(event_id) for event_id in ids] == [("D", "D")] * len(ids)
        assert stuck(rig).copies == 0
        assert list(rig.fake.frames) == list(range(1, len(rig.fake.frames) + 1)), "each of them, once, in order"
        rig.check_ends()
        assert (await rig.ask(needing.replace(b"needing", b"served."))).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", [{}, {"ack": "accepted"}, {"durability": "before-send"}], ids=str)
async def test_a_ledger_that_confirms_nothing_is_not_waited_for(policy: dict[str, str]) -> None:
    async with running(make_route(**policy)) as rig:
        rig.plane.start()
        rig.fake.holds = True
        rig.new.behave = always(reply(500))  # a healthy pair would not wait
        answer = await rig.ask(event_bytes("e", key="k"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.plane.counters["ledger_unavailable"] == 1
        await until(lambda: len(rig.fake.hellos) > 1 and rig.ledger.is_connected, "a new connection")
        rig.fake.holds = False
        rig.new.behave = always(reply(200))
        rig.fake.release()
        await rig.settled()
        assert rig.fake.numbers["e"] == [1], "recorded once, and still owed"
        assert (await rig.ask(event_bytes("f", key="k"))).status in (200, 202)
        await rig.settled()


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", [{"dedupe": "5m"}, {"ordering": "strict"}], ids=str)
async def test_a_ledger_that_hangs_is_told_from_a_turn_that_takes_long(policy: dict[str, str]) -> None:
    async with running(make_route(**policy)) as rig:
        rig.plane.start()
        rig.fake.judges = rig.fake.grants = False
        asking = asyncio.create_task(rig.ask(event_bytes("e", key="k")))
        await until(lambda: rig.fake.durable >= 5, "it is asked whether it is alive, again and again")
        assert not asking.done()
        assert len(rig.fake.hellos) == 1
        rig.fake.holds = True
        answer = await asking
        assert (answer.status, answer.detail) == (503, "the ledger is not available")
        await until(lambda: len(rig.fake.hellos) > 1 and rig.ledger.is_connected, "a new connection")
        rig.fake.holds = False
        rig.fake.release()
        await until(lambda: not rig.ledger._waiters, "alive again")
        assert not rig.ledger.claims.waiting


@pytest.mark.asyncio
async def test_a_new_connection_has_its_own_time_to_confirm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits since before the ledger was started again must not end its connection at once, again and again."""
    monkeypatch.setattr("proxy.ledger.client.CONFIRMS_NOTHING", 60.0)
    async with running() as rig:
        rig.fake.holds = True
        rig.new.behave = always(reply(500))
        asked = asyncio.create_task(rig.ask(event_bytes("e", key="k")))
        await until(lambda: rig.ledger._waiters, "waits")
        frame, waiter, since = rig.ledger._waiters.popleft()
        rig.ledger._waiters.append((frame, waiter, since - 61))
        rig.fake.stop()
        await until(lambda: not rig.ledger.is_connected, "away")
        await rig.fake.start()
        await until(lambda: rig.ledger.is_connected, "back")
        rig.ledger.check_time(rig.ledger._connected_at + 59)
        assert rig.ledger.is_connected
        rig.fake.release()
        await until(lambda: rig.fake.frames, "sent again")
        rig.fake.holds = False
        rig.fake.release()
        assert (await asked).status == 200


def take_events(data: bytes, connection: BackendConnection) -> None:
    """Answer events, of which the end has come, and nothing else."""
    if data.endswith(b'"}'):
        connection.write(reply(200))


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["in", "out"])
async def test_long_bodies_wait_with_everything_else(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be written before the ledger has its records is not read either: it would only pile up here."""
    monkeypatch.setattr("proxy.ledger.client.TAKES_NOTHING", 60.0)
    size, piled = 30_000_000, 0
    request = b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    big = make_route(name="big", match={"path": "/big", "methods": ("POST",)}, stream=True, key="client")
    async with running(make_route(), big) as rig:
        wire = await rig.wire()
        if way == "in":
            rig.old.is_sink = True
            rig.old.eager = take_events
            wire.send(request)
            await until(lambda: rig.old.connections, "it goes on")
        else:
            rig.other.behave = lambda seen, connection: connection.write(reply(200, b"x" * size)[:1000])
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await wire.reader.readuntil(b"\r\n\r\n")
        stuck(rig).stick()
        asked = await fill(rig)
        if way == "in":
            wire.send(b"x" * size)
        else:
            rig.other.connections[0].write(b"x" * size)
        for _ in range(200):
            await asyncio.sleep(0.001)
            piled = sum(len(data) for _, data in rig.tick._writes if isinstance(data, bytes))
        assert 0 < piled < 3_000_000
        stuck(rig).go_on()
        assert [(await task).status for task in asked] == [200] * len(asked)
        if way == "in":
            connection = rig.old.connections[0]
            await until(lambda: len(connection.received) > size, "all of it")
            connection.write(reply(200))
            assert (await wire.answer()).status == 200
        else:
            await wire.reader.readexactly(size - 1000)
