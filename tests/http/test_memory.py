"""A worker's memory budget: what fills it, who is refused meanwhile, and that everything is served again after it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

import pytest

from proxy.core.dedupe import FIRST
from proxy.http.budget import CONNECTION, SMALL, TIMES_HELD
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import DUAL, OFF, Rig, event_bytes, make_route, running
from tests.http.wire import Answer, Wire, until

pytestmark = pytest.mark.asyncio

MEMORY: Final = 4 * 2**20
LIMITS: Final = {"memory": "4MiB"}
GET: Final = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
ENDLESS: Final = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE: Final = 600_000
COUNT: Final = 20
READ: Final = 256 * 1024
"""Bytes that one read may bring beyond the limit before anybody can say no."""


def large(event_id: str, size: int = LARGE, path: str = "/events") -> bytes:
    body = b'{"key":"%b","pad":"' % event_id.encode()
    body += b"p" * (size - len(body) - 2) + b'"}'
    return b"POST %b HTTP/1.1\r\nHost: a\r\nX-Event-Id: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        event_id.encode(),
        len(body),
        body,
    )


async def fill(rig: Rig) -> list[Wire]:
    """Unfinished bodies, one after the other, until one is refused; those that were not."""
    budget = rig.plane.budget
    wires: list[Wire] = []
    while not budget.is_full:
        wire = await rig.wire()
        wires.append(wire)
        wire.send(ENDLESS + b"%x\r\n" % LARGE + b"p" * LARGE)
        await until(lambda: budget.is_full or budget.held > len(wires) * LARGE, "received")
    return wires


def unread(rig: Rig) -> int:
    """Clients that do not read."""
    return sum(client._is_full for client in rig.service.clients)


def check_refused(answer: Answer, connection: str | None) -> None:
    assert (answer.status, answer.headers.get("retry-after")) == (503, "1")
    assert answer.headers.get("connection") == connection
    assert answer.detail == "this instance is out of memory for requests"


async def test_small_events_are_not_counted_by_themselves() -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        wire = await rig.wire()
        assert (await wire.ask(event_bytes("a", key="k"))).status == 200
        assert rig.plane.budget.held == CONNECTION


@pytest.mark.parametrize("path", ["/events", "/elsewhere"])
async def test_a_large_request_is_counted_until_it_is_answered(path: str) -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        held: list[BackendConnection] = []
        rig.old.behave = rig.other.behave = lambda seen, connection: held.append(connection)
        wire = await rig.wire()
        wire.send(large("a", path=path))
        await until(lambda: held, "on its way")
        assert 2 * LARGE <= rig.plane.budget.held - CONNECTION <= 4 * LARGE
        held[0].write(reply(200))
        assert (await wire.answer()).status == 200
        assert rig.plane.budget.held == CONNECTION


async def test_out_of_memory_nothing_is_dispatched_or_recorded_and_then_all_is_served_again() -> None:
    async with running(dials=DUAL, limits=LIMITS) as rig:
        idle = await rig.wire()
        assert (await idle.ask(GET, "GET")).status == 200
        holders = await fill(rig)
        assert MEMORY < rig.plane.budget.most <= MEMORY + READ
        for data, method in ((event_bytes("a", key="k"), "POST"), (GET, "GET"), (large("b"), "POST")):
            answer = await idle.ask(data[:-1] if data[-1:] == b"}" and len(data) > LARGE else data, method)
            is_cut = len(data) > LARGE
            check_refused(answer, "close" if is_cut else None)
        assert await idle.is_cut()
        assert rig.old.seen == rig.new.seen == []
        assert len(rig.other.seen) == 1
        assert rig.fake.events == {}
        assert rig.plane.counters["refused_memory"] == 2
        check_refused(await holders[-1].answer(), "close")  # who brought the last byte was cut
        for holder in holders:
            holder.reset()
        await until(lambda: not rig.plane.budget.is_full, "a fifth is free")
        wire = await rig.wire()
        assert (await wire.ask(event_bytes("a", key="k"))).status == 200
        assert (await wire.ask(large("b"))).status == 200
        assert (await wire.ask(GET, "GET")).status == 200
        await rig.settled()
        assert rig.story("a") == rig.story("b") == ("D", "D")


async def test_a_body_is_refused_at_its_head_when_it_cannot_fit() -> None:
    async with running(dials=OFF, limits=LIMITS | {"max_event_size": "8MiB"}) as rig:
        wire = await rig.wire()
        wire.send(b"POST /events HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4194305\r\n\r\n")
        check_refused(await wire.answer(), "close")  # and no 100 before it
        assert (rig.plane.counters["refused_bodies"], rig.plane.routes[0].failed) == (1, 1)


async def test_who_is_in_the_middle_of_a_body_is_cut_when_more_of_it_comes() -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        first = await rig.wire()
        first.send(large("first")[:1000])
        await until(lambda: any(client._head for client in rig.service.clients), "begun")
        await fill(rig)
        first.send(b"p" * 1000)
        check_refused(await first.answer(), "close")
        assert await first.is_cut()


async def test_many_small_pieces_are_counted_with_what_each_takes() -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        wire = await rig.wire()
        head = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
        wire.send(head)
        await until(lambda: any(client._head for client in rig.service.clients), "begun")
        (client,) = rig.service.clients
        for _ in range(500):
            client.data_received(b"p")
        assert rig.plane.budget.held == CONNECTION + 500 * 65


async def test_pipelined_bytes_and_half_a_head_are_counted() -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        held: list[BackendConnection] = []
        rig.other.behave = lambda seen, connection: held.append(connection)
        half = b"GET /y HTTP/1.1\r\nHost: a\r\nX-Pad: " + b"p" * 9000
        piping, slow = await rig.wire(), await rig.wire()
        piping.send(GET)
        await until(lambda: held, "on its way")
        piping.send(half)
        await until(lambda: rig.plane.budget.held == 2 * CONNECTION + len(half), "pipelined")
        slow.send(half)
        await until(lambda: rig.plane.budget.held == 2 * CONNECTION + 2 * len(half), "half a head")
        held[0].write(reply(200))
        rig.other.behave = always(reply(200))
        assert (await piping.answer("GET")).status == 200
        for wire in (piping, slow):
            assert (await wire.ask(b"\r\n\r\n", "GET")).status == 200
        assert rig.plane.budget.held == 2 * CONNECTION


async def test_a_stalled_backend_gets_no_more_than_fits_and_all_of_it_is_answered() -> None:
    route = make_route(copy_wait="1s", on_authority_down="fail")
    async with running(route, dials=DUAL, limits=LIMITS, backend={"connections": 1, "pending": 1000}) as rig:
        held: list[tuple[Seen, BackendConnection]] = []
        rig.old.behave = lambda seen, connection: held.append((seen, connection))
        wires = [await rig.wire() for _ in range(COUNT)]
        asked = [asyncio.create_task(wire.ask(large(f"e{n}", 100_000))) for n, wire in enumerate(wires)]
        await until(lambda: held and sum(task.done() for task in asked) >= 2, "some are refused")
        rig.old.behave = always(reply(200))
        held[0][1].write(reply(200))
        answers = await asyncio.gather(*asked)
        refused = {n for n, answer in enumerate(answers) if answer.status == 503}
        # Beside what was let in, the frames of it count once more while the ledger has not confirmed them.
        assert rig.plane.budget.most <= MEMORY + MEMORY // TIMES_HELD + READ
        assert {answer.status for answer in answers} == {200, 503}
        assert all(answers[n].headers["retry-after"] == "1" for n in refused)
        await rig.settled()
        for n in range(COUNT):
            assert (f"e{n}" in rig.fake.events) == (n not in refused)
        assert rig.plane.budget.held == COUNT * CONNECTION
        assert not rig.plane.budget.is_full
        rig.check_ends()


async def test_answers_that_are_not_read_are_counted_and_their_readers_cut_first() -> None:
    async with running(dials=OFF, limits=LIMITS | {"memory": "1MiB", "keepalive_timeout": "10s"}) as rig:
        rig.other.behave = always(reply(200, b"x" * 8_000_000))
        wires: list[Wire] = []
        while not rig.plane.budget.is_full:
            assert len(wires) < 40
            wire = await rig.wire(2**12)
            wires.append(wire)
            wire.send(GET)
            await until(lambda: unread(rig) == len(wires) or rig.plane.budget.is_full, "it does not read")
        full = [client for client in rig.service.clients if client._is_full]
        for client in full:
            client.check_time(client.since + 1.01)  # a tenth of the time that they have else
        await until(lambda: not rig.plane.budget.is_full, "its memory is free")
        assert rig.plane.counters["clients_not_reading"] == len(full)


async def test_an_answer_that_waits_for_the_other_side_is_counted() -> None:
    async with running(make_route(ack="both"), dials=DUAL, limits=LIMITS) as rig:
        held: list[BackendConnection] = []
        rig.old.behave = always(reply(200, b"x" * 50_000))
        rig.new.behave = lambda seen, connection: held.append(connection)
        wire = await rig.wire()
        wire.send(event_bytes("a", key="k"))
        await until(lambda: rig.plane.budget.held == CONNECTION + 50_000, "the authority's answer waits")
        held[0].write(reply(200))
        assert (await wire.answer()).status == 200
        assert rig.plane.budget.held == CONNECTION


async def test_out_of_memory_slow_bodies_have_a_tenth_of_their_time() -> None:
    async with running(dials=OFF, limits=LIMITS | {"body_timeout": "10s"}) as rig:
        wire = await rig.wire()
        wire.send(large("slow")[:1000])
        await until(lambda: any(client._head for client in rig.service.clients), "begun")
        (client,) = rig.service.clients
        client.check_time(client.since + 1.01)
        assert not client._is_closing
        rig.plane.budget.add(MEMORY)
        client.check_time(client.since + 0.99)
        assert not client._is_closing
        client.check_time(client.since + 1.01)
        check_refused(await wire.answer(), "close")
        rig.plane.budget.add(-MEMORY)


async def test_slow_bodies_that_keep_others_out_go_before_all_is_used() -> None:
    """What does not fit is refused, so unfinished bodies alone never use up the budget."""
    async with running(dials=OFF, limits=LIMITS | {"body_timeout": "10s"}) as rig:
        wires = [await rig.wire() for _ in range(MEMORY // LARGE)]
        for wire in wires:
            wire.send(large("slow", LARGE + 1000)[:LARGE])
        await until(lambda: rig.plane.budget.held > MEMORY * 8 // 10, "received")
        assert not rig.plane.budget.is_full
        for client in list(rig.service.clients):
            client.check_time(client.since + 1.01)
            if not rig.plane.budget.is_short:
                break
        assert rig.plane.budget.held < MEMORY * 8 // 10
        assert rig.plane.counters["refused_bodies"] >= 1


async def test_a_large_body_is_let_go_of_when_its_client_leaves() -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        wire = await rig.wire()
        wire.send(large("gone")[:-1])
        await until(lambda: rig.plane.budget.held > LARGE, "received")
        wire.reset()
        await until(lambda: rig.plane.budget.held == 0, "gone")


async def test_the_rest_of_a_request_that_was_answered_early_is_counted() -> None:
    size = 30_000_000  # more than the kernel's buffers take
    async with running(dials=OFF, limits={"max_event_size": "32MiB", "memory": "256MiB"}) as rig:

        def early(data: bytes, connection: BackendConnection) -> None:
            connection.transport.pause_reading()
            connection.write(reply(200))

        rig.old.eager = early
        wire = await rig.wire()
        assert (await wire.ask(large("early", size))).status == 200
        assert size > rig.plane.budget.held > size // 2 > SMALL  # what the kernel has not taken
        for connection in rig.old.connections:
            connection.transport.resume_reading()
        await until(lambda: rig.plane.budget.held == CONNECTION, "it has read the rest")


async def test_a_backend_that_said_yes_early_has_the_time_of_a_body_for_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    size = 30_000_000
    async with running(dials=OFF, limits={"max_event_size": "32MiB", "memory": "256MiB"}) as rig:

        def early(data: bytes, connection: BackendConnection) -> None:
            connection.transport.pause_reading()
            connection.write(reply(200))

        rig.old.eager = early
        assert (await rig.ask(large("early", size))).status == 200
        old, answered = rig.upstreams["old"], monotonic()
        old.check_times(answered + 1)  # what its kernel has taken until now
        old.check_times(answered + 30)
        assert size > rig.plane.budget.held > size // 2 > SMALL
        assert "did not take the rest" not in caplog.text
        assert old.open == 0  # it keeps no other event from its place in the pool
        old.check_times(answered + 62)
        await until(lambda: rig.plane.budget.held <= CONNECTION, "what it never took is let go of")
        assert "did not take the rest" in caplog.text
        assert old.cut_rests == 1


async def test_what_waits_for_the_ledgers_word_will_be_held_as_often_as_any_other() -> None:
    async with running(make_route(dedupe="5m"), dials=DUAL, limits=LIMITS) as rig:
        rig.fake.judges = False
        asking = [asyncio.create_task(rig.ask(large(f"e{n}"))) for n in range(COUNT)]
        await until(lambda: len(rig.fake.asked()) + rig.plane.counters.get("refused_memory", 0) == COUNT, "asked")
        for n in rig.fake.asked():
            rig.fake.judge(n, FIRST)
        answers = await asyncio.gather(*asking)
        assert {answer.status for answer in answers} == {200, 503}
        assert rig.plane.budget.most <= MEMORY + READ
