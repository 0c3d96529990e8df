"""Backends: one of `websockets`, one of `aiohttp`, one that speaks by hand. All of them keep what they get."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from aiohttp import WSMsgType, web
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from proxy.demo.children import free_port
from tests.http.wire import PATIENCE
from tests.websocket.byhand import BINARY, CLOSE, PING, PONG, TEXT, Got, next_frame, sent


class Handshake(NamedTuple):
    """What a backend was asked. path: with its query; headers: found by any spelling."""

    path: str
    headers: Mapping[str, str]


class Talk(ABC):
    """A backend's connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    @abstractmethod
    async def send(self, message: str | bytes) -> None:
        """Send a message; raises OSError once the connection is over."""

    @abstractmethod
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, and wait for the other end to do so."""

    def write(self, data: bytes) -> None:
        """Send bytes, whatever the library would say."""
        self.transport.write(data)


class WsBackend(ABC):
    """What all of them have. replies: echo each message; answers: make an answer of one; refusal: of the handshake."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()  # while it does not listen nobody else gets it
        self.got: list[str | bytes] = []
        self.requests: list[Handshake] = []
        self.refusal: int | None = None
        self.refused_paths: tuple[str, ...] = ()
        self.replies = False
        self.answers: Callable[[str | bytes], str] | None = None
        self.greeting = ""
        self.subprotocols: list[str] = []
        self.connections: set[Talk] = set()
        self.closed: list[int | None] = []
        """The codes with which connections ended."""
        self.gate: asyncio.Event | None = None
        """Handshakes wait for it."""

    @abstractmethod
    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, at the port of the first time."""

    @abstractmethod
    async def stop(self) -> None:
        """Say goodbye to everybody with 1001, and listen no more."""

    @property
    def connection(self) -> Talk:
        """The only one."""
        [connection] = self.connections
        return connection

    def mute(self) -> None:
        """Read nothing, and so answer no Ping."""
        for connection in self.connections:
            connection.transport.pause_reading()

    def unmute(self) -> None:
        """Read on."""
        for connection in self.connections:
            connection.transport.resume_reading()

    def cut(self) -> None:
        """Reset every connection."""
        for connection in self.connections:
            connection.transport.abort()

    async def _ask(self, path: str, headers: Mapping[str, str]) -> int | None:
        """Note a handshake, and wait for the gate; the status of a refusal."""
        self.requests.append(Handshake(path, headers))
        if self.gate is not None:
            await self.gate.wait()
        return 403 if any(part in path for part in self.refused_paths) else self.refusal

    async def _began(self, talk: Talk) -> None:
        self.connections.add(talk)
        if self.greeting:
            await talk.send(self.greeting)

    async def _take(self, talk: Talk, message: str | bytes) -> None:
        self.got.append(message)
        answer = self.answers(message) if self.answers is not None else ""
        if answer:
            await talk.send(answer)
        if self.replies:
            await talk.send(f"{self.name}:{message!s}")

    def _over(self, talk: Talk, code: int | None) -> None:
        self.connections.discard(talk)
        self.closed.append(code)


# websockets


class _WebsocketsTalk(Talk):
    def __init__(self, connection: ServerConnection) -> None:
        super().__init__(connection.transport)
        self._connection = connection

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise ConnectionResetError from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.close(code, reason)


class WebsocketsBackend(WsBackend):
    """A backend of `websockets`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._server: Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._look,
            ssl=tls,
            subprotocols=[Subprotocol(name) for name in self.subprotocols] or None,
            ping_interval=None,
            reuse_address=True,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _look(self, connection: ServerConnection, request: Request) -> Response | None:
        refusal = await self._ask(request.path, request.headers)
        return None if refusal is None else connection.respond(HTTPStatus(refusal), f"no, says {self.name}")

    async def _serve(self, connection: ServerConnection) -> None:
        talk = _WebsocketsTalk(connection)
        try:
            await self._began(talk)
            async for message in connection:
                await self._take(talk, message)
        except (ConnectionClosed, ConnectionResetError):
            pass
        finally:
            self._over(talk, connection.close_code)

    async def stop(self) -> None:
        if self._server is not None:
            self.unmute()
            self._server.close()
            await self._server.wait_closed()
            self._server = None


# aiohttp


class _AiohttpTalk(Talk):
    def __init__(self, transport: asyncio.Transport, socket: web.WebSocketResponse) -> None:
        super().__init__(transport)
        self.socket = socket
        self.wanted: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        """With what the task that reads is to close."""
        self.is_over = asyncio.Event()

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self.socket.send_str(message)
        else:
            await self.socket.send_bytes(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.wanted.set_result((code, reason))
        async with asyncio.timeout(PATIENCE):
            await self.is_over.wait()


class AiohttpBackend(WsBackend):
    """A backend of `aiohttp`. When it stops it closes as its manual says: the other end's Close is not waited for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._runner: web.ServerRunner | None = None
        self._talks: set[_AiohttpTalk] = set()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._runner = web.ServerRunner(web.Server(self._serve), shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = await self._ask(request.path_qs, request.headers)
        if refusal is not None:
            return web.Response(status=refusal, text=f"no, says {self.name}")
        socket = web.WebSocketResponse(protocols=self.subprotocols)
        await socket.prepare(request)
        assert request.transport is not None
        talk = _AiohttpTalk(request.transport, socket)
        self._talks.add(talk)
        try:
            await self._began(talk)
            await self._read(talk)
        except ConnectionResetError:
            pass
        finally:
            self._talks.discard(talk)
            self._over(talk, socket.close_code)
            talk.is_over.set()
        return socket

    async def _read(self, talk: _AiohttpTalk) -> None:
        while True:
            receiving = asyncio.ensure_future(talk.socket.receive())
            either: set[asyncio.Future[Any]] = {receiving, talk.wanted}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                receiving.cancel()
                raise
            if not receiving.done():
                receiving.cancel()
                await asyncio.wait({receiving})
                code, reason = talk.wanted.result()
                await talk.socket.close(code=code, message=reason.encode())
                return
            message = receiving.result()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            await self._take(talk, message.data)

    async def stop(self) -> None:
        if self._runner is not None:
            self.unmute()
            await asyncio.gather(*(talk.socket.close(code=1001) for talk in self._talks))
            await self._runner.cleanup()
            self._runner = None


# by hand


class HandTalk(Talk):
    """A connection by hand. frames: all that came, byte for byte."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer.transport)  # type: ignore[arg-type]
        self.writer = writer
        self.frames: list[Got] = []
        self.is_over = asyncio.Event()

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.write(sent(TEXT, message.encode(), masked=False))
        else:
            self.write(sent(BINARY, message, masked=False))
        await self.writer.drain()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.write(sent(CLOSE, code.to_bytes(2, "big") + reason.encode(), masked=False))
        async with asyncio.timeout(PATIENCE):
            await self.is_over.wait()


class HandBackend(WsBackend):
    """A backend that speaks by hand: it answers Pings and Close frames, and takes a message's frames as they come.

    behind: bytes that it sends together with its 101; breaks: what of the 101 is replaced by what
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.behind = b""
        self.breaks = (b"", b"")
        self.drips = False
        """Its 101 comes in segments of one byte."""
        self.pongs = True
        self.talks: list[HandTalk] = []
        """All connections, in their order."""
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=2**24, ssl=tls, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def data_frames(self) -> list[Got]:
        """Frames of messages, of all connections."""
        return [frame for talk in self.talks for frame in talk.frames if frame.opcode < CLOSE]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = HandTalk(writer)
        code: int | None = 1006
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.split("\r\n")[:-2]
            headers = {name.title(): value for name, _, value in (line.partition(": ") for line in lines)}
            assert await self._ask(line.split(" ")[1], headers) is None
            answer = (
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(headers["Sec-Websocket-Key"]).encode()
            ).replace(*self.breaks) + self.behind
            for piece in [answer[i : i + 1] for i in range(len(answer))] if self.drips else [answer]:
                writer.write(piece)
                await asyncio.sleep(0)
            self.talks.append(talk)
            await self._began(talk)
            code = await self._read(talk, reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._over(talk, code)
            talk.is_over.set()
            writer.close()

    async def _read(self, talk: HandTalk, reader: asyncio.StreamReader) -> int | None:
        message = bytearray()
        while True:
            frame = await next_frame(reader)
            talk.frames.append(frame)
            if frame.opcode == PING and self.pongs:
                talk.write(sent(PONG, frame.payload, masked=False))
            elif frame.opcode == CLOSE:
                talk.write(sent(CLOSE, frame.payload, masked=False))
                return int.from_bytes(frame.payload[:2], "big") if frame.payload else None
            elif frame.opcode < CLOSE:
                message += frame.payload
                if frame.fin:
                    await self._take(talk, bytes(message))
                    message.clear()

    async def stop(self) -> None:
        if self._server is not None:
            self.unmute()
            self._server.close()
            for talk in tuple(self.connections):
                talk.write(sent(CLOSE, (1001).to_bytes(2, "big"), masked=False))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while self.connections:
                        await asyncio.sleep(0.005)
            self.cut()
            self._server = None
