"""Connections move from one worker to another, and neither end notices: no byte is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from time import monotonic

import msgspec
import pytest

from proxy.core.trace import SESSION, Sampler
from proxy.http.moved import ClientState, MovingClient
from proxy.http.tracing import Tracer
from proxy.ledger.protocol import RECEIVED
from tests.http.backend import BackendConnection, Seen
from tests.http.rig import event_bytes
from tests.http.rig import make_route as http_route
from tests.http.wire import until
from tests.websocket.byhand import BINARY, CONTINUATION, PING, PONG, TEXT, sent
from tests.websocket.rig import make_route, text
from tests.worker.moving import Workers, descriptors, workers

SESSIONS = make_route()
EVENTS = http_route()
MOVES = 40
SOAK_MOVES = 1000


def texts(*numbers: int) -> list[bytes]:
    return [text(n).encode() for n in numbers]


# sessions


@pytest.mark.asyncio
async def test_a_session_moves_and_neither_end_notices() -> None:
    async with workers(SESSIONS) as found:
        client = await found.by_hand()
        client.send(sent(TEXT, text(1).encode()))
        await client.ping()
        await found.move(found.a, found.b)
        assert (len(found.a.sessions.open), len(found.b.sessions.open)) == (0, 1)
        assert found.a.counted("moved_out_websocket") == found.b.counted("moved_in_websocket") == 1
        client.send(sent(TEXT, text(2).encode()))
        await client.ping()
        for backend in (found.old, found.new):
            assert found.numbers(backend) == texts(1, 2)
            assert len(backend.talks) == 1
        assert found.a.is_received("m1")
        await until(lambda: found.b.is_received("m2"), "the second has said so")
        await found.old.talks[0].send("back")
        assert (await client.frame()).payload == b"back"


@pytest.mark.asyncio
async def test_a_traced_session_is_one_span_told_by_the_worker_in_which_it_ends() -> None:
    async with workers(SESSIONS) as found:
        tracers = [Tracer(Sampler(1.0, follows=True)) for _ in found.both]
        for each, tracer in zip(found.both, tracers, strict=True):
            each.rig.plane.tracer = tracer
        client = await found.by_hand()
        [session] = found.a.sessions.open
        trace = session.trace
        assert trace is not None
        await found.move(found.a, found.b)
        client.send(sent(TEXT, text(1).encode()))
        await client.ping()
        found.b.sessions.stop()
        await until(lambda: len(tracers[1].spans) == 2, "its message is safe")
        assert tracers[0].take() == []
        message, span = tracers[1].take()
        assert message.links == ((trace.trace, trace.id),)
        assert (span.kind, span.trace, span.id, span.start_ns) == (SESSION, trace.trace, trace.id, trace.started_ns)


def stream() -> bytes:
    """Frames of a client: whole messages, one in fragments with a Ping in between, one that is long."""
    long = json.dumps({"id": "m3", "key": "a", "pad": "x" * 200}).encode()
    whole = text(2).encode()
    return b"".join(
        [
            sent(TEXT, text(1).encode()),
            sent(TEXT, whole[:5], fin=False),
            sent(PING, b"now"),
            sent(CONTINUATION, whole[5:9], fin=False),
            sent(CONTINUATION, whole[9:]),
            sent(BINARY, long),
        ]
    )


@pytest.mark.asyncio
async def test_a_move_between_any_two_bytes_of_a_client(soak: bool) -> None:
    """In the middle of a head, of a mask, of a payload, of a message: read or not, what comes next belongs to it."""
    async with workers(SESSIONS) as found:
        client = await found.by_hand()
        data = stream()
        cuts = range(1, len(data)) if soak else sorted(random.Random(8).sample(range(1, len(data)), 30))
        at = moves = 0
        for cut in cuts:
            client.send(data[at:cut])
            if cut % 2:
                await asyncio.sleep(0.001)  # read there, most often; else from the kernel's buffer
            await found.to_and_fro(moves, moves + 1)
            at, moves = cut, moves + 1
        client.send(data[at:])
        assert (await client.frame()).payload == b"now"
        await client.ping()
        expected = [*texts(1, 2), stream_long()]
        for backend in (found.old, found.new):
            assert b"".join(found.numbers(backend)) == b"".join(expected)
            assert len(backend.talks) == 1


def stream_long() -> bytes:
    return json.dumps({"id": "m3", "key": "a", "pad": "x" * 200}).encode()


@pytest.mark.asyncio
async def test_a_move_between_any_two_bytes_of_a_backend() -> None:
    async with workers(SESSIONS) as found:
        client = await found.by_hand()
        [talk] = found.old.talks
        whole = sent(TEXT, b"first", masked=False) + sent(TEXT, b"in ", fin=False, masked=False)
        data = whole + sent(CONTINUATION, b"pieces", masked=False) + sent(TEXT, b"y" * 130, masked=False)
        for number in range(len(data) // 6 + 1):
            talk.write(data[6 * number : 6 * number + 6])
            if number % 2:
                await asyncio.sleep(0.001)
            await found.to_and_fro(number, number + 1)
        frames = [await client.frame() for _ in range(4)]
        assert b"".join(frame.raw for frame in frames) == data


@pytest.mark.asyncio
async def test_many_moves_of_one_session_keep_every_message_in_its_place(soak: bool) -> None:
    """Messages go on all the while, both ways, and each has its number."""
    times = SOAK_MOVES if soak else MOVES
    async with workers(SESSIONS) as found:
        client = await found.by_hand()
        number = iter(range(1, 10**9))
        is_over = False
        said: list[bytes] = []

        async def talk_on() -> None:
            while not is_over:
                n = next(number)
                client.send(sent(TEXT, text(n).encode()))
                said.append(text(n).encode())
                if n % 3 == 0:
                    await found.old.talks[0].send(f"b{n}")
                await asyncio.sleep(0.0005)

        talking = asyncio.create_task(talk_on())
        await found.to_and_fro(0, times)
        is_over = True
        await talking
        client.send(sent(PING, b"end"))
        heard: list[bytes] = []
        while (frame := await client.frame()).opcode != PONG:
            heard.append(frame.payload)
        assert heard == [b"b%d" % n for n in range(3, len(said) + 1, 3)]
        for backend in (found.old, found.new):
            assert found.numbers(backend) == said
            assert len(backend.talks) == 1
        ids = [f"m{n}" for n in range(1, len(said) + 1)]
        counts = [len(rig.rig.fake.numbers.get(id, ())) for id in ids for rig in found.both]
        assert sum(counts) == len(said), "each is recorded once, by the one or the other"
        assert all(rig.rig.fake.events for rig in found.both)


@pytest.mark.asyncio
async def test_descriptors_do_not_leak() -> None:
    async with workers(SESSIONS) as found:
        await found.by_hand()
        await found.to_and_fro(0, 2)
        before = descriptors()
        await found.to_and_fro(0, 20)
        assert descriptors() == before


# what is still on its way


@pytest.mark.asyncio
async def test_a_session_waits_for_its_receipts_and_its_client_with_it() -> None:
    async with workers(SESSIONS) as found:
        client = await found.by_hand()
        found.new.pongs = False
        client.send(sent(TEXT, text(1).encode()))
        await until(lambda: found.numbers(found.new) == texts(1), "it is there")
        retiring = found.retire(found.a, found.listen(found.b))
        moving = asyncio.create_task(retiring.run(monotonic() + 10))
        await until(lambda: retiring._held, "the client is read no more")
        client.send(sent(TEXT, text(2).encode()))
        await asyncio.sleep(0.05)
        assert found.numbers(found.old) == texts(1)
        assert found.a.sessions.open
        found.new.pongs = True
        for frame in found.new.talks[0].frames:
            if frame.opcode == PING:
                found.new.talks[0].write(sent(PONG, frame.payload, masked=False))
        await client.ping()
        await moving
        assert found.numbers(found.new) == found.numbers(found.old) == texts(1, 2)
        assert found.a.rig.story("m1")[0] == "D"
        assert found.b.is_received("m2")
        found.retiring = retiring


WINDOW = make_route({"redeliver_window": "10s"})


async def one_received(found: Workers) -> tuple[int, ...]:
    """A message that both backends have received and might lose, of a session that has moved; its number."""
    client = await found.by_hand()
    client.send(sent(TEXT, text(1).encode()))
    await client.ping()
    await until(lambda: found.a.rig.fake.codes(1, 0) == found.a.rig.fake.codes(1, 1) == [RECEIVED], "received")
    await found.move(found.a, found.b, linger=True)
    return (1,)


@pytest.mark.asyncio
async def test_what_a_backend_may_still_lose_is_handed_over_by_who_has_sent_it() -> None:
    async with workers(WINDOW) as found:
        await one_received(found)
        found.new.talks[0].transport.abort()
        await until(lambda: found.a.rig.story("m1") == ("r", "rH"), "the first has handed it to the ledger")
        assert not found.kept.is_empty, "the other side still has it"


@pytest.mark.asyncio
async def test_what_a_backend_has_read_for_sure_is_settled_by_who_has_sent_it() -> None:
    async with workers(WINDOW) as found:
        await one_received(found)
        found.b.sessions.stop()
        await until(lambda: found.a.rig.story("m1") == ("rD", "rD"), "the backends have answered our close")
        assert found.kept.is_empty


@pytest.mark.asyncio
async def test_a_successor_that_dies_takes_its_connections_with_it() -> None:
    async with workers(WINDOW) as found:
        await one_received(found)
        await found.end()
        await until(lambda: found.a.rig.story("m1") == ("rH", "rH"), "the ledger delivers it again")


@pytest.mark.asyncio
async def test_a_session_that_moves_on_has_its_messages_kept_where_they_were_sent() -> None:
    async with workers(WINDOW) as found:
        await one_received(found)
        first = found.kept
        await found.move(found.b, found.a, linger=True)
        assert not first.is_empty
        assert not found.kept.is_empty
        found.old.talks[0].transport.abort()
        await until(lambda: found.a.rig.story("m1") == ("rH", "r"), "told from one to the next")


@pytest.mark.asyncio
async def test_after_the_window_a_message_is_delivered_for_good() -> None:
    async with workers(make_route({"redeliver_window": "200ms"})) as found:
        await one_received(found)
        await until(lambda: found.a.rig.story("m1") == ("rD", "rD"), "said once it is over")
        await until(found.lingering.done, "nothing keeps it here any more")


# HTTP


@pytest.mark.asyncio
async def test_an_idle_client_moves_with_the_bytes_that_were_read() -> None:
    async with workers(EVENTS) as found:
        wire = await found.wire()
        assert (await wire.ask(event_bytes("e1", key="k"))).status == 200
        data = event_bytes("e2", key="k")
        for number, cut in enumerate((0, 1, 17, data.index(b"\r\n\r\n") + 2)):
            wire.send(data[:cut] if number == 0 else data[(0, 1, 17)[number - 1] : cut])
            await asyncio.sleep(0.002)
            await found.to_and_fro(number, number + 1)
        assert len(found.a.rig.service.clients) == 1
        answer = await wire.ask(data[data.index(b"\r\n\r\n") + 2 :])
        assert (answer.status, answer.headers.get("connection")) == (200, None)
        assert found.a.rig.old.ids() == ["e1", "e2"]
        assert "e2" in found.a.rig.fake.events


@pytest.mark.asyncio
async def test_what_a_client_may_contribute_goes_by_a_routes_name_wherever_that_is_in_the_marks() -> None:
    """After reloads a route's place in the marks is not its place in the file."""
    async with workers(EVENTS) as found:
        wire = await found.wire()
        assert (await wire.ask(event_bytes("e1", key="k"))).status == 200
        [client] = found.a.rig.service.clients
        [route] = found.a.rig.plane.routes
        old, new = client.contributions_to(route.index + 7)
        old.room, new.room = 1.0, 2.0
        old.at = new.at = monotonic()
        route.index += 7
        state, _ = MovingClient(client, found.a.rig.plane.routes).state()
        route.index -= 7
        rooms = msgspec.msgpack.decode(state, type=ClientState).rooms
        assert list(rooms) == [route.name]
        assert rooms[route.name][0] < rooms[route.name][1]


@pytest.mark.asyncio
async def test_a_client_that_is_served_moves_after_its_answer_and_what_it_sent_meanwhile_with_it() -> None:
    async with workers(EVENTS) as found:
        wire = await found.wire()
        held = found.a.rig.old.behave
        waiting: list[tuple[Seen, BackendConnection]] = []
        found.a.rig.old.behave = lambda seen, connection: waiting.append((seen, connection))
        wire.send(event_bytes("e1", key="k") + event_bytes("e2", key="k") + event_bytes("e3", key="k")[:30])
        await until(lambda: waiting, "the first is on its way")
        moving = asyncio.create_task(found.move(found.a, found.b))
        await asyncio.sleep(0.03)
        assert found.a.rig.service.clients
        found.a.rig.old.behave = held
        [(seen, connection)] = waiting
        held(seen, connection)
        await moving
        wire.send(event_bytes("e3", key="k")[30:])
        answers = [await wire.answer() for _ in range(3)]
        assert [(each.status, each.headers.get("connection")) for each in answers] == [(200, None)] * 3
        assert found.a.rig.old.ids() == ["e1", "e2", "e3"]
        assert [id for id in ("e1", "e2", "e3") if id in found.b.rig.fake.events] == ["e2", "e3"]


@pytest.mark.asyncio
async def test_busy_clients_go_to_and_fro_without_an_error() -> None:
    async with workers(EVENTS) as found:
        is_over = False
        asked: list[str] = []

        async def ask(who: int, ids: Iterator[int]) -> int:
            wire = await found.wire()
            answered = 0
            while not is_over:
                id = f"e{who}-{next(ids)}"
                asked.append(id)
                answer = await wire.ask(event_bytes(id, key=f"k{who}"))
                assert (answer.status, answer.headers.get("connection")) == (200, None)
                answered += 1
            return answered

        asking = [asyncio.create_task(ask(who, iter(range(10**9)))) for who in range(8)]
        await until(lambda: len(found.a.rig.service.clients) == 8, "all are there")
        await found.to_and_fro(0, 10)
        is_over = True
        answered = sum(await asyncio.gather(*asking))
        assert sorted(found.a.rig.old.ids()) == sorted(asked)
        assert answered == len(asked)
        for who in range(8):
            ours = [id for id in found.a.rig.old.ids() if id.startswith(f"e{who}-")]
            assert ours == [f"e{who}-{n}" for n in range(len(ours))]
