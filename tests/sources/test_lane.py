"""A request without a network: whatever becomes of its connection, it has a status, and the lane goes on."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from proxy.sources.lane import NO_ANSWER, Lane
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import Rig, make_route, running
from tests.http.wire import until

pytestmark = pytest.mark.asyncio

START = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
BODY = b'{"key": "k"}'


def lane(rig: Rig) -> Lane:
    return Lane(rig.service, START)


async def test_one_after_the_other_on_one_client() -> None:
    async with running() as rig:
        found = lane(rig)
        for number in range(3):
            assert await found.post(f"e{number}", BODY) == 200
            assert len(rig.service.clients) == 1
        assert rig.old.ids() == ["e0", "e1", "e2"]
        assert (await found.post("", BODY), len(rig.old.ids()[-1]) > 8) == (200, True)
        found.abort()
        assert not rig.service.clients


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000,
    ],
)
async def test_answers_of_every_form_have_a_status(answer: bytes) -> None:
    async with running() as rig:
        rig.old.behave = always(answer)
        found = lane(rig)
        assert [await found.post(f"e{number}", BODY) for number in range(2)] == [200, 200]
        found.abort()


async def test_a_truncated_answer_ends_its_client_and_not_the_lane() -> None:
    def cut(seen: Seen, connection: BackendConnection) -> None:
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 70_000)
        connection.finish()

    async with running() as rig:
        rig.old.behave = cut
        found = lane(rig)
        assert await found.post("e0", BODY) == 200
        rig.old.behave = always(reply(200))
        assert await found.post("e1", BODY) in (200, NO_ANSWER)
        assert await found.post("e2", BODY) == 200
        found.abort()


async def test_an_answer_that_ends_its_client_costs_the_next_event_nothing() -> None:
    async with running(limits={"max_event_size": "4KiB"}) as rig:
        found = lane(rig)
        long = b'{"key": "%b"}' % (b"x" * 10_000)
        assert [await found.post(f"e{n}", (long, BODY)[n % 2]) for n in range(6)] == [413, 200] * 3
        assert rig.old.ids() == ["e1", "e3", "e5"]
        found.abort()
        await asyncio.sleep(0)
        assert not rig.service.clients


async def test_a_client_that_was_idle_for_too_long_is_another_one_then() -> None:
    async with running(limits={"keepalive_timeout": "10ms"}) as rig:
        found = lane(rig)
        assert await found.post("e0", BODY) == 200
        await asyncio.sleep(0.02)
        rig.service.check_times(monotonic())
        assert await found.post("e1", BODY) in (200, NO_ANSWER)
        await until(lambda: found.is_closing() or len(rig.service.clients) == 1)
        assert await found.post("e2", BODY) == 200
        found.abort()


async def test_without_room_for_a_client_there_is_no_answer() -> None:
    async with running() as rig:
        rig.service.most_clients = 0
        found = lane(rig)
        assert await found.post("e0", BODY) == NO_ANSWER
        rig.service.most_clients = 10
        assert await found.post("e0", BODY) == 200
        found.abort()


async def test_who_waits_no_longer_leaves_the_event_on_its_way() -> None:
    async with running(make_route()) as rig:
        rig.old.behave = always(b"")
        found = lane(rig)
        waiting = asyncio.create_task(found.post("e0", BODY))
        await until(lambda: rig.old.ids() == ["e0"])
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not rig.service.clients
        for connection in rig.old.connections:
            connection.write(reply(200))
        await rig.settled()
        assert rig.story("e0") == ("D", "D")


class Broken:
    """A client that makes a mistake."""

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("a mistake")


async def test_a_mistake_of_ours_costs_one_try_and_not_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as rig:
        found = lane(rig)
        with monkeypatch.context() as patched:
            patched.setattr(found, "_open", Broken)
            assert await asyncio.wait_for(found.post("e0", BODY), 5) == NO_ANSWER
        assert await asyncio.wait_for(found.post("e0", BODY), 5) == 200
        found.abort()
