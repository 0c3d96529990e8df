"""What may be taken back, as one row of the table `received` has it: msgpack of many `ReceivedRow`s.

A context that is that of the row before is left out: a session's messages have one in common, and stand together. It
is as long as they are, so with it there was twice as much to write, to copy and to remove again some seconds later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from proxy.ledger.group import ReceivedRow

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[ReceivedRow]).decode


def pack(rows: Sequence[ReceivedRow]) -> bytes:
    """No row may be without a context."""
    packed: list[ReceivedRow] = []
    before = b""
    for row in rows:
        context = row[2]
        if context == before:
            row = (row[0], row[1], b"", row[3])  # noqa: PLW2901 - the same row, shorter
        else:
            before = context
        packed.append(row)
    return _encode(packed)


def unpack(packed: bytes) -> list[ReceivedRow]:
    """What was packed. Raises msgspec.DecodeError for anything else."""
    rows: list[ReceivedRow] = []
    context = b""
    for seq, sides, own, body in _decode(packed):
        context = own or context
        rows.append((seq, sides, context, body))
    return rows
