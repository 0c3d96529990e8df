"""Sessions of a load against targets that are odd: what was promised is counted, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from config.units import Address
from proxy.load.generator import UnreachableError
from proxy.load.requests import Messages
from proxy.load.run import Plan, Run
from proxy.load.summary import Summary
from proxy.load.target import plain
from proxy.websocket.frames import PING, PONG, TEXT, close_frame, frame
from tests.load.servers import pong, session_target, switching

pytestmark = pytest.mark.asyncio


async def run(address: Address, *, sessions: int = 2, timeout: float = 5.0, **pace: Any) -> Summary:
    """A run; without a rate each session has one message at a time."""
    aim = plain(address, "/stream?for={{key}}")._replace(is_session=True)
    messages = Messages(aim, keys=10, headers=("X-Number: {{n}}",))
    plan = Plan(aim, messages, connections=sessions, timeout=timeout, **pace)
    return await Run(plan, lambda _second: None)()


async def test_every_message_is_another_and_confirmed() -> None:
    async with session_target() as (address, heard):
        found = await run(address, sessions=3, rate=500, count=120)
        await said_goodbye(heard.goodbyes, 3)
    assert (found.tally.confirmed, found.tally.accepted, found.tally.ended_count) == (120, 120, 120)
    assert found.is_ok
    assert found.notes() == []
    bodies = [json.loads(message) for message in heard.messages]
    assert len({body["id"] for body in bodies}) == 120
    assert {body["entity_id"] for body in bodies} == {f"sensor.meter_{n:05d}" for n in range(10)}
    assert [heard.by_session.count(session) for session in range(3)] == [40, 40, 40]
    assert heard.handshakes[0].startswith(b"GET /stream?for=sensor.meter_0000")
    assert len({head.split(b"\r\n")[2] for head in heard.handshakes}) == 3, "headers are filled in for each session"
    assert heard.goodbyes == [1000] * 3


async def said_goodbye(goodbyes: list[int], count: int) -> None:
    async with asyncio.timeout(10):
        while len(goodbyes) < count:
            await asyncio.sleep(0.01)


async def test_a_session_waits_for_no_pong_at_a_rate() -> None:
    """One at a time would take 40 times as long; the Pong of the last one is worth for all."""

    async def late(number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        if number % 40 == 39:
            await asyncio.sleep(0.1)
            await pong(number, payload, writer)

    async with session_target(late) as (address, heard):
        found = await run(address, sessions=1, rate=400, count=40)
    assert (found.tally.accepted, len(heard.messages)) == (40, 40)
    assert 0.19 <= found.tally.longest <= 2.0
    assert found.rate_problem() == ""


async def test_without_a_rate_a_session_has_one_message_at_a_time() -> None:
    most = answered = 0

    async def counts(number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal most, answered
        most = max(most, len(heard.messages) - answered)
        await asyncio.sleep(0.005)
        answered += 1
        await pong(number, payload, writer)

    async with session_target(counts) as (address, heard):
        found = await run(address, sessions=2, count=30)
    assert found.tally.accepted == 30
    assert most == 2


async def test_what_a_closed_session_had_on_its_way_has_failed() -> None:
    async def closes(number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        if number < 10 or number >= 20:
            await pong(number, payload, writer)
        elif number == 19:
            writer.write(close_frame(1012, is_client=False))

    async with session_target(closes) as (address, heard):
        found = await run(address, sessions=1, rate=400, count=60)
    assert found.tally.failures == {"closed": 10}
    assert found.tally.accepted == 50
    assert len(heard.handshakes) == 2
    assert heard.goodbyes[0] == 1012, "a close frame is answered"
    assert found.notes() == ["the target closed 1 sessions, which were opened anew"]
    assert found.error_share == pytest.approx(1 / 6)


async def test_a_session_that_broke_while_nothing_was_due_is_no_error() -> None:
    async def breaks(number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        await pong(number, payload, writer)
        await writer.drain()
        writer.close()

    async with session_target(breaks) as (address, heard):
        found = await run(address, sessions=1, rate=20, count=5)
    assert (found.tally.accepted, found.tally.failures) == (5, {})
    assert len(heard.handshakes) == 5


async def test_a_pong_that_does_not_come_is_a_timeout() -> None:
    async def forgets(number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        if number >= 4:
            await pong(number, payload, writer)

    async with session_target(forgets) as (address, heard):
        found = await run(address, sessions=1, timeout=0.2, count=6)
    assert found.tally.failures == {"timeout": 4}
    assert found.tally.accepted == 2
    assert len(heard.handshakes) == 5, "a session that is stuck is given up"


async def test_only_what_a_stuck_session_had_got_is_lost_with_it() -> None:
    async def second_session(number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        if len(heard.handshakes) > 1:
            await pong(number, payload, writer)

    async with session_target(second_session) as (address, heard):
        found = await run(address, sessions=1, timeout=0.2, rate=50, count=30)
    stuck = heard.by_session.count(0)
    assert 0 < stuck < 20
    assert found.tally.failures == {"timeout": stuck}
    assert found.tally.accepted == 30 - stuck


@pytest.mark.parametrize(
    "answer",
    [b"\x81\x80\x00\x00\x00\x00", b"\xc1\x00", b"\x83\x00", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["masked", "compressed", "reserved", "http"],
)
async def test_what_is_no_frame_is_garbled(answer: bytes) -> None:
    async def garbles(_number: int, _payload: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with session_target(garbles) as (address, _):
        found = await run(address, count=3)
    assert found.tally.failures == {"garbled": 3}


async def test_what_the_target_says_beside_pongs_is_read_and_its_pings_are_answered() -> None:
    async def talks(number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        for part in (frame(TEXT, b"hello", is_client=False), frame(PING, b"you?", is_client=False)):
            writer.write(part)
        for odd in (b"", b"not ours", b"9" * 30):
            writer.write(frame(PONG, odd, is_client=False))
        for byte in frame(PONG, payload, is_client=False):
            writer.write(bytes([byte]))
            await writer.drain()

    async with session_target(talks) as (address, heard):
        found = await run(address, sessions=1, count=4)
    assert found.tally.accepted == 4
    assert heard.pongs == [b"you?"] * 4


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "the handshake was answered with 404"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the answer to the handshake is no HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "did not upgrade to WebSocket"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "the answer to the handshake has no end"),
    ],
    ids=["404", "ssh", "no-upgrade", "endless"],
)
async def test_without_a_session_it_is_unreachable(answer: bytes, reason: str) -> None:
    async with session_target(shake=lambda _number, _head: answer) as (address, _):
        with pytest.raises(
            UnreachableError, match=rf"ws://127.0.0.1:{address.port}/stream\S* cannot be reached: .*{reason}"
        ):
            await run(address, count=1)


async def test_a_session_that_is_not_opened_again_refuses_its_messages() -> None:
    async def breaks(_number: int, _payload: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    def once(number: int, head: bytes) -> bytes:
        return switching(head) if number == 0 else b"HTTP/1.1 503 No\r\n\r\n"

    async with session_target(breaks, shake=once) as (address, _):
        found = await run(address, sessions=1, count=3)
    assert found.tally.failures == {"closed": 1, "refused": 2}


async def test_a_handshake_without_an_answer_is_given_up() -> None:
    async with session_target(shake=lambda _number, _head: b"") as (address, _):
        with pytest.raises(UnreachableError, match=r"took no connection within 0\.2 s|cannot be reached"):
            await run(address, timeout=0.2, count=1)
