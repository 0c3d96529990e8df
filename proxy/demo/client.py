"""One keep-alive HTTP/1.1 connection, raw, so that every reset and every missing answer is seen.

Client libraries open connections again and retry behind one's back; a proof must not.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, TypeAlias

from config.units import Address

_MAX_HEAD = 64 * 2**10
_Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer(NamedTuple):
    """A complete answer. headers: names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class NoAnswerError(Exception):
    """No complete answer came.

    kind: refused (no connection), reset, ended (the peer closed), timeout, garbled.
    untouched: the connection had been used before and ended without one byte of an answer, as
    happens when a server closes an idle connection at the moment of a new request.
    """

    def __init__(self, kind: str, *, untouched: bool = False) -> None:
        super().__init__(kind)
        self.kind = kind
        self.untouched = untouched


class Connection:
    """Sends one request at a time; opens itself when it is not open."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: _Streams | None = None
        self._used = False

    async def post(self, target: str, headers: dict[str, str], body: bytes, *, seconds: float) -> Answer:
        """Send a POST and wait for its whole answer, `seconds` at most. Raises NoAnswerError."""
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(target, headers, body)
        except TimeoutError:
            self.close()
            raise NoAnswerError("timeout") from None

    async def _exchange(self, target: str, headers: dict[str, str], body: bytes) -> Answer:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # the peer closed it while it was idle: no request was hurt
        reader, writer = self._streams or await self._open()
        lines = [f"POST {target} HTTP/1.1", f"Host: {self._address.host}:{self._address.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        began = False
        try:
            writer.write("\r\n".join(lines).encode() + body)
            head = await reader.readuntil(b"\r\n\r\n")
            began = True
            answer = await _read_answer(reader, head)
        except asyncio.IncompleteReadError as error:
            untouched = self._used and not began and not error.partial
            self.close()
            raise NoAnswerError("ended", untouched=untouched) from None
        except (ValueError, asyncio.LimitOverrunError):
            self.close()
            raise NoAnswerError("garbled") from None
        except OSError:
            self.close()
            raise NoAnswerError("reset") from None
        self._used = True
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    async def _open(self) -> _Streams:
        try:
            self._streams = await asyncio.open_connection(*self._address, limit=_MAX_HEAD)
        except OSError:
            raise NoAnswerError("refused") from None
        self._used = False
        return self._streams

    def close(self) -> None:
        """Close it; the next request opens a new one."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None


async def _read_answer(reader: asyncio.StreamReader, head: bytes) -> Answer:
    """The rest of an answer after its head. Raises ValueError for what is not HTTP."""
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = status_line.split(" ", 2)
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not HTTP: {status_line!r}")
    headers = {}
    for line in lines[:-2]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if int(status) in (204, 304):
        return Answer(int(status), headers, b"")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Answer(int(status), headers, await _read_chunks(reader))
    return Answer(int(status), headers, await reader.readexactly(int(headers.get("content-length", ""))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass  # trailers
    return bytes(body)
