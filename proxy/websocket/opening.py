"""The opening handshake (RFC 6455, section 4), on both sides. No I/O.

    client --RequestHead--> read_opening --> Opening | Refusal
                                               |
    backend <-- backend_request(context, key) -+
            --bytes--> read_backend_answer --> Agreed | Disagreed | the backend's own answer
                                               |
    client <-- switching(Opening, Agreed) <----+

The grammar of headers is `proxy.http`'s, and what is in the handshake's own ones that of the `websockets` library.
Extensions are never offered to a backend nor agreed on with a client.
"""

from __future__ import annotations

import re
from base64 import b64encode
from secrets import token_bytes
from typing import Final, NamedTuple

from websockets.exceptions import InvalidHeaderFormat
from websockets.headers import parse_subprotocol
from websockets.utils import accept_key

from proxy.http.head import Refusal, RequestHead
from proxy.http.response_head import ResponseHead

VERSION: Final = b"13"
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""Base64 of 16 bytes; the last digit has two bits, and the others of it must be 0."""
_OURS: Final = (b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-accept")
"""Of the handshake with one hop: not passed on."""
_PROTOCOL: Final = b"sec-websocket-protocol"


class Opening(NamedTuple):
    """What a client asks for.

    key: of its handshake; protocols: subprotocols that it offers, best first
    context: request line and header lines as every backend gets them, each ended by CRLF
    """

    key: bytes
    protocols: tuple[str, ...]
    context: bytes


class Agreed(NamedTuple):
    """A backend has switched. protocol: the subprotocol, or empty; lines: its header lines for the client."""

    protocol: str
    lines: bytes


class Disagreed(NamedTuple):
    """What a backend answered is no handshake: nothing may be sent on this connection. reason: for people."""

    reason: str


def read_opening(head: RequestHead, context: bytes) -> Opening | Refusal:
    """What a client's handshake asks for. context: `proxy.http.request.context_of` it.

    A refusal with 426 is to carry `Upgrade: websocket` and `Sec-WebSocket-Version: 13`.
    """
    if head.method != b"GET" or head.minor != 1:
        return Refusal(400, "a WebSocket handshake is a GET of HTTP/1.1")
    if head.upgrade != b"websocket":
        return Refusal(426, "only WebSocket is spoken here")
    if head.length or head.chunked:
        return Refusal(400, "a body in a WebSocket handshake")
    lines = context.split(b"\r\n")
    values = [_split(line) for line in lines[1:-1]]
    versions = [value for name, value in values if name == b"sec-websocket-version"]
    if versions != [VERSION]:
        return Refusal(426, "only version 13 of WebSocket is spoken here")
    keys = [value for name, value in values if name == b"sec-websocket-key"]
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        return Refusal(400, "exactly one Sec-WebSocket-Key of 16 bytes in Base64 is required")
    protocols = _protocols([value for name, value in values if name == _PROTOCOL])
    if protocols is None:
        return Refusal(400, "malformed Sec-WebSocket-Protocol")
    kept = [line for line, (name, _) in zip(lines[1:-1], values, strict=True) if name not in _OURS]
    return Opening(keys[0], protocols, b"\r\n".join([lines[0], *kept, b""]))


def origin_of(opening: Opening) -> str:
    """Its Origin; empty without one, and several joined, which nobody lets in."""
    values = [value for name, value in map(_split, opening.context.split(b"\r\n")) if name == b"origin"]
    return b", ".join(values).decode("latin-1")


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


def _protocols(values: list[bytes]) -> tuple[str, ...] | None:
    """Subprotocols in the order of their lines; None when malformed. Each may be there once (4.1, item 10)."""
    found: list[str] = []
    for value in values:
        try:
            found += parse_subprotocol(value.decode("latin-1"))
        except InvalidHeaderFormat:
            return None
    return tuple(found) if len(set(found)) == len(found) else None


def new_key() -> bytes:
    """A key for a handshake with a backend."""
    return b64encode(token_bytes(16))


def backend_request(context: bytes, key: bytes) -> bytes:
    """The handshake that a backend gets. context: of the client's `Opening`, as the backend's `Rewrite` left it."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    return b"%b%bSec-WebSocket-Version: %b\r\nSec-WebSocket-Key: %b\r\n\r\n" % (context, upgrade, VERSION, key)


def offered_in(context: bytes) -> tuple[str, ...]:
    """The subprotocols that a context offers."""
    values = [value for name, value in map(_split, context.split(b"\r\n")) if name == _PROTOCOL]
    return _protocols(values) or ()


def with_protocol(context: bytes, protocol: str) -> bytes:
    """The same context, which offers this subprotocol alone, or none: what the authority has agreed on."""
    lines = [line for line in context.split(b"\r\n")[:-1] if _split(line)[0] != _PROTOCOL]
    if protocol:
        lines.append(b"Sec-WebSocket-Protocol: %b" % protocol.encode("latin-1"))
    return b"\r\n".join([*lines, b""])


def read_backend_answer(raw: bytes, head: ResponseHead, key: bytes, offered: tuple[str, ...]) -> Agreed | Disagreed:
    """Whether a 101 is the answer to our handshake (4.1, page 19). raw: the head as it came; head: what it says."""
    values = [_split(line) for line in raw.split(b"\r\n")[1:]]

    def all_of(wanted: bytes) -> list[bytes]:
        return [value for name, value in values if name == wanted]

    if [value.lower() for value in all_of(b"upgrade")] != [b"websocket"]:
        return Disagreed("it did not upgrade to WebSocket")
    if b"upgrade" not in [token.strip() for value in all_of(b"connection") for token in value.lower().split(b",")]:
        return Disagreed("its Connection header does not say Upgrade")
    if all_of(b"sec-websocket-accept") != [accept_key(key.decode()).encode()]:
        return Disagreed("its Sec-WebSocket-Accept is not the one of our key")
    if any(all_of(b"sec-websocket-extensions")):
        return Disagreed("it agreed on extensions that nobody offered")
    if head.length > 0 or b"transfer-encoding" in dict(values):
        return Disagreed("its 101 announces a body")
    protocols = [value.decode("latin-1") for value in all_of(_PROTOCOL)]
    if len(protocols) > 1 or not set(protocols) <= set(offered):
        return Disagreed("it chose a subprotocol that nobody offered")
    lines = [line for line in head.start.split(b"\r\n")[1:-1] if _split(line)[0] not in (*_OURS, _PROTOCOL)]
    return Agreed(protocols[0] if protocols else "", b"".join(line + b"\r\n" for line in lines))


def switching(opening: Opening, agreed: Agreed) -> bytes:
    """The 101 for the client, with what the authority said in its own."""
    protocol = b"Sec-WebSocket-Protocol: %b\r\n" % agreed.protocol.encode("latin-1") if agreed.protocol else b""
    return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%b%b%b\r\n" % (
        b"Sec-WebSocket-Accept: %b\r\n" % accept_key(opening.key.decode()).encode(),
        protocol,
        agreed.lines,
    )
