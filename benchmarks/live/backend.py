"""`python -m benchmarks.live.backend`: a backend that keeps what it is sent, and has little else to do.

    POST /api/v1/events    X-Event-Id names the event
    GET  /api/v1/stream    WebSocket: each message is an event, named by the `id` in it
    GET                    200, whatever it is

What came in one turn of the loop is one write to a file; answers, and the Pongs behind messages, leave after it. The
demo's toy backend does the same with a database and knows faults, at several times the price: where two cores carry the
proxy, backends and all clients, what the backends take is not there for the proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import io
import sys
from pathlib import Path
from typing import Final, NamedTuple, cast

import msgspec
import uvloop

from benchmarks.websocket.messages import switching
from config.units import Address
from proxy.demo.children import Child, free_port, python
from proxy.demo.store import Stored, digest_of
from proxy.websocket.frames import PONG as PONG_FRAME
from proxy.websocket.frames import TEXT, Closing, FrameReader, Message, Ping, Pong, close_frame, frame

_MAX_MESSAGE: Final = 2**20
_START_SECONDS: Final = 60.0
_BACKLOG: Final = 4096


class Backend:
    """Such a process, seen from outside; its file and its log lie in `directory`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.address = Address("127.0.0.1", free_port())
        self.url = f"http://{self.address.host}:{self.address.port}"
        self._file = directory / f"{name}.jsonl"
        self._log = directory / f"{name}.log"
        self.child = self._start()

    def _start(self) -> Child:
        options = ["--name", self.name, "--file", str(self._file), "--port", str(self.address.port)]
        return Child(f"backend {self.name}", python("benchmarks.live.backend", *options), self._log)

    async def restart(self) -> None:
        """Start it again, after its end, with the same file and port."""
        self.child = self._start()
        await self.ready()

    async def ready(self) -> None:
        """Wait until it serves; raises ChildError."""
        await self.child.until(self._answers, _START_SECONDS)

    async def _answers(self) -> bool:
        return await asyncio.to_thread(self._asked)

    def _asked(self) -> bool:
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=10)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    async def stop(self) -> None:
        """End the process."""
        await self.child.stop()

    def stored(self) -> list[Stored]:
        """All that it was sent, in order of arrival, read from the file itself."""
        lines = self._file.read_bytes().splitlines()
        return [Stored(position, *_decode_kept(line)) for position, line in enumerate(lines, 1)]


# --- inside ---------------------------------------------------------------------------------------------------


class _Kept(NamedTuple):
    """A line of the file. role, attempt: the proxy's headers, or empty; digest: see `Stored`."""

    id: str
    role: str
    attempt: str
    digest: int


class _Named(msgspec.Struct):
    id: str


_decode_message = msgspec.json.Decoder(_Named).decode
_decode_kept = msgspec.json.Decoder(_Kept).decode
_encode = msgspec.json.Encoder().encode_lines


class _Request(NamedTuple):
    """fields: by name in lower case; head: with its request line."""

    head: bytes
    fields: dict[bytes, bytes]
    body: bytes


def _first_request(buffer: bytes) -> tuple[_Request, bytes] | None:
    """The first request in there and what comes behind it; None when more is to come."""
    head, end, rest = buffer.partition(b"\r\n\r\n")
    if not end:
        return None
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    fields = {name.lower(): value.strip() for name, _, value in lines}
    size = int(fields.get(b"content-length", 0))
    return (_Request(head, fields, rest[:size]), rest[size:]) if len(rest) >= size else None


class _Turn:
    """What came in one turn of the loop, and what is to leave once it is stored."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._kept: list[_Kept] = []
        self._answers: list[tuple[asyncio.Transport, bytes, bool]] = []

    def add(self, transport: asyncio.Transport, kept: list[_Kept], answer: bytes, *, is_last: bool = False) -> None:
        """Keep these, then send that; is_last: and close."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._end)
        self._kept += kept
        self._answers.append((transport, answer, is_last))

    def _end(self) -> None:
        kept, answers = self._kept, self._answers
        self._kept, self._answers = [], []
        if kept:
            self._file.write(_encode(kept))
        for transport, answer, is_last in answers:
            if not transport.is_closing():
                transport.write(answer)
            if is_last:
                transport.close()


class _Connection(asyncio.Protocol):
    """Requests, or a session once it is upgraded."""

    def __init__(self, name: str, turn: _Turn) -> None:
        self._name = name
        self._turn = turn
        self._buffer = b""
        self._reader: FrameReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._take_requests(data)
        else:
            self._take_frames(self._reader, data)

    def _take_requests(self, data: bytes) -> None:
        self._buffer += data
        while self._reader is None and (found := _first_request(self._buffer)) is not None:
            request, self._buffer = found
            if request.head.startswith(b"POST "):
                kept = _kept_of(request)
                self._turn.add(self._transport, [kept], _answer(b"201 Created", self._told(kept.id)))
            elif b"upgrade" in request.fields:
                self._reader = FrameReader(is_client=True, max_message=_MAX_MESSAGE, max_fragments=16, runs=False)
                self._transport.write(switching(request.head))
                self._take_frames(self._reader, self._buffer)
            else:
                self._turn.add(self._transport, [], _answer(b"200 OK", b'{"status":"ok"}'))

    def _take_frames(self, reader: FrameReader, data: bytes) -> None:
        kept, answers, is_last = [], [], False
        for item in reader.feed(data):
            if type(item) is Message:
                kept.append(_Kept(_decode_message(item.payload).id, "", "", digest_of(item.payload)))
                answers.append(frame(TEXT, self._told(kept[-1].id), is_client=False))
            elif type(item) is Ping:
                answers.append(frame(PONG_FRAME, item.payload, is_client=False))
            elif type(item) is Closing:
                answers.append(close_frame(item.code, is_client=False))
                is_last = True
            elif type(item) is not Pong:
                sys.exit(f"not what a proxy may send: {item}")
        if answers:
            self._turn.add(self._transport, kept, b"".join(answers), is_last=is_last)

    def _told(self, id: str) -> bytes:
        return f'{{"stored":"{id}","by":"{self._name}"}}'.encode()


def _kept_of(request: _Request) -> _Kept:
    fields = request.fields
    role, attempt = fields.get(b"x-crossfade-role", b""), fields.get(b"x-crossfade-attempt", b"")
    return _Kept(fields[b"x-event-id"].decode(), role.decode(), attempt.decode(), digest_of(request.body))


def _answer(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return head + body


async def serve(name: str, file: io.FileIO, port: int) -> None:
    """Listen until the process is ended."""
    turn = _Turn(file)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(name, turn), "127.0.0.1", port, backlog=_BACKLOG)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description="A backend that keeps what it is sent.")
    parser.add_argument("--name", required=True, help="what it calls itself in its answers")
    parser.add_argument("--file", type=Path, required=True, help="for what it is sent, a line of JSON each")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    gc.disable()
    with options.file.open("ab", buffering=0) as file:
        uvloop.run(serve(options.name, file, options.port))


if __name__ == "__main__":
    main()
