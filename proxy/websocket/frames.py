r"""Frames (RFC 6455, section 5): received bytes -> what they say; and frames of our own. No I/O.

    bytes --> FrameReader.feed --> [Message | Run | Ping | Pong | Closing ... | Broken]

A message is given out when its last frame is here, with its bytes as they came (`raw`) beside its unmasked payload.
Control frames in between its frames are given out at once, as they are not for the message's order. Where nobody
needs payloads, whole messages that stand next to each other in the received bytes are one `Run`: one slice to be
passed on, whatever the number of messages in it.

Everything that the RFC forbids ends the connection with the code that it names; what is too long does so when its
head says so, before any of it is kept. The rest of a frame is kept in one growing buffer, so that a client that sends
single bytes costs no more memory than any other.

Written flat, because every message passes here.
"""

from __future__ import annotations

from secrets import token_bytes
from typing import Final, NamedTuple, TypeAlias

from mypy_extensions import mypyc_attr
from websockets.speedups import apply_mask

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_CONTINUATION: Final = 0
_FIN: Final = 0x80
_OPCODE: Final = 0x0F
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127
_CONTROL_MOST: Final = 125

# Codes of a close frame (RFC 6455, 7.4.1 and the IANA registry).
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005
"""Not sent: what a close frame without a code means."""
NO_CLOSE: Final = 1006
"""Not sent: the connection ended without a close frame."""
INVALID_DATA: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012
TRY_AGAIN: Final = 1013

FIRST_OF_APPLICATIONS: Final = 3000
"""From here to 4999 codes mean what an application says (RFC 6455, 7.4.2)."""

_SENT_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})


@mypyc_attr(acyclic=True)
class Message:
    """A whole message. kind: TEXT or BINARY; raw: its frames as they came; payload: unmasked."""

    __slots__ = ("kind", "payload", "raw")

    def __init__(self, kind: int, raw: bytes, payload: bytes) -> None:
        self.kind = kind
        self.raw = raw
        self.payload = payload


@mypyc_attr(acyclic=True)
class Run:
    """Messages to be passed on without a look into them. raw: their frames; messages: how many end in it."""

    __slots__ = ("messages", "raw")

    def __init__(self, raw: bytes, messages: int) -> None:
        self.raw = raw
        self.messages = messages


@mypyc_attr(acyclic=True)
class Ping:
    """A Ping. payload: up to 125 bytes."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


@mypyc_attr(acyclic=True)
class Pong:
    """A Pong. payload: up to 125 bytes."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Closing(NamedTuple):
    """A close frame: nothing is read after it. code: `NO_CODE` when it had none."""

    code: int
    reason: str


class Broken(NamedTuple):
    """What came cannot be read on. code: of the close frame that is due; reason: for it and for people, ASCII."""

    code: int
    reason: str


class Begun(NamedTuple):
    """What a reader has of something that is not whole.

    held: the beginning of a frame, of which `needed` bytes must be here before another look
    kind, fragments, raw, payload: of the message whose first frames are here; kind is 0 without one
    """

    held: bytes
    needed: int
    kind: int
    fragments: int
    raw: bytes
    payload: bytes


Item: TypeAlias = Message | Run | Ping | Pong | Closing | Broken


class FrameReader:
    """Reads what one end of a connection sends.

    is_client: that end is a client, whose frames must be masked; a server's must not be
    max_message: bytes of a message's payload; max_fragments: frames of a message
    runs: give messages out as `Run`; else as `Message`, with payload; checks_text: its text must be UTF-8
    """

    __slots__ = (
        "_checks_text",
        "_fragments",
        "_held",
        "_is_over",
        "_kind",
        "_mask_bit",
        "_max_fragments",
        "_max_message",
        "_needed",
        "_payload",
        "_raw",
        "_runs",
    )

    def __init__(
        self, *, is_client: bool, max_message: int, max_fragments: int, runs: bool = False, checks_text: bool = True
    ) -> None:
        self._mask_bit = _MASKED if is_client else 0
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._runs = runs
        self._checks_text = checks_text
        self._held = bytearray()
        """The beginning of a frame."""
        self._needed = 0
        """So many bytes of it must be here before another look at it is worth while."""
        self._kind = 0
        """Of the message whose first frames are here; 0 without one."""
        self._fragments = 0
        self._raw = bytearray()
        self._payload = bytearray()
        self._is_over = False

    @property
    def is_between(self) -> bool:
        """Is all that came given out? Else a message or a frame has begun."""
        return not self._held and not self._kind

    @property
    def is_in_fragments(self) -> bool:
        """Has a message begun of which whole frames are here, and not the last one?"""
        return self._kind != 0

    @property
    def held(self) -> int:
        """Bytes that are kept here."""
        return len(self._held) + len(self._raw) + len(self._payload)

    def begun(self) -> Begun:
        """What was read and is not whole yet."""
        held, needed = bytes(self._held), self._needed
        return Begun(held, needed, self._kind, self._fragments, bytes(self._raw), bytes(self._payload))

    def go_on(self, begun: Begun) -> None:
        """Read on where another reader stopped."""
        self._held, self._needed = bytearray(begun.held), begun.needed
        self._kind, self._fragments = begun.kind, begun.fragments
        self._raw, self._payload = bytearray(begun.raw), bytearray(begun.payload)

    def feed(self, data: bytes) -> list[Item]:
        """What these bytes complete, in order. After `Closing` or `Broken`, which are the last, nothing is read."""
        items: list[Item] = []
        if self._is_over:
            return items
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return items
            data = bytes(self._held)
            self._held = bytearray()
        mask_bit, runs, checks_text = self._mask_bit, self._runs, self._checks_text
        at, end = 0, len(data)
        run_from, run_messages = 0, 0
        needed = 2
        while end - at >= 2:
            first, second = data[at], data[at + 1]
            if first & _RESERVED or (second & _MASKED) != mask_bit:
                self._flush(items, data, run_from, at, run_messages)
                return self._break(items, PROTOCOL_ERROR, self._why_malformed(first))
            body = at + 2
            size = second & _LENGTH
            if size >= _TWO_BYTES:
                body += 2 if size == _TWO_BYTES else 8
                if first & CLOSE:  # before its length is known: there is no such control frame
                    body = at + 2
                elif end < body:
                    needed = body - at
                    break
                else:
                    extended = int.from_bytes(data[at + 2 : body], "big")
                    if extended < _TWO_BYTES or (size == _EIGHT_BYTES and (extended < 65536 or extended >> 63)):
                        self._flush(items, data, run_from, at, run_messages)
                        return self._break(items, PROTOCOL_ERROR, "a frame's length is not in its shortest form")
                    size = extended
            broken = None
            if first != _FIN | TEXT and first != _FIN | BINARY:
                broken = self._check(first, size)
            elif self._kind:
                broken = Broken(PROTOCOL_ERROR, "a message began before the one before it had ended")
            if broken is None and size > self._max_message - len(self._payload) and not first & CLOSE:
                broken = Broken(TOO_BIG, f"a message is longer than {self._max_message} bytes")
            if broken is not None:
                self._flush(items, data, run_from, at, run_messages)
                return self._break(items, broken.code, broken.reason)
            stop = body + (4 if mask_bit else 0) + size
            if stop > end:
                needed = stop - at
                break
            if first & CLOSE or not first & _FIN or first & _OPCODE == _CONTINUATION:
                self._flush(items, data, run_from, at, run_messages)
                run_from, run_messages = stop, 0
                raw = data[at:stop]
                if not self._take(items, first, raw, self._unmask(raw, body - at)):
                    return items
            elif runs:
                run_messages += 1
            else:
                raw = data[at:stop]
                payload = self._unmask(raw, body - at)
                if first & _OPCODE == TEXT and checks_text and not is_utf8(payload):
                    return self._break(items, INVALID_DATA, "a text message is not UTF-8")
                items.append(Message(first & _OPCODE, raw, payload))
            at, needed = stop, 2
        self._flush(items, data, run_from, at, run_messages)
        if at < end:
            self._held += data[at:]
            self._needed = needed
        return items

    def _unmask(self, raw: bytes, body: int) -> bytes:
        if not self._mask_bit:
            return raw[body:]
        return apply_mask(raw[body + 4 :], raw[body : body + 4])

    def _flush(self, items: list[Item], data: bytes, start: int, stop: int, messages: int) -> None:
        """Give out the run so far."""
        if messages:
            items.append(Run(data[start:stop], messages))

    def _break(self, items: list[Item], code: int, reason: str) -> list[Item]:
        items.append(Broken(code, reason))
        self._end()
        return items

    def _end(self) -> None:
        self._is_over = True
        self._held = bytearray()
        self._raw = bytearray()
        self._payload = bytearray()

    def _why_malformed(self, first: int) -> str:
        if first & _RESERVED:
            return "a reserved bit is set, and no extension was agreed on"
        return "a client's frame is not masked" if self._mask_bit else "a server's frame is masked"

    def _check(self, first: int, size: int) -> Broken | None:
        """What is wrong with a frame that is no message by itself."""
        opcode = first & _OPCODE
        if first & CLOSE:
            if opcode > PONG:
                return Broken(PROTOCOL_ERROR, f"opcode {opcode} is reserved")
            if not first & _FIN:
                return Broken(PROTOCOL_ERROR, "a control frame is fragmented")
            if size > _CONTROL_MOST:
                return Broken(PROTOCOL_ERROR, "a control frame is longer than 125 bytes")
            if opcode == CLOSE and size == 1:
                return Broken(PROTOCOL_ERROR, "a close frame with half a code")
            return None
        if opcode > BINARY:
            return Broken(PROTOCOL_ERROR, f"opcode {opcode} is reserved")
        if opcode == _CONTINUATION and not self._kind:
            return Broken(PROTOCOL_ERROR, "a continuation of no message")
        if opcode != _CONTINUATION and self._kind:
            return Broken(PROTOCOL_ERROR, "a message began before the one before it had ended")
        if self._fragments >= self._max_fragments:
            return Broken(TOO_BIG, f"a message has more than {self._max_fragments} frames")
        return None

    def _take(self, items: list[Item], first: int, raw: bytes, payload: bytes) -> bool:
        """A control frame, or a part of a message, whole. False when nothing is read after it."""
        opcode = first & _OPCODE
        if opcode == PING:
            items.append(Ping(payload))
        elif opcode == PONG:
            items.append(Pong(payload))
        elif opcode == CLOSE:
            items.append(_read_close(payload))
            self._end()
            return False
        else:
            return self._take_fragment(items, first, raw, payload)
        return True

    def _take_fragment(self, items: list[Item], first: int, raw: bytes, payload: bytes) -> bool:
        if not self._kind:
            self._kind = first & _OPCODE
        self._fragments += 1
        self._raw += raw
        self._payload += payload
        if not first & _FIN:
            return True
        kind, whole = self._kind, bytes(self._raw)
        if self._runs:
            items.append(Run(whole, 1))
        else:
            text = bytes(self._payload)
            if kind == TEXT and self._checks_text and not is_utf8(text):
                self._break(items, INVALID_DATA, "a text message is not UTF-8")
                return False
            items.append(Message(kind, whole, text))
        self._kind = self._fragments = 0
        self._raw = bytearray()
        self._payload = bytearray()
        return True


def is_utf8(payload: bytes) -> bool:
    """Is this text as a text message must be (RFC 6455, 8.1)?"""
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_close(payload: bytes) -> Closing | Broken:
    if not payload:
        return Closing(NO_CODE, "")
    code = int.from_bytes(payload[:2], "big")
    if code not in _SENT_CODES and not FIRST_OF_APPLICATIONS <= code < 5000:
        return Broken(PROTOCOL_ERROR, f"a close frame with the code {code}")
    if not is_utf8(payload[2:]):
        return Broken(INVALID_DATA, "the reason of a close frame is not UTF-8")
    return Closing(code, payload[2:].decode())


# frames of our own


class _Masks:
    """Masking keys, unforeseeable (RFC 6455, 5.3). Asking the kernel for each would cost more than all else."""

    __slots__ = ("_at", "_pool")

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def next(self) -> bytes:
        """Another one."""
        at = self._at
        if at >= len(self._pool):
            self._pool = token_bytes(4096)
            at = 0
        self._at = at + 4
        return self._pool[at : at + 4]


_masks: Final = _Masks()
_BYTES: Final = [bytes([n]) for n in range(256)]


def frame(opcode: int, payload: bytes, *, is_client: bool) -> bytes:
    """One whole frame. is_client: we are the client of this connection, so it is masked (RFC 6455, 5.3)."""
    size = len(payload)
    mask_bit = _MASKED if is_client else 0
    if size < _TWO_BYTES:
        head = _BYTES[_FIN | opcode] + _BYTES[mask_bit | size]
    elif size < 65536:
        head = bytes([_FIN | opcode, mask_bit | _TWO_BYTES]) + size.to_bytes(2, "big")
    else:
        head = bytes([_FIN | opcode, mask_bit | _EIGHT_BYTES]) + size.to_bytes(8, "big")
    if not is_client:
        return head + payload
    mask = _masks.next()
    return head + mask + apply_mask(payload, mask)


def close_frame(code: int, reason: str = "", *, is_client: bool) -> bytes:
    """A close frame; with `NO_CODE` an empty one. What does not fit of the reason is left out, by whole characters."""
    if code == NO_CODE:
        return frame(CLOSE, b"", is_client=is_client)
    text = reason.encode()[: _CONTROL_MOST - 2].decode(errors="ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + text, is_client=is_client)
