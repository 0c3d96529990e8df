"""The toy backend does what its faults say, and answers nothing that it has not committed."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.core.errors import CrossfadeError
from proxy.demo.load import wait_until
from proxy.demo.store import digest_of
from proxy.demo.toy import ToyBackend
from tests.harness.caller import Answer, Caller, NoAnswerError

pytestmark = pytest.mark.asyncio


async def post(toy: ToyBackend, id: str, body: bytes = b"{}", *, seconds: float = 5.0) -> Answer:
    connection = Caller(toy.address, seconds=seconds)
    try:
        return await connection.post({"X-Event-Id": id, "X-Crossfade-Role": "copy"}, body)
    finally:
        connection.close()


def ids(toy: ToyBackend) -> list[str]:
    return [row.id for row in toy.stored()]


async def until_listening(toy: ToyBackend, id: str) -> Answer:
    async with asyncio.timeout(10):
        while True:
            try:
                return await post(toy, id)
            except NoAnswerError:
                await asyncio.sleep(0.01)


async def test_what_is_answered_is_stored_with_its_headers(toy: ToyBackend) -> None:
    answer = await post(toy, "a", b'{"x": 1}')
    assert (answer.status, answer.body) == (201, b'{"stored": "a", "by": "new"}')
    [row] = toy.stored()
    assert (row.position, row.id, row.role, row.digest) == (1, "a", "copy", digest_of(b'{"x": 1}'))


async def test_duplicates_are_kept(toy: ToyBackend) -> None:
    for id in ("a", "b", "a"):
        await post(toy, id)
    assert ids(toy) == ["a", "b", "a"]


async def test_an_event_without_an_id_is_refused(toy: ToyBackend) -> None:
    assert (await post(toy, "")).status == 400
    assert ids(toy) == []


async def test_errors_store_nothing(toy: ToyBackend) -> None:
    await toy.fault("errors", status=500)
    assert (await post(toy, "a")).status == 500
    await toy.fault("none")
    assert (await post(toy, "b")).status == 201
    assert ids(toy) == ["b"]


async def test_a_fault_can_hit_every_second_event(toy: ToyBackend) -> None:
    await toy.fault("errors", every=2)
    assert sorted([(await post(toy, str(n))).status for n in range(4)]) == [201, 201, 503, 503]


async def test_a_fault_can_hit_a_share_by_chance(toy: ToyBackend) -> None:
    assert (await toy.state())["met_at"] is None
    before = time.monotonic()
    await toy.fault("errors", share=0.3)
    failed = [(await post(toy, str(n))).status for n in range(300)].count(503)
    assert 50 < failed < 140
    assert before < (await toy.state())["met_at"] < time.monotonic()
    await toy.fault("none")
    await post(toy, "a")
    assert (await toy.state())["met_at"] is None
    with pytest.raises(CrossfadeError, match="share above 0"):
        await toy.fault("errors", share=0.0)


async def test_a_fault_can_be_of_one_event_alone(toy: ToyBackend) -> None:
    await toy.fault("errors", only="b")
    assert [(await post(toy, id)).status for id in ("a", "b", "c", "b")] == [201, 503, 201, 503]
    assert ids(toy) == ["a", "c"]


async def test_a_stall_answers_and_stores_when_it_is_over(toy: ToyBackend) -> None:
    await toy.fault("stall")
    with pytest.raises(NoAnswerError, match="timeout"):
        await post(toy, "a", seconds=0.2)
    waiting = asyncio.create_task(post(toy, "b"))
    assert ids(toy) == []
    await toy.fault("none")
    assert (await waiting).status == 201
    assert set(ids(toy)) >= {"b"}


async def test_down_refuses_connections_and_resets_open_ones(toy: ToyBackend) -> None:
    connection = Caller(toy.address)
    assert (await connection.post({"X-Event-Id": "a"}, b"")).status == 201
    await toy.fault("down")
    # "refused" when the client has already noticed the reset and connects anew.
    with pytest.raises(NoAnswerError, match=r"reset|ended|refused"):
        await connection.post({"X-Event-Id": "b"}, b"")
    with pytest.raises(NoAnswerError, match="refused"):
        await connection.post({"X-Event-Id": "c"}, b"")
    await toy.fault("none")
    assert (await connection.post({"X-Event-Id": "d"}, b"")).status == 201
    connection.close()
    assert ids(toy) == ["a", "d"]


async def test_slow_answers_after_the_commit(toy: ToyBackend) -> None:
    await toy.fault("slow", seconds=0.3)
    with pytest.raises(NoAnswerError, match="timeout"):
        await post(toy, "a", seconds=0.1)
    assert ids(toy) == ["a"]


async def test_flapping_comes_and_goes(toy: ToyBackend) -> None:
    await toy.fault("flap", seconds=0.05)
    refused = 0
    async with asyncio.timeout(10):
        while not refused:
            try:
                await post(toy, "a")
            except NoAnswerError:
                refused += 1
    assert (await until_listening(toy, "b")).status == 201
    await toy.fault("none")
    assert (await post(toy, "c")).status == 201


async def test_half_close_commits_and_gives_no_answer(toy: ToyBackend) -> None:
    await toy.fault("half-close")
    with pytest.raises(NoAnswerError, match="ended"):
        await post(toy, "a")
    assert ids(toy) == ["a"]


async def test_who_forgets_answers_as_if_nothing_were_wrong(toy: ToyBackend) -> None:
    await toy.fault("forget", every=2)
    assert [(await post(toy, id)).status for id in ("a", "b", "c")] == [201] * 3
    assert ids(toy) == ["a", "c"]


async def test_early_answers_before_the_body(toy: ToyBackend) -> None:
    await toy.fault("early")
    reader, writer = await asyncio.open_connection(*toy.address)
    writer.write(b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-Event-Id: a\r\nContent-Length: 4\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 ")
    assert ids(toy) == []
    writer.write(b"body")
    await reader.readexactly(len(b'{"early":true,"by":"new"}'))
    await wait_until(lambda: ids(toy) == ["a"], 10, "the late commit")
    writer.close()
    await writer.wait_closed()


async def test_early_refusal_stores_nothing(toy: ToyBackend) -> None:
    await toy.fault("early", status=413)
    assert (await post(toy, "a", b"x" * 10)).status == 413
    assert ids(toy) == []


async def test_an_unknown_fault_is_refused(toy: ToyBackend) -> None:
    with pytest.raises(CrossfadeError, match="meteor"):
        await toy.fault("meteor")
    with pytest.raises(CrossfadeError, match="every"):
        await toy.fault("errors", every=0)


async def test_the_store_outlives_a_killed_backend(toy: ToyBackend) -> None:
    await post(toy, "a")
    toy.child.kill_group()
    await toy.child.ended(10)
    await toy.restart()
    await post(toy, "b")
    assert ids(toy) == ["a", "b"]
