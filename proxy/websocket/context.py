r"""What a message's event needs beside its payload: the session that it belongs to, so that the ledger can deliver it
when the client has left.

    request line and headers, as the backends get them, with the subprotocol that was agreed on
    (empty line)
    msgpack: [session, kind, [[kind, payload] of each prologue message], version of the prologue]

The first part is what an HTTP event's context is, and is shown as such; the second may hold secrets and never is.
"""

from __future__ import annotations

from typing import Final

import msgspec

_END: Final = b"\r\n\r\n"


class SessionMessage(msgspec.Struct, array_like=True, gc=False):
    """The second part. session: its name; kind: TEXT or BINARY; prologue: what a new connection is to get first.

    version: of the prologue; the higher one is the later.
    """

    session: str
    kind: int
    prologue: tuple[tuple[int, bytes], ...] = ()
    version: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SessionMessage).decode


def pack_context(handshake: bytes, message: SessionMessage) -> bytes:
    """An event's context. handshake: each line ended by CRLF."""
    return b"%b\r\n%b" % (handshake, _encode(message))


def unpack_context(context: bytes) -> tuple[bytes, SessionMessage]:
    """The handshake and the message. Raises ValueError for what is no session's context."""
    handshake, end, rest = context.partition(_END)
    if not end:
        raise ValueError("not the context of a session's message")
    return handshake + b"\r\n", _decode(rest)
