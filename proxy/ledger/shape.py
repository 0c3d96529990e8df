"""An asyncio protocol by its shape: a compiled class cannot inherit from `asyncio.Protocol`, which is Python."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast


class StreamProtocol(Protocol):
    """Everything that a loop calls of a stream's protocol."""

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None:
        """See `asyncio.BaseProtocol`, as for all of these."""

    def connection_lost(self, exc: Exception | None, /) -> None:
        """The connection has ended."""

    def data_received(self, data: bytes, /) -> None:
        """Some bytes."""

    def eof_received(self) -> bool | None:
        """The peer sends nothing more; a false answer closes the connection."""

    def pause_writing(self) -> None:
        """The peer reads slowly."""

    def resume_writing(self) -> None:
        """It reads on."""


def as_protocol(one: StreamProtocol) -> asyncio.Protocol:
    """The same object, for asyncio's signatures."""
    return cast(asyncio.Protocol, one)
