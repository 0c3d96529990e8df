"""How connections go from a worker to the one that takes its place: over a Unix socket, with their descriptors.

    predecessor                        successor
      Greeting(version)         -->
      Offer(1, state) + fds     -->                     it reads nothing of the connection, and writes nothing to it
                                <--    Accepted(1)      it could go on; or Refused(1, why): it stays where it is
      Release(1)                -->                     it goes on; the predecessor closes its own descriptors
      Withdraw(2)               -->                     something happened in between: it is not to go on
                                <--    Lost(1, side)    a connection to a backend ended, whose messages are kept there
                                <--    Settled(1, side) it ended in order

Between an offer and its end the predecessor does not touch the connection. Each of them may die at any time: what was
not released is the predecessor's, what was is the successor's, and where one of them is gone with it, it is closed.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from proxy.ledger.framing import LENGTH_BYTES, Unpacker

VERSION: Final = 1
"""Of this conversation; each state has a form of its own, which is checked when it is read."""
ENDED: Final = "closed by the other end"
"""Why a conversation is over that ended in order, or with its process."""
MOST_SOCKETS: Final = 8
"""With one offer."""
_CHUNK: Final = 256 * 1024
_ROOM: Final = socket.CMSG_SPACE(MOST_SOCKETS * array.array("i").itemsize)


class Greeting(msgspec.Struct, tag="greeting", array_like=True):
    """The first word. headers: names of those whose values the predecessor has kept of handshakes."""

    version: int
    headers: list[bytes] = []


class Offer(msgspec.Struct, tag="offer", array_like=True):
    """A connection, or some that belong together. sockets: how many came with it."""

    number: int
    kind: str
    state: bytes
    sockets: int


class Release(msgspec.Struct, tag="release", array_like=True):
    """It is yours."""

    number: int


class Withdraw(msgspec.Struct, tag="withdraw", array_like=True):
    """It is not."""

    number: int


class Accepted(msgspec.Struct, tag="accepted", array_like=True):
    """We can go on with it."""

    number: int


class Refused(msgspec.Struct, tag="refused", array_like=True):
    """We cannot. reason: for people."""

    number: int
    reason: str


class Lost(msgspec.Struct, tag="lost", array_like=True):
    """Of a session that was released, a connection to a backend was lost."""

    number: int
    side: int


class Settled(msgspec.Struct, tag="settled", array_like=True):
    """The backend has closed it in order."""

    number: int
    side: int


ToSuccessor: TypeAlias = Greeting | Offer | Release | Withdraw
ToPredecessor: TypeAlias = Accepted | Refused | Lost | Settled
Message: TypeAlias = ToSuccessor | ToPredecessor
_encode: Final = msgspec.msgpack.Encoder().encode
_to_successor: Final = msgspec.msgpack.Decoder(ToSuccessor)
_to_predecessor: Final = msgspec.msgpack.Decoder(ToPredecessor)


class Channel:
    """One end of the conversation. hear: called with each message; lost: once, with the reason."""

    def __init__(
        self,
        connection: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        is_successor: bool,
        hear: Callable[[Any], None],
        lost: Callable[[str], None],
    ) -> None:
        self._socket = connection
        self._loop = loop
        self._decode = (_to_successor if is_successor else _to_predecessor).decode
        self._hear = hear
        self._tell_lost = lost
        self._unpacker = Unpacker()
        self._unsent = bytearray()
        self._said = 0
        """Bytes, and of these:"""
        self._sent = 0
        self._to_tell: deque[tuple[int, Callable[[], None]]] = deque()
        """Whom to tell when as much is sent."""
        self._descriptors: deque[int] = deque()
        """That came and belong to messages which are not whole yet."""
        self.is_open = True
        self._is_deaf = False
        """The other end hears nothing any more; what it has said is still read, to its end."""
        connection.setblocking(False)
        loop.add_reader(connection, self._readable)

    def put(self, message: Message, sent: Callable[[], None] | None = None) -> bool:
        """Say something, now or as soon as it is taken; false when nobody hears it.

        sent: called once the whole of it is on its way, perhaps at once; never, when the conversation ends before.
        """
        if self.is_open and not self._is_deaf:
            data = _packed(message)
            self._unsent += data
            self._said += len(data)
            if sent is not None:
                self._to_tell.append((self._said, sent))
            self._write()
        return self.is_open and not self._is_deaf

    def offer(self, message: Offer, descriptors: Sequence[int]) -> bool:
        """Say that with descriptors, which stay ours as well; false when nothing is taken now."""
        if not self.is_open or self._is_deaf or self._unsent:
            return False
        data = _packed(message)
        try:
            sent = socket.send_fds(self._socket, [data], list(descriptors))
        except BlockingIOError:
            return False
        except OSError:
            self._hears_nothing()
            return False
        self._unsent += data[sent:]  # the descriptors went with its first byte
        self._said += len(data)
        self._sent += sent
        self._write()
        return True

    def _write(self) -> None:
        if not self._unsent:
            return
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hears_nothing()
            return
        del self._unsent[:sent]
        self._sent += sent
        if self._unsent:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)
        while self._to_tell and self._to_tell[0][0] <= self._sent:
            self._to_tell.popleft()[1]()

    def _hears_nothing(self) -> None:
        self._is_deaf = True
        self._unsent.clear()
        self._to_tell.clear()
        self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_CHUNK, _ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"receive failed: {error}")
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._descriptors.extend(found)
        if data:
            self._take(data)
        else:
            self.close(ENDED)
        if flags & socket.MSG_CTRUNC:  # whose they are is not known any more
            self.close("no descriptors left")

    def _take(self, data: bytes) -> None:
        try:
            for payload in self._unpacker.feed(data):
                if self.is_open:
                    self._hear(self._decode(payload))
        except (ValueError, msgspec.DecodeError) as error:
            self.close(f"not a message: {error}")

    def sockets(self, count: int) -> list[socket.socket]:
        """Those that came with the message that is heard; fewer, when they are not what was said."""
        found = []
        for _ in range(min(count, len(self._descriptors))):
            descriptor = self._descriptors.popleft()
            try:
                found.append(socket.socket(fileno=descriptor))
            except OSError:  # no socket
                os.close(descriptor)
        return found

    def close(self, why: str = "closing") -> None:
        """End the conversation; `lost` is called."""
        if not self.is_open:
            return
        self.is_open = False
        self._to_tell.clear()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._tell_lost(why)


def _packed(message: Message) -> bytes:
    payload = _encode(message)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload
