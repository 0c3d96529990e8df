"""The body of a request as it comes in: the data between its framing, its end, and what stands behind it."""

from __future__ import annotations

from proxy.http.chunked import ChunkedBody
from proxy.http.head import RequestHead


class RequestBody:
    """Takes bytes from the end of a head on.

    size: bytes of data so far; is_whole: its end was read; rest: the bytes after that; by_chunks: its length is unknown
    """

    __slots__ = ("_chunks", "_left", "by_chunks", "is_whole", "rest", "size")

    def __init__(self, head: RequestHead) -> None:
        self.by_chunks = head.chunked
        self._chunks = ChunkedBody() if head.chunked else None
        self._left = head.length
        self.size = 0
        self.is_whole = False
        self.rest = b""

    def take(self, data: bytes) -> bytes:
        """Add received bytes; the data in them. Raises BadChunk."""
        if self._chunks is not None:
            data = self._chunks.feed(data)
            self.is_whole, self.rest = self._chunks.done, self._chunks.rest
        else:
            if len(data) > self._left:
                data, self.rest = data[: self._left], data[self._left :]
            self._left -= len(data)
            self.is_whole = self._left == 0
        self.size += len(data)
        return data
