"""Whatever a backend answers, a client gets the answer to its own request, and no connection is used again while
bytes on it are unread.

Each answer carries the number of the request that it belongs to. The backend does with each request what its script
says: interim answers, a body where none may be, bytes behind the end, an end before it was due, an answer before it
has read the request.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

import pytest

from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import OFF, Rig, running
from tests.http.wire import Answer, Wire

INTERIM: Final = {
    "none": b"",
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
    "several": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 100 C\r\n\r\n",
}


def ask(number: int, method: str = "GET") -> bytes:
    """A request whose target is its number."""
    body = b"n=%d" % number if method in ("POST", "PUT") else b""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%b /%d HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (method.encode(), number, length, body)


def tag(seen: Seen) -> bytes:
    """What belongs to this request alone."""
    return b"X-Of: " + seen.head.split(b" ")[1] + b"\r\n"


async def final(wire: Wire, method: str) -> Answer:
    """The next answer that is not an interim one."""
    while True:
        answer = await wire.answer(method)
        if answer.status >= 200:
            return answer


@pytest.mark.asyncio
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_interim_answers_do_not_shift_the_final_ones(method: str, interim: bytes, apart: bool) -> None:
    async with running(dials=OFF) as rig:

        def behave(seen: Seen, connection: BackendConnection) -> None:
            said = (
                b"HTTP/1.1 200 OK\r\n" + tag(seen) + b"Content-Length: 2\r\n\r\n" + (b"" if method == "HEAD" else b"ok")
            )
            if apart:
                connection.write(interim)
                asyncio.get_running_loop().call_later(0.002, connection.write, said)
            else:
                connection.write(interim + said)

        rig.other.behave = behave
        wire = await rig.wire()
        for number in range(5):
            wire.send(ask(number, method))
            answer = await final(wire, method)
            assert (answer.status, answer.headers["x-of"]) == (200, f"/{number}")
        assert len(rig.other.connections) == 1, "an answer that is whole lets its connection be used again"


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [b"", b"Content-Length: 0\r\n"])
async def test_an_answer_without_a_body_is_over_with_its_head(status: int, length: bytes) -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = lambda seen, connection: connection.write(
            b"HTTP/1.1 %d X\r\n" % status + tag(seen) + length + b"\r\n"
        )
        wire = await rig.wire()
        for number in range(3):
            answer = await wire.ask(ask(number), "GET")
            assert (answer.status, answer.headers["x-of"], answer.body) == (status, f"/{number}", b"")
            assert "transfer-encoding" not in answer.headers
            assert status == 304 or "content-length" not in answer.headers, "RFC 9110, 8.6"
        assert len(rig.other.connections) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("line", [b"CONNECT a:80 HTTP/1.1", b"CONNECT / HTTP/1.1", b"CONNECT a:80 HTTP/1.0"])
async def test_connect_is_refused_and_nothing_is_tunnelled(line: bytes) -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        answer = await wire.ask(line + b"\r\nHost: a\r\n\r\n" + ask(1), "GET")
        assert (answer.status, answer.headers["connection"]) == (501, "close")
        assert await wire.is_cut()
        assert rig.other.connections == []


@pytest.mark.asyncio
async def test_an_answer_that_comes_before_the_body_is_read_is_the_clients() -> None:
    async with running(dials=OFF, limits={"max_event_size": "16MiB"}) as rig:
        body = b"b" * (12 * 2**20)

        def eager(data: bytes, connection: BackendConnection) -> None:
            if b"/early" in data:
                connection.write(b"HTTP/1.1 401 No\r\nX-Of: /early\r\nContent-Length: 0\r\n\r\n")
                connection.transport.pause_reading()

        rig.other.eager = eager
        rig.other.behave = lambda seen, connection: connection.write(reply(200, headers=tag(seen).decode()))
        wire = await rig.wire()
        for number in range(3):
            early = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            assert (await wire.ask(early)).headers["x-of"] == "/early"
            assert (await wire.ask(ask(number), "GET")).headers["x-of"] == f"/{number}"
        half_sent = [each for each in rig.other.connections if b"/early" in each.received]
        assert len(half_sent) == 3
        assert not any(b"GET /" in each.received.partition(b"/early")[2] for each in half_sent)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [400, 404, 413, 500, 503])
async def test_a_connection_goes_on_after_an_error_that_is_whole(status: int) -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = always(reply(status))
        wire = await rig.wire()
        for number in range(5):
            assert (await wire.ask(ask(number), "GET")).status == status
        assert len(rig.other.connections) == 1


# anything at all


def whole(seen: Seen, status: int = 200, body: bytes = b"body") -> bytes:
    """An answer as it should be."""
    is_head = seen.head.startswith(b"HEAD ")
    return b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, tag(seen), len(body), b"" if is_head else body)


def chunked(seen: Seen, end: bytes = b"0\r\n\r\n") -> bytes:
    """The same in chunks."""
    head = b"HTTP/1.1 200 X\r\n%bTransfer-Encoding: chunked\r\n\r\n" % tag(seen)
    return head if seen.head.startswith(b"HEAD ") else head + b"2;a\r\nbo\r\n2\r\ndy\r\n" + end


FOREIGN: Final = b"HTTP/1.1 200 X\r\nX-Of: nobody\r\nContent-Length: 0\r\n\r\n"
Say = Callable[[Seen], tuple[list[bytes], bool]]
"""The pieces of an answer, and whether the backend closes after them.

Bytes that come later, by themselves, end an idle connection (tests.http.test_stale_bytes). Once the next request has
been written nobody can tell them from its answer.
"""
SAYINGS: Final[dict[str, Say]] = {
    "whole": lambda seen: ([whole(seen)], False),
    "whole in pieces": lambda seen: ([whole(seen)[:9], whole(seen)[9:-2], whole(seen)[-2:]], False),
    "error": lambda seen: ([whole(seen, 500)], False),
    "chunks": lambda seen: ([chunked(seen)], False),
    "chunks in pieces": lambda seen: ([chunked(seen)[:-7], chunked(seen)[-7:]], False),
    "trailers": lambda seen: ([chunked(seen, b"0\r\nX-Of: nobody\r\n\r\n")], False),
    "interim first": lambda seen: ([INTERIM["several"], whole(seen)], False),
    "another answer behind": lambda seen: ([whole(seen) + FOREIGN], False),
    "bytes behind chunks": lambda seen: ([chunked(seen) + FOREIGN], False),
    "a body on 204": lambda seen: ([b"HTTP/1.1 204 X\r\n" + tag(seen) + b"\r\n" + FOREIGN], False),
    "a body on 304": lambda seen: ([b"HTTP/1.1 304 X\r\n" + tag(seen) + b"Content-Length: 3\r\n\r\nabc"], False),
    "a body on HEAD": lambda seen: ([b"HTTP/1.1 200 X\r\n" + tag(seen) + b"Content-Length: 3\r\n\r\nabc"], False),
    "until the end": lambda seen: ([b"HTTP/1.1 200 X\r\n" + tag(seen) + b"\r\nbody"], True),
    "an end too early": lambda seen: ([whole(seen, body=b"long" * 9)[:-5]], True),
    "an end in chunks": lambda seen: ([chunked(seen)[:-5]], True),
    "an end behind it": lambda seen: ([whole(seen)], True),
    "close": lambda seen: ([whole(seen).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)], True),
    "nothing": lambda seen: ([], True),
    "no HTTP": lambda seen: ([b"what?\r\n\r\n"], False),
    "bad chunks": lambda seen: ([chunked(seen, b"z\r\n")], False),
}
DIRTY: Final = {
    "another answer behind", "bytes behind chunks", "a body on 204", "a body on 304", "an end too early",
    "an end in chunks", "no HTTP", "bad chunks",
}  # fmt: skip
"""After these, bytes are left over or the end is unknown: nothing may be asked on the same connection."""


class Scripted:
    """A backend that answers by chance, the same for the same seed. said: what; dirty: connections that are over."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self.said: list[str] = []
        self.dirty: set[int] = set()
        self.asked_on_dirty: list[Seen] = []

    def __call__(self, seen: Seen, connection: BackendConnection) -> None:
        name = self._chance.choice(list(SAYINGS))
        self.said.append(name)
        if connection.number in self.dirty:
            self.asked_on_dirty.append(seen)
        is_head = seen.head.startswith(b"HEAD ")
        if (name in DIRTY and not (is_head and "chunks" in name)) or (name == "a body on HEAD" and is_head):
            self.dirty.add(connection.number)
        pieces, closes = SAYINGS[name](seen)
        self._tasks.append(asyncio.create_task(self._say(pieces, closes, connection)))

    async def _say(self, pieces: list[bytes], closes: bool, connection: BackendConnection) -> None:
        for piece in pieces:
            connection.write(piece)
            for _ in range(self._chance.choice((0, 0, 1, 3))):
                await asyncio.sleep(0)
        if closes:
            connection.finish()


async def converse(rig: Rig, chance: random.Random, start: int, count: int) -> int:
    """One client's requests, on new connections where the proxy has ended one; how many had an answer of a backend."""
    wire, answered = await rig.wire(), 0
    for number in range(start, start + count):
        method = chance.choice(("GET", "GET", "HEAD", "POST", "DELETE"))
        try:
            answer = await wire.ask(ask(number, method), method)
        except asyncio.IncompleteReadError:  # cut off where the backend's was
            wire.close()  # until then, or for a second, the proxy keeps its end
            wire = await rig.wire()
            continue
        if "x-of" in answer.headers:
            assert answer.headers["x-of"] == f"/{number}", answer
            answered += 1
        else:
            assert answer.status in (502, 504), answer
        if answer.headers.get("connection") == "close":
            wire.close()
            wire = await rig.wire()
    return answered


@pytest.mark.asyncio
async def test_no_answer_goes_to_another_request(soak: bool) -> None:
    count = 20_000 if soak else 150
    async with running(dials=OFF, backend={"response_timeout": "200ms", "connections": 4}) as rig:
        scripted = Scripted(1)
        rig.other.behave = scripted
        chance = random.Random(2)
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(converse(rig, chance, i * 10**6, count)) for i in range(8)]
        assert sum(client.result() for client in clients) > count * 8 / 3
        assert set(scripted.said) == set(SAYINGS)
        assert scripted.dirty
        assert not scripted.asked_on_dirty
        await rig.settled()
