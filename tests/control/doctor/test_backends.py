"""Backends with each fault planted: what is found, and that nothing of it makes an event."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.server import serve
from websockets.utils import accept_key

from config.model import Settings
from proxy.control.doctor import backends
from tests.control.helpers import make_settings

pytestmark = pytest.mark.asyncio
DATE = "Date: Sun, 29 Nov 2026 12:00:00 GMT\r\n"
OK = f"HTTP/1.1 200 OK\r\n{DATE}Content-Length: 2\r\n\r\n"
Answer = Callable[[str], bytes | None]


@pytest.fixture(autouse=True)
def _nothing_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no finding here."""
    monkeypatch.setattr(backends, "_SLOW", (60.0, 60.0))
    monkeypatch.setattr(backends, "PATIENCE", 30.0)


def sound(method: str) -> bytes:
    return OK.encode() + (b"" if method == "HEAD" else b"ok")


def chunked(method: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\n{DATE}Transfer-Encoding: chunked\r\n\r\n".encode()
    return head + (b"" if method == "HEAD" else b"2;x=1\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")


def long(method: str) -> bytes:
    body = b"" if method == "HEAD" else b"x" * (2**20 + 1)
    return f"HTTP/1.1 200 OK\r\n{DATE}Content-Length: {2**20 + 1}\r\n\r\n".encode() + body


def long_chunk(method: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\n{DATE}Transfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"100001\r\n" + b"x" * (2**20 + 1) + b"\r\n0\r\n\r\n"


def said(text: str) -> Answer:
    return lambda _: text.encode()


@asynccontextmanager
async def listening(answer: Answer, tls: ssl.SSLContext | None = None, *, closes: bool = False) -> AsyncIterator[int]:
    """A server that answers each request with these bytes; None: never. The port."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                methods.append(head.split()[0])
                found = answer(head.split()[0])
                if found is None:
                    await asyncio.sleep(60)
                assert found is not None
                writer.write(found)
                await writer.drain()
                if closes:
                    break
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    methods: list[str] = []
    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
        assert set(methods) <= {"GET", "HEAD"}, "nothing that it asks for is an event"
    finally:
        server.close()


def settings(port: int, scheme: str = "http", **backend: Any) -> Settings:
    both = {"url": f"{scheme}://127.0.0.1:{port}", "health": {"path": "/health"}} | backend
    return make_settings("/nowhere", backends={"old": both, "new": {"url": "http://127.0.0.1:9"}})


async def wrong(given: Settings) -> dict[str, str]:
    """What is not ok of old, by name without the address."""
    found = (await backends.look(given)).findings
    assert all(bool(each.advice) == (each.state != "ok") for each in found)
    mine = [each for each in found if each.name.startswith("old") and each.state != "ok"]
    return {re.sub(r" at 127\.0\.0\.1:\d+", "", each.name): each.state for each in mine}


@pytest.mark.parametrize("answer", [sound, chunked, long, long_chunk])
async def test_a_sound_one(answer: Answer) -> None:
    async with listening(answer) as port:
        given = settings(port)
        assert await wrong(given) == {}
        seen = await backends.look(given)
    assert seen.dates["old"][0] == "Sun, 29 Nov 2026 12:00:00 GMT"
    away = [each for each in seen.findings if each.name.startswith("new at")]
    assert [(each.state, each.seen.startswith("cannot be asked")) for each in away] == [("fail", True)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (said("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), {"old: version": "warn", "old: keep-alive": "warn"}),
        (said("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"), {"old: keep-alive": "warn"}),
        (lambda method: sound(method).replace(b"200 OK", b"503 No"), {"old: health path": "fail"}),
        (lambda _: OK.encode() + b"ok", {"old: keep-alive": "fail"}),
        (said("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"), {"old": "fail"}),
        (said("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), {"old": "fail"}),
        (said("SSH-2.0-OpenSSH_9.2\r\n\r\n"), {"old": "fail"}),
        (lambda _: None, {"old": "fail"}),
    ],
    ids=["1.0", "close", "unhealthy", "a body to HEAD", "chunks", "length", "no HTTP", "silent"],
)
async def test_each_fault(answer: Answer, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    if answer("GET") is None:
        monkeypatch.setattr(backends, "PATIENCE", 0.2)
    async with listening(answer) as port:
        assert await wrong(settings(port)) == expected


async def test_one_that_says_that_it_keeps_the_connection_and_ends_it() -> None:
    async with listening(sound, closes=True) as port:
        assert await wrong(settings(port)) == {"old: keep-alive": "warn"}


async def test_no_probe_is_configured_and_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(sound) as port:
        assert await wrong(settings(port, health=None)) == {"old: health probe": "warn"}
    monkeypatch.setattr(backends, "PATIENCE", 0.5)
    assert await wrong(settings(1, url="http://nowhere.invalid:1")) == {"old": "fail"}


@pytest.mark.parametrize(
    ("lasts", "trusted", "expected"),
    [
        (365, True, {}),
        (3, True, {"old: certificate": "warn"}),
        (-1, True, {"old": "fail"}),
        (365, False, {"old": "fail"}),
    ],
    ids=["sound", "soon over", "over", "not trusted"],
)
async def test_certificates(tmp_path: Path, lasts: int, trusted: bool, expected: dict[str, str]) -> None:
    authority, other = trustme.CA(), trustme.CA()
    now, days = datetime.now(UTC), timedelta(days=lasts)
    certificate = authority.issue_cert("127.0.0.1", not_before=now - timedelta(days=9), not_after=now + days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    (authority if trusted else other).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with listening(sound, context) as port:
        assert await wrong(settings(port, "https", tls={"ca": str(tmp_path / "ca.pem")})) == expected


def with_sessions(port: int) -> Settings:
    routes = [{"name": "events", "match": {"path": "/ws"}, "websocket": {}}]
    both = {"url": f"http://127.0.0.1:{port}"}
    return make_settings("/nowhere", backends={"old": both, "new": {"url": "http://127.0.0.1:9"}}, routes=routes)


async def sessions(port: int) -> list[tuple[str, str]]:
    found = (await backends.look(with_sessions(port))).findings
    return [(each.state, each.seen) for each in found if "sessions" in each.name]


async def test_sessions_that_answer_a_ping() -> None:
    async def converse(session: Any) -> None:
        async for _ in session:
            raise AssertionError("a message would be an event")

    async with serve(converse, "127.0.0.1", 0) as server:
        (found,) = await sessions(server.sockets[0].getsockname()[1])
    assert found[0] == "ok", found


ACCEPT = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n"


@pytest.mark.parametrize(("status", "state"), [(404, "fail"), (401, "warn")])
async def test_sessions_that_are_refused(status: int, state: str) -> None:
    async with listening(said(f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno")) as port:
        assert [found[0] for found in await sessions(port)] == [state]


async def test_sessions_without_a_pong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "PATIENCE", 0.5)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            if "Sec-WebSocket-Key" not in lines:
                writer.write(sound(head.split()[0]))
                continue
            writer.write(ACCEPT.format(accept_key(lines["Sec-WebSocket-Key"])).encode())
            while await reader.read(1024):
                pass
            writer.close()
            return

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await converse(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    async with server:
        (found,) = await sessions(server.sockets[0].getsockname()[1])
    assert found == ("fail", "it agrees, and answers no Ping")


async def test_consumers_connect_themselves() -> None:
    consumer: Awaitable[Any] = backends.look(
        make_settings(
            "/nowhere",
            backends={"old": {"consumer": {"token": "a"}}, "new": {"consumer": {"token": "b"}}},
            routes=[{"name": "events", "match": {"path": "/ws", "methods": ["POST"]}, "fanout": {}, "ack": "accepted"}],
        )
    )
    assert [each.state for each in (await consumer).findings] == ["ok", "ok"]
