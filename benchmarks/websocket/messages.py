"""Home-Assistant-like messages: 290 bytes of JSON, 10,000 keys, ids that are never used twice; and the handshake."""

from __future__ import annotations

import secrets
from typing import Final

from websockets.utils import accept_key

KEYS: Final = 10_000
SIZE: Final = 290
PATH: Final = "/api/websocket"
HANDSHAKE_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE: Final = (
    f"GET {PATH} HTTP/1.1\r\nHost: bench.local\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {HANDSHAKE_KEY}\r\n\r\n"
).encode()
_STRIDE: Final = 7919
"""It shares no factor with the number of keys, so all of them are visited, in an order that no cache likes."""
_TAIL: Final = b'"},"pad":"'
_END: Final = b'"}'


def _head(key: int) -> bytes:
    return (
        b'{"entity_id":"sensor.meter_%05d","state":"%05.2f","attributes":{"unit_of_measurement":"kWh",'
        b'"friendly_name":"Meter %05d","device_class":"energy"},"last_changed":"2025-11-20T08:00:00.000000+00:00",'
        b'"context":{"parent_id":null,"user_id":null,"id":"' % (key, key % 100, key)
    )


_HEADS: Final = [_head(key) for key in range(KEYS)]
_TAILS: Final = [_TAIL + b"x" * (SIZE - len(head) - 26 - len(_TAIL) - len(_END)) + _END for head in _HEADS]


def new_run() -> str:
    """Eight hex digits that no other run has had."""
    return secrets.token_hex(4)


class Messages:
    """The messages of one client. run: of `new_run`; client: its number, 0-65535."""

    def __init__(self, run: str, client: int) -> None:
        self._prefix = f"01{run}{client:04x}"
        self._key = client * 613 % KEYS
        self._count = 0

    def make(self) -> tuple[str, bytes]:
        """The next one's id and text."""
        self._count += 1
        self._key = key = (self._key + _STRIDE) % KEYS
        identity = f"{self._prefix}{self._count:012x}"
        return identity, _HEADS[key] + identity.encode() + _TAILS[key]


def id_of(text: bytes) -> str:
    """The id in a message that was made here."""
    start = text.rindex(b'"id":"') + 6
    return text[start : start + 26].decode()


def switching(request: bytes) -> bytes:
    """A backend's answer to a handshake."""
    lines = [line.partition(b":") for line in request.split(b"\r\n")]
    (key,) = [value.strip().decode() for name, _, value in lines if name.lower() == b"sec-websocket-key"]
    return (
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    ).encode()
