"""Chunked bodies (RFC 9112, 7.1), strictly: CRLF only, extensions and trailers checked and dropped."""

from __future__ import annotations

import re
from typing import Final

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_MAX_LINE: Final = 4096
_MAX_TRAILERS: Final = 16 * 1024

_AT_SIZE: Final = 0
_IN_DATA: Final = 1
_AT_DATA_END: Final = 2
_IN_TRAILERS: Final = 3
_DONE: Final = 4


class BadChunk(Exception):
    """The chunked framing is malformed; the connection cannot be used any more."""


class ChunkedBody:
    """Takes bytes as they come, gives the data between the framing.

    done: the last chunk and the trailers were read; rest: the bytes after them.
    """

    __slots__ = ("_buffer", "_left", "_state", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._state = _AT_SIZE
        self._trailers = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Add received bytes; the body data they held. Raises BadChunk."""
        buffer = self._buffer + data if self._buffer else data
        position, out = 0, []
        while self._state != _DONE:
            if self._state == _IN_DATA:
                piece = buffer[position : position + self._left]
                if not piece:
                    break
                out.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._state = _AT_DATA_END
            elif self._state == _AT_DATA_END:
                end = buffer[position : position + 2]
                if end != b"\r\n"[: len(end)]:
                    raise BadChunk("chunk data is not followed by CRLF")
                if len(end) < 2:
                    break
                position += 2
                self._state = _AT_SIZE
            else:
                stop = buffer.find(b"\r\n", position)
                if stop < 0:
                    self._check_partial(buffer, position)
                    break
                self._take_line(buffer[position:stop])
                position = stop + 2
        if self._state == _DONE:
            self.done, self.rest, self._buffer = True, buffer[position:], b""
        else:
            self._buffer = buffer[position:]
        return b"".join(out)

    @staticmethod
    def _check_partial(buffer: bytes, position: int) -> None:
        if len(buffer) - position > _MAX_LINE:
            raise BadChunk("a chunk line is too long")
        if buffer.find(b"\n", position) >= 0 or buffer.find(b"\r", position, len(buffer) - 1) >= 0:
            raise BadChunk("a bare CR or LF in a chunk line")

    def _take_line(self, line: bytes) -> None:
        if len(line) > _MAX_LINE:
            raise BadChunk("a chunk line is too long")
        if self._state == _AT_SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise BadChunk("malformed chunk size")
            self._left = int(match[1], 16)
            self._state = _IN_DATA if self._left else _IN_TRAILERS
        elif not line:
            self._state = _DONE
        else:
            self._trailers += len(line)
            if _TRAILER.fullmatch(line) is None or self._trailers > _MAX_TRAILERS:
                raise BadChunk("malformed or oversize trailers")
