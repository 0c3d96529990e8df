"""Response heads: a backend's bytes -> typed head -> our own bytes, as strictly as requests.

A backend's heads repeat but for the date's second, so they are kept by their bytes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.http.head import CONNECTION, CONTENT_LENGTH, DROPPED, FIELD_VALUE, LENGTH, PLAIN, TOKEN, TRANSFER_ENCODING

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?")
_HEADER_LINE: Final = re.compile(rb"(" + TOKEN + rb"):" + FIELD_VALUE)
_RESPONSE_KINDS: Final = {
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
} | dict.fromkeys((b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"proxy-authenticate"), DROPPED)

# How the end of a response's body is found (RFC 9112, 6.3).
NO_BODY: Final = 0
BY_LENGTH: Final = 1
BY_CHUNKS: Final = 2
BY_CLOSE: Final = 3


class ResponseHead(NamedTuple):
    """A response head that was found valid.

    framing: how its body ends, for a request that was not HEAD; length: bytes, or -1
    start: status line and end-to-end header lines in our own form, without framing and the empty line
    keep_alive: the backend will take another request on this connection
    """

    status: int
    framing: int
    length: int
    start: bytes
    keep_alive: bool

    def with_line(self, line: bytes) -> ResponseHead:
        """The same head with one header line more."""
        return self._replace(start=self.start + line)


def parse_response_head(raw: bytes) -> ResponseHead | None:
    """Parse the bytes before the empty line; None when a backend's head is malformed or ambiguous."""
    lines = raw.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        return None
    minor, code, reason = match.groups()
    status = int(code)
    out = [b"HTTP/1.1 %b %b\r\n" % (code, reason or b"")]
    length, chunked, keep_alive = -1, False, minor == b"1"
    headers: list[tuple[bytes, bytes]] = []
    nominated: set[bytes] = set()
    for line in lines[1:]:
        found = _HEADER_LINE.fullmatch(line)
        if found is None:
            return None
        spelled, value = found.groups()
        name = spelled.lower()
        kind = _RESPONSE_KINDS.get(name, PLAIN)
        if kind == PLAIN:
            headers.append((name, b"%b: %b\r\n" % (spelled, value)))
        elif kind == CONTENT_LENGTH:
            if LENGTH.fullmatch(value) is None or (length >= 0 and length != int(value)):
                return None
            length = int(value)
        elif kind == TRANSFER_ENCODING:
            if value.lower() != b"chunked" or chunked:
                return None
            chunked = True
        elif kind == CONNECTION:
            nominated |= {token.strip() for token in value.lower().split(b",")}
    if chunked and (length >= 0 or minor == b"0"):
        return None
    if b"close" in nominated:
        keep_alive = False
    elif b"keep-alive" in nominated:
        keep_alive = True
    out += [line for name, line in headers if name not in nominated]
    if status < 200 or status in (204, 304):
        framing = NO_BODY
    elif chunked:
        framing = BY_CHUNKS
    else:
        framing = BY_LENGTH if length >= 0 else BY_CLOSE
    return ResponseHead(status, framing, length, b"".join(out), keep_alive and framing != BY_CLOSE)


class ResponseHeads:
    """Parsed response heads by their bytes: a backend's heads repeat but for the date's second.

    last: the head that came last, with the empty line; last_head: what it says.
    """

    __slots__ = ("_heads", "last", "last_head")

    def __init__(self) -> None:
        self._heads: dict[bytes, ResponseHead] = {}
        self.last = b"\r\n\r\n"
        self.last_head = ResponseHead(0, NO_BODY, 0, b"", False)

    def parse(self, raw: bytes) -> ResponseHead | None:
        """As `parse_response_head`."""
        head = self._heads.get(raw)
        if head is None:
            head = parse_response_head(raw)
            if head is not None and len(raw) <= 1024:
                if len(self._heads) >= 512:
                    self._heads.clear()
                self._heads[raw] = head
        if head is not None:
            self.last, self.last_head = raw + b"\r\n\r\n", head
        return head
