"""The generator against targets that answer in every way HTTP knows, and in some that it does not."""

from __future__ import annotations

import asyncio
import time

import pytest

from config.units import Address
from proxy.load.generator import DONE, Generator, Lane, UnreachableError
from proxy.load.requests import Requests
from proxy.load.schedule import ClosedLoop, OpenLoop
from proxy.load.tally import Tally
from proxy.load.target import plain
from tests.load.servers import OK, Answer, says, target

pytestmark = pytest.mark.asyncio
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nall of it"


class Bodies(Tally):
    """Also keeps the answers' bodies."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: set[bytes] = set()

    def ended(self, lane: Lane, now: float) -> float:
        self.bodies.add(lane.body)
        return super().ended(lane, now)


def generator(address: Address, tally: Tally, *, connections: int = 2, timeout: float = 5.0) -> Generator:
    aim = plain(address)
    return Generator(
        aim, Requests(aim, keys=10).make, tally, connections=connections, timeout=timeout, patience=timeout
    )


async def play(made: Generator, schedule: OpenLoop | ClosedLoop) -> None:
    try:
        await made.open()
        await schedule.run(made)
        await made.finish(10)
    finally:
        made.close()


@pytest.mark.parametrize(
    ("answer", "body", "connections"),
    [
        (says(OK), b"{}", 2),
        (says(*[bytes([byte]) for byte in OK]), b"{}", 2),
        (says(b"HTTP/1.1 204 No Content\r\n\r\n"), b"", 2),
        (says(b"HTTP/1.1 100 Continue\r\n\r\n", OK), b"{}", 2),
        (says(CHUNKED, b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"), b"abcde", 2),
        (says(CHUNKED + b"0\r\n\r\n"), b"", 2),
        (says(UNTIL_CLOSE, close=True), b"all of it", 20),
        (says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1", close=True), b"1", 20),
        (says(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1", close=True), b"1", 20),
    ],
    ids=["length", "bytewise", "204", "100", "chunked", "no-chunks", "no-length", "no-keep-alive", "1.0"],
)
async def test_every_form_of_answer_is_read(answer: Answer, body: bytes, connections: int) -> None:
    tally = Bodies()
    async with target(answer) as (address, seen):
        await play(generator(address, tally), ClosedLoop(20, None))
    assert tally.accepted == tally.answered == len(seen.requests) == 20
    assert tally.bodies == {body}
    assert seen.connections == connections


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (says(close=True), "ended"),
        (says(OK[:-1], close=True), "ended"),
        (says(CHUNKED + b"5\r\nab", close=True), "ended"),
        (says(b"SSH-2.0-OpenSSH\r\n\r\n"), "garbled"),
        (says(CHUNKED + b"no size\r\n"), "garbled"),
        (says(OK + b"more"), "garbled"),
        (says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "garbled"),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000), "garbled"),
        (says(), "timeout"),
        (says(OK[:-1]), "timeout"),
    ],
    ids=["closes", "short", "short-chunk", "ssh", "bad-chunk", "more", "101", "endless-head", "silent", "stuck"],
)
async def test_every_missing_answer_has_its_kind(answer: Answer, kind: str) -> None:
    tally = Tally()
    async with target(answer) as (address, _):
        await play(generator(address, tally, timeout=0.2), ClosedLoop(4, None))
    assert tally.failures == {kind: 4}
    assert tally.failed == tally.ended_count == 4


async def test_events_of_a_target_that_is_gone_are_refused() -> None:
    tally = Tally()
    async with target(says(OK)) as (address, _):
        await play(generator(address, tally), ClosedLoop(4, None))
    made = generator(address, tally)
    made.start()
    made.offer(0, time.perf_counter())
    await made.finish(5)
    made.close()
    assert tally.statuses == {201: 4}
    assert tally.failures == {"refused": 1}


async def test_a_target_that_is_not_there_is_unreachable() -> None:
    async with target(says(OK)) as (address, _):
        pass
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{address.port}/api/v1/events cannot be reached: .*refused"):
        await play(generator(address, Tally()), ClosedLoop(1, None))


async def test_waiting_for_a_connection_is_part_of_the_latency() -> None:
    async def slowly(_number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(OK)

    # One connection carries 10 events/s: at 50/s the last of 10 is due after 0.18 s and answered after a second.
    tally = Tally()
    async with target(slowly) as (address, _):
        await play(generator(address, tally, connections=1), OpenLoop(50, 10))
    assert tally.accepted == 10
    assert tally.longest >= 0.8
    assert tally.latency.quantile(0.0) >= 0.098


async def test_what_waits_longer_than_patience_is_not_sent() -> None:
    tally = Tally()
    async with target(says()) as (address, seen):
        await play(generator(address, tally, connections=1, timeout=0.3), OpenLoop(100, 50))
        assert len(seen.requests) < 10
    assert tally.failures["unsent"] + tally.failures["timeout"] == 50
    assert tally.failures["timeout"] == len(seen.requests)


async def test_the_rate_is_kept_and_every_event_is_another() -> None:
    tally = Tally()
    schedule = OpenLoop(1_000, 500)
    async with target(says(OK)) as (address, seen):
        made = generator(address, tally, connections=8)
        await play(made, schedule)
    assert tally.accepted == len(set(seen.requests)) == 500
    # The last event is due 499 ms after the first; how late it left the generator says itself.
    took = made.last_sent_at - schedule.started
    assert 0.499 <= took <= 0.5 + schedule.latest + (made.last_sent_at - made.last_due)


async def test_an_event_is_sent_again_while_the_listener_says_so() -> None:
    class Stubborn(Tally):
        def ended(self, lane: Lane, now: float) -> float:
            super().ended(lane, now)
            return DONE if lane.status == 201 else 0.01

    async def third(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if number % 3 == 2 else b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

    tally = Stubborn()
    async with target(third) as (address, seen):
        await play(generator(address, tally, connections=1), ClosedLoop(2, None))
    assert tally.statuses == {201: 2, 503: 4}
    assert len(set(seen.requests)) == 2


async def test_sticky_events_wait_for_their_own_lane() -> None:
    lanes: dict[int, int] = {}

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05 if number == 0 else 0)
        writer.write(OK)

    class Lanes(Tally):
        def ended(self, lane: Lane, now: float) -> float:
            assert lane.event is not None
            lanes[int(lane.event.id[-4:], 16)] = lane.index
            return super().ended(lane, now)

    async with target(answer) as (address, _):
        aim = plain(address)
        made = Generator(aim, Requests(aim, keys=10).make, Lanes(), connections=3, is_sticky=True)
        await play(made, OpenLoop(1_000, 12))
    assert lanes == {n: n % 3 for n in range(12)}
