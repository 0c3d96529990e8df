"""deliver(event, attempt) -> Outcome over HTTP: what the ledger's replayer is told of each thing a backend can do."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.event import (
    DELIVERED,
    NEW,
    OLD,
    PAUSE,
    REFUSED,
    RETRY,
    UNREACHABLE,
    Attempt,
    Event,
)
from proxy.http.deliver import HttpDelivery
from tests.http.backend import always, reply
from tests.http.rig import OFF, Rig, running
from tests.http.test_upstream import closes_second
from tests.http.wire import until

CONTEXT = b"POST /events?a=b HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n"
EVENT = Event(7, "e7", "events", "k", 0, 1, OLD, 3, 0, 0, False, 0, "http", CONTEXT, b'{"a":1}')


def delivery(rig: Rig) -> HttpDelivery:
    return HttpDelivery({"events": (rig.upstreams["old"], rig.upstreams["new"])}, 2**20)


@pytest.mark.asyncio
async def test_a_replay_is_the_event_again_with_its_attempt() -> None:
    async with running(dials=OFF) as rig:
        outcome = await delivery(rig).deliver(EVENT, Attempt(NEW, "replay", 3))
        assert (outcome.kind, outcome.status) == (DELIVERED, 200)
        assert rig.old.seen == []
        assert rig.new.received == CONTEXT + (
            b'X-Event-Id: e7\r\nX-Crossfade-Role: replay\r\nX-Crossfade-Attempt: 3\r\nContent-Length: 7\r\n\r\n{"a":1}'
        )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, DELIVERED),
        (204, DELIVERED),
        *((status, REFUSED) for status in (400, 409, 410, 413, 415, 422)),
        *((status, PAUSE) for status in (401, 403, 404, 405)),
        *((status, RETRY) for status in (301, 304, 402, 408, 421, 425, 429, 451, 500, 502, 503, 599)),
    ],
)
async def test_a_status_says_what_became_of_it(status: int, kind: int) -> None:
    async with running(dials=OFF) as rig:
        rig.old.behave = always(reply(status, b"" if status in (204, 304) else b"ok"))
        outcome = await delivery(rig).deliver(EVENT, Attempt(OLD, "replay", 1))
        assert (outcome.kind, outcome.status) == (kind, status)


@pytest.mark.asyncio
async def test_failures_are_outcomes_and_never_raised() -> None:
    settings = {"response_timeout": "30ms", "connections": 1, "pending": 0}
    async with running(dials=OFF, down=("new",), backend=settings) as rig:
        deliver = delivery(rig).deliver
        unreachable = await deliver(EVENT, Attempt(NEW, "replay", 1))
        assert (unreachable.kind, unreachable.status) == (UNREACHABLE, 502)
        rig.old.behave = lambda seen, connection: None
        silent, refused = await asyncio.gather(*(deliver(EVENT, Attempt(OLD, "replay", 1)) for _ in range(2)))
        assert (silent.kind, silent.status) == (RETRY, 504)
        assert (refused.kind, refused.status) == (UNREACHABLE, 503)
        rig.old.behave = lambda seen, connection: connection.finish(b"garbage\r\n\r\n")
        garbage = await deliver(EVENT, Attempt(OLD, "replay", 1))
        assert (garbage.kind, garbage.status) == (RETRY, 502)
        assert all(outcome.reason for outcome in (unreachable, silent, refused, garbage))
        await rig.settled()


@pytest.mark.asyncio
async def test_what_went_out_on_a_connection_that_was_lost_is_told() -> None:
    """The backend may have stored it: sent again that is a second try, and one when it cannot be reached any more."""
    async with running(dials=OFF) as rig:
        deliver = delivery(rig).deliver
        closes_second(rig.old)
        first = await deliver(EVENT, Attempt(OLD, "replay", 1))
        assert (first.kind, first.tries) == (DELIVERED, 1)
        again = await deliver(EVENT, Attempt(OLD, "replay", 1))
        assert (again.kind, again.lost, again.tries) == (DELIVERED, 1, 2)
        assert len(rig.old.seen) == 3
        rig.old.stop_listening()
        gone = await deliver(EVENT, Attempt(OLD, "replay", 1))
        assert (gone.kind, gone.lost, gone.tries) == (UNREACHABLE, 1, 1)
        never = await deliver(EVENT, Attempt(OLD, "replay", 1))
        assert (never.kind, never.lost, never.tries) == (UNREACHABLE, 0, 0)
        await rig.settled()


@pytest.mark.asyncio
async def test_a_long_answer_is_known_by_its_head_and_its_rest_is_cut_in_time() -> None:
    async with running(dials=OFF, backend={"response_timeout": "50ms"}) as rig:
        rig.old.behave = always(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nx")
        outcome = await delivery(rig).deliver(EVENT, Attempt(OLD, "replay", 1))
        assert (outcome.kind, outcome.status) == (DELIVERED, 201)
        await until(lambda: rig.upstreams["old"].open == 0, "cut")


@pytest.mark.asyncio
async def test_a_delivery_that_is_cancelled_lets_its_connection_go() -> None:
    async with running(dials=OFF) as rig:
        rig.old.behave = lambda seen, connection: None
        task = asyncio.create_task(delivery(rig).deliver(EVENT, Attempt(OLD, "replay", 1)))
        await until(lambda: rig.old.seen, "sent")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: rig.old.connections[0].is_lost, "closed")
        await rig.settled()


@pytest.mark.asyncio
async def test_batches_that_wait_or_are_on_their_way_fail_when_it_closes() -> None:
    form = {"http": {"batch": {"size": 2, "linger": "10s"}}}
    async with running(dials=OFF, backend={"old": {"deliver": form}}) as rig:
        rig.old.behave = lambda seen, connection: None
        found = delivery(rig)
        tasks = [asyncio.create_task(found.deliver(EVENT, Attempt(OLD, "replay", 1))) for _ in range(3)]
        await until(lambda: len(rig.old.seen) == 1, "two are on their way, one waits")
        found.close()
        assert [(each.kind, each.reason) for each in await asyncio.gather(*tasks)] == [(RETRY, "closing")] * 3


@pytest.mark.asyncio
async def test_an_answer_to_a_batch_may_be_long_but_not_endless() -> None:
    form = {"http": {"batch": {"size": 2, "linger": "1ms", "results": {"items": "", "status": "/status"}}}}
    async with running(dials=OFF, backend={"old": {"deliver": form}, "response_timeout": "2s"}) as rig:
        text = b'[{"status": 409, "why": "%b"}]' % (b"x" * 300_000)
        rig.old.behave = always(reply(200, text))
        outcome = await delivery(rig).deliver(EVENT, Attempt(OLD, "replay", 2))
        assert (outcome.kind, outcome.status) == (REFUSED, 409)
        rig.old.behave = always(reply(200, b"[" + b" " * 2**21 + text[1:]))
        outcome = await delivery(rig).deliver(EVENT, Attempt(OLD, "replay", 2))
        assert (outcome.kind, outcome.reason) == (RETRY, "its answer does not say what became of each event")
        await rig.settled()
