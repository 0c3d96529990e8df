"""The table of requests, three times: by the parser alone, over a socket at once, and byte by byte."""

from __future__ import annotations

import asyncio

import pytest

from proxy.http.head import HeadParser, Refusal, RequestHead
from proxy.http.request import context_of, forwarded_lines
from tests.http.cases import CASES, HEADERS, LIMITS, TARGET_SIZE, Case
from tests.http.rig import OFF, Rig, running
from tests.http.wire import Answer, Wire, until

WANTED = frozenset({b"x-event-id", b"idempotency-key"})
IDS = [f"{case.group}: {case.name}" for case in CASES]


def test_the_table_is_as_large_as_it_should_be_and_its_names_are_unique() -> None:
    assert len(CASES) >= 120
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.in_head], ids=[i for i, c in zip(IDS, CASES, strict=True) if c.in_head]
)
def test_the_parser_alone_says_the_same(case: Case) -> None:
    parser = HeadParser(WANTED, HEADERS, TARGET_SIZE)
    raw = case.request.partition(b"\r\n\r\n")[0]
    for _ in range(3):  # the second and third time from what was kept of the first
        head = parser.parse(raw)
        if case.upstream:
            assert isinstance(head, RequestHead)
            assert case.upstream.startswith(context_of(head, forwarded_lines("127.0.0.1")))
        else:
            assert isinstance(head, Refusal)
            assert head.status == case.status


async def check_served(rig: Rig, wire: Wire, case: Case) -> None:
    answer = await wire.answer()
    while answer.status == 100:
        answer = await wire.answer()
    assert answer.status == case.status, answer
    await until(lambda: len(_upstream(rig)) >= len(case.upstream))
    await rig.settled()
    assert _upstream(rig) == case.upstream


async def check_refused(rig: Rig, wire: Wire, case: Case) -> None:
    answer = await wire.answer()
    assert answer.status == case.status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.headers.get("connection") != "close":
        assert case.group == "ids"  # the event is refused, but its head was sound
        wire.send(b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await wire.answer()).status == 200
        assert _upstream(rig).startswith(b"GET /after HTTP/1.1\r\n")
    else:
        wire.send(b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n")
        assert _upstream(rig) == b""
    assert await wire.is_cut()
    assert not rig.fake.events


def _upstream(rig: Rig) -> bytes:
    """Every byte that any backend got: the route's first, then the default's."""
    return rig.old.received + rig.new.received + rig.other.received


@pytest.mark.asyncio
@pytest.mark.parametrize("case", CASES, ids=IDS)
async def test_over_a_socket(case: Case) -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        wire = await rig.wire()
        wire.send(case.request)
        await (check_served if case.upstream else check_refused)(rig, wire, case)


async def send_in_pieces(wire: Wire, data: bytes) -> None:
    """Byte by byte; no two of them are read together as long as the loop turns in between."""
    for i in range(len(data)):
        if wire.writer.is_closing():
            return
        wire.send(data[i : i + 1])
        await asyncio.sleep(0)
        await asyncio.sleep(0)


SPLIT = [(i, c) for i, c in zip(IDS, CASES, strict=True) if len(c.request) < 400]


@pytest.mark.asyncio
@pytest.mark.parametrize("case", [c for _, c in SPLIT], ids=[i for i, _ in SPLIT])
async def test_byte_by_byte(case: Case) -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        wire = await rig.wire()
        sending = asyncio.create_task(send_in_pieces(wire, case.request))
        await (check_served if case.upstream else check_refused)(rig, wire, case)
        sending.cancel()


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [2047, 2048, 2049])
async def test_the_limit_of_a_head_is_the_same_however_it_comes(size: int) -> None:
    case = next(c for c in CASES if c.name == f"head of {size} bytes")
    async with running(dials=OFF, limits=LIMITS) as rig:
        wire = await rig.wire()
        wire.send(case.request[:-3])
        await until(lambda: any(client._buffer or client._is_closing for client in rig.service.clients))
        if case.upstream:
            wire.send(case.request[-3:])
            await check_served(rig, wire, case)
        else:
            wire.send(case.request[-3:])
            await check_refused(rig, wire, case)


@pytest.mark.asyncio
async def test_a_client_is_told_to_go_on_with_its_body() -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        head = b"POST /events HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        answers: list[Answer] = [await wire.ask(head)]
        answers.append(await wire.ask(b"{}"))
        assert [answer.status for answer in answers] == [100, 200]
        assert answers[0].raw == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert b"Expect" not in rig.old.received
