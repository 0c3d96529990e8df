"""Compressed request bodies, read for the key and the id alone: backends get what the client sent.

What is decoded is bounded, so that a small body that stands for a huge one (a "zip bomb") costs no more than
`max_decoded_size`. Codings: gzip, deflate (zlib's form, RFC 9110 section 8.4.1.2, and the raw one that some
clients send), identity.
"""

from __future__ import annotations

import zlib
from typing import Final

_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15
_CODINGS: Final = {
    b"gzip": (_GZIP,),
    b"x-gzip": (_GZIP,),
    b"deflate": (_ZLIB, _RAW),
}


def decoded(body: bytes, coding: bytes, limit: int) -> bytes | None:
    """The body without its Content-Encoding; at most `limit` bytes.

    None when it cannot be had: an unknown coding or several, a damaged or cut body, or one that is longer.
    """
    name = coding.lower()
    if name in (b"", b"identity"):
        return body
    for bits in _CODINGS.get(name, ()):
        text = _inflate(body, bits, limit)
        if text is not None:
            return text
    return None


def _inflate(body: bytes, bits: int, limit: int) -> bytes | None:
    parts: list[bytes] = []
    left = limit
    while body:
        stream = zlib.decompressobj(bits)
        try:
            part = stream.decompress(body, left + 1)
        except zlib.error:
            return None
        left -= len(part)
        if left < 0 or not stream.eof:
            return None
        parts.append(part)
        body = stream.unused_data
        if bits != _GZIP and body:
            return None  # gzip alone may go on with another member
    return b"".join(parts)
