"""The sessions' record says exactly what was promised."""

from __future__ import annotations

import asyncio
import time

import pytest

from config.units import Address
from proxy.demo.comparison import compare
from proxy.demo.load import wait_until
from proxy.demo.record import Record
from proxy.demo.sessions import Sessions
from proxy.demo.toy import ToyBackend

pytestmark = pytest.mark.asyncio


async def talk(toy: ToyBackend, least: int) -> Record:
    """Sessions that have ended in order, after so many promises."""
    sessions = Sessions(toy.address, rate=2_000, keys=20, sessions=4)
    sessions.start()
    await wait_until(lambda: sessions.record.accepted >= least, 20, f"{least} messages")
    return await sessions.stop()


async def test_a_healthy_backend_holds_the_record(toy: ToyBackend) -> None:
    record = await talk(toy, 300)
    found = compare(record, toy.stored())
    assert (record.client_errors, record.closed) == (0, 0)
    assert record.accepted_ids() == record.digests.keys(), "who ends in order knows of every message"
    assert found.stored == record.accepted == found.rows
    assert found.problems() == []
    assert {promise.key for promise in record.promises} == {f"sensor.meter_{n:05d}" for n in range(20)}


async def test_messages_that_are_gone_or_changed_are_found(toy: ToyBackend) -> None:
    record = await talk(toy, 20)
    toy.damage(lost=3, different=2)
    found = compare(record, toy.stored())
    assert (len(found.lost), len(found.different)) == (3, 2)
    assert set(found.lost) <= record.accepted_ids()


async def test_a_session_that_is_closed_is_an_error_and_opened_anew(toy: ToyBackend) -> None:
    await toy.fault("errors", every=20)
    sessions = Sessions(toy.address, rate=400, keys=20, sessions=2)
    sessions.start()
    await wait_until(lambda: sessions.record.closed >= 3, 20, "three closed sessions")
    await toy.fault("none")
    before = sessions.record.accepted
    await wait_until(lambda: sessions.record.accepted > before, 20, "another promise")
    record = await sessions.stop()
    assert record.failures == {"session closed (1011)": record.closed}
    assert record.client_errors == record.closed
    assert "session closed (1011)" in record.errors_text()
    assert compare(record, toy.stored()).is_complete
    assert len(record.digests) > record.accepted, "the message that was answered with the end was not promised"


async def test_sessions_that_cannot_be_opened_are_counted(toy: ToyBackend) -> None:
    await toy.fault("down")
    sessions = Sessions(toy.address, rate=400, sessions=1)
    sessions.start()
    await wait_until(lambda: sessions.record.failures["refused"] >= 2, 20, "two refusals")
    await toy.fault("none")
    await wait_until(lambda: sessions.record.accepted > 0, 20, "a promise")
    record = await sessions.stop()
    assert record.client_errors == record.failures["refused"]
    assert record.closed == 0


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503, ""),
        (b"", 0, "ended"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 0, "garbled"),
    ],
)
async def test_a_session_that_is_not_opened_is_told_from_one_that_is_refused(
    answer: bytes, status: int, kind: str
) -> None:
    """What takes no connections is another thing than what ends while it answers, as a worker that is killed does."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    sessions = Sessions(Address(host, port), rate=400, sessions=1)
    sessions.start()
    await wait_until(lambda: sessions.record.client_errors >= 2, 20, "two attempts")
    record = await sessions.stop()
    assert record.refusals == (record.client_errors if status else 0)
    assert set(record.statuses) == ({status} if status else set())
    assert set(record.failures) == ({kind} if kind else set())
    server.close()


async def test_a_missing_pong_is_no_promise(toy: ToyBackend) -> None:
    await toy.fault("stall")
    sessions = Sessions(toy.address, rate=100, sessions=2, timeout=0.3)
    sessions.start()
    await wait_until(lambda: len(sessions.record.digests) >= 4, 20, "messages")
    record = await sessions.stop()
    assert record.accepted == 0
    assert record.failures == {"timeout": 2}


async def test_they_never_send_more_than_their_rate(toy: ToyBackend) -> None:
    sessions = Sessions(toy.address, rate=50, sessions=5)
    began = time.monotonic()
    sessions.start()
    await wait_until(lambda: sessions.record.accepted >= 20, 20, "20 messages")
    record = await sessions.stop()
    assert record.accepted <= 5 + 50 * (time.monotonic() - began)


async def test_what_broke_a_session_is_raised(toy: ToyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_body: bytes) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("proxy.demo.sessions.digest_of", broken)
    sessions = Sessions(toy.address, rate=50, sessions=1)
    sessions.start()

    def is_told() -> bool:
        try:
            sessions.check()
        except ZeroDivisionError:
            return True
        return False

    await wait_until(is_told, 20, "the error")
    await sessions.cancel()
