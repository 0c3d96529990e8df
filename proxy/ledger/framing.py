"""Messages on a stream socket: each is a 4-byte big-endian length and that many bytes."""

from __future__ import annotations

from typing import Final

from proxy.ledger.protocol import FromLedger, FromWorker, encoder

LENGTH_BYTES: Final = 4
MAX_MESSAGE: Final = 256 * 2**20
"""A longer announced length is garbage, not a message."""


def pack(message: FromWorker | FromLedger) -> bytes:
    """One message with its length before it."""
    payload = encoder.encode(message)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class Unpacker:
    """Cuts a byte stream into messages' payloads. Raises ValueError for an impossible length."""

    __slots__ = ("_rest", "_wanted")

    def __init__(self) -> None:
        self._rest = bytearray()
        """The beginning of a message that is not whole."""
        self._wanted = LENGTH_BYTES
        """Bytes that there must be of it before more of it can be told."""

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes; the payloads that are complete now."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return []
            data = bytes(rest)
            rest.clear()
        payloads: list[bytes] = []
        start, end, self._wanted = 0, len(data), LENGTH_BYTES
        while end - start >= LENGTH_BYTES:
            length = int.from_bytes(data[start : start + LENGTH_BYTES], "big")
            if length > MAX_MESSAGE:
                raise ValueError(f"announced message of {length} bytes")
            stop = start + LENGTH_BYTES + length
            if stop > end:
                self._wanted = stop - start
                break
            payloads.append(data[start + LENGTH_BYTES : stop])
            start = stop
        if start < end:
            rest += data[start:]
        return payloads
