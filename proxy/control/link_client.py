"""The end of the control link that workers and the ledger hold: connect, register, and again for ever.

A process serves on while there is no supervisor; nothing here may stop it or hold memory for it. So a
message that cannot go out now is dropped and counted: routing comes anew after each registration and
statistics are cumulative, hence a later message says all that a dropped one said.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from proxy.control.link import FromSupervisor, Register, ToSupervisor, encoder, from_supervisor, known

log = logging.getLogger(__name__)

RECONNECT_EVERY: Final = 0.1
"""Seconds between two attempts to reach the supervisor."""
LENGTH_BYTES: Final = 4
MAX_MESSAGE: Final = 64 * 2**20
"""A longer announced length is garbage, not a message."""
MAX_UNSENT: Final = 4 * 2**20
"""Bytes that may wait for a supervisor that does not read; then messages are dropped."""
_CREDENTIALS: Final = struct.Struct("3i")
"""pid, uid and gid, as in unix(7)."""


def pack(message: ToSupervisor | FromSupervisor) -> bytes:
    """One message with its 4-byte big-endian length before it."""
    payload = encoder.encode(message)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def owner_of(writer: asyncio.StreamWriter) -> int:
    """The user at the other end of a Unix socket's connection, a uid. Raises OSError when that is gone."""
    connection = writer.get_extra_info("socket")
    if connection is None:
        raise ConnectionResetError("it was closed at once")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(found)
    return int(uid)


class LinkClient:
    """A connection to the supervisor that mends itself.

    path: the control socket; register: what is said first on each connection;
    on_message: called in the loop with each message, must not block. What it raises is logged, and
    the link lives on.
    """

    def __init__(self, path: Path, register: Register, on_message: Callable[[FromSupervisor], None]) -> None:
        self._path = path
        self._register = register
        self._on_message = on_message
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self.connections = 0
        """How often a connection was made."""
        self.dropped = 0
        """Messages that were not sent, because there was no supervisor or it did not read."""

    @property
    def is_connected(self) -> bool:
        """Is there a supervisor that we are registered with?"""
        return self._writer is not None

    def start(self) -> None:
        """Begin to connect; returns at once. Call it within the loop, once."""
        if self._task is not None:
            raise RuntimeError("the link was started already")
        self._task = asyncio.create_task(self._run(), name="control link")

    def send(self, message: ToSupervisor) -> bool:
        """Send a message; false when it was dropped."""
        writer = self._writer
        if writer is None or writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self.dropped += 1
            return False
        writer.write(pack(message))
        return True

    async def close(self) -> None:
        """Stop connecting and close; what was sent is flushed if the supervisor reads it within a second."""
        task, self._task = self._task, None
        if task is None:
            return
        if self._writer is not None:
            try:
                await asyncio.wait_for(self._writer.drain(), 1.0)
            except (OSError, TimeoutError) as error:
                log.warning("the supervisor did not take our last messages: %r", error)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        was_reachable, was_ours = True, True
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
                owner = owner_of(writer)
            except OSError as error:
                if was_reachable:
                    # At the start all processes are born together, so a supervisor that is not there yet is no news.
                    level = logging.WARNING if self.connections else logging.INFO
                    log.log(level, "no supervisor at %s (%s); serving on and trying again", self._path, error)
                was_reachable = False
            else:
                was_reachable = True
                is_ours = owner in (0, os.geteuid())  # what a supervisor says is acted on, and settings are unpickled
                if is_ours:
                    await self._converse(reader, writer)
                else:
                    if was_ours:
                        log.error("whoever serves %s is another user (%d); not listening to it", self._path, owner)
                    writer.close()
                was_ours = is_ours
            await asyncio.sleep(RECONNECT_EVERY)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Register and listen until the connection ends."""
        writer.write(pack(self._register))
        self._writer = writer
        self.connections += 1
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                if length > MAX_MESSAGE:
                    raise msgspec.DecodeError(f"announced message of {length} bytes")
                message = known(from_supervisor, await reader.readexactly(length))
                if message is not None:
                    self._take(message)
        except (asyncio.IncompleteReadError, OSError) as error:
            log.warning("the supervisor closed the control link (%s)", type(error).__name__)
        except msgspec.DecodeError as error:
            log.error("garbage on the control link, connecting anew: %s", error)
        finally:
            self._writer = None
            writer.close()

    def _take(self, message: FromSupervisor) -> None:
        try:
            self._on_message(message)
        except Exception:  # the supervisor must not be able to end a process that serves clients
            log.exception("could not handle %s from the supervisor", type(message).__name__)
