"""What may be taken back, as one row of the table `received` has it: msgpack of many `ReceivedRow`s.

A context that is that of the row before is None: a session's messages have one in common, and stand together. It is
as long as they are, so with it there was twice as much to write, to copy and to remove again some seconds later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from proxy.ledger.group import ReceivedRow

_PackedRow: TypeAlias = tuple[int, int, bytes | None, bytes]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[_PackedRow]).decode


def pack(rows: Sequence[ReceivedRow], *, shares_context: bool) -> bytes:
    """shares_context: leave out what is in common; a file of schema 2 has it in each row."""
    if not shares_context:
        return _encode(rows)
    packed: list[_PackedRow] = []
    before: bytes | None = None
    for seq, sides, context, body in rows:
        packed.append((seq, sides, None if context == before else context, body))
        before = context
    return _encode(packed)


def unpack(packed: bytes) -> list[ReceivedRow]:
    """What was packed. Raises msgspec.DecodeError for anything else."""
    rows: list[ReceivedRow] = []
    context = b""
    for seq, sides, own, body in _decode(packed):
        context = context if own is None else own
        rows.append((seq, sides, context, body))
    return rows
