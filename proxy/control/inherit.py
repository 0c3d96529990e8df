"""What a child process gets from the launcher: the configuration as it was loaded, and open descriptors.

CROSSFADE_CONFIG_PATH   the file's path, for messages and relative paths
CROSSFADE_CONFIG_FD     memfd with the settings that the launcher loaded: a child started later reads no edited file
CROSSFADE_MARKS_FD      memfd of proxy.ledger.marks
CROSSFADE_LISTEN_FDS    listening sockets for clients, "5,6", in the order of `listen`
CROSSFADE_LIFELINE_FD   read end of a pipe whose write end only the launcher has: EOF = the launcher died
CROSSFADE_READY_FD      write end of a pipe: the supervisor says `ready ADMIN`, a child that refuses to start says why
CROSSFADE_LAUNCHER_PID  whom the supervisor asks to stop
CROSSFADE_STARTED_NS    wall clock at the launcher's start; also names this life of the instance
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.model import Settings
from proxy.control.logs import one_line
from proxy.control.places import Places
from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)

EXIT_REFUSED: Final = 78
"""Exit code of a child that refuses to start (sysexits.h EX_CONFIG); its message is in the log."""

_CHUNK: Final = 1 << 20
_LONGEST_LINE: Final = 4000
"""Bytes; a write of up to 4,096 to a pipe is never mixed with another's (pipe(7))."""


@dataclass(frozen=True)
class Inherited:
    """The launcher's gifts, read from the environment. Descriptors stay open for the process's life."""

    settings: Settings
    places: Places
    config_path: Path
    marks_fd: int
    listen_fds: tuple[int, ...]
    lifeline_fd: int
    ready_fd: int
    launcher_pid: int
    started_ns: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Inherited:
        """Read it all; raises RefuseToStart when the process was not started by the launcher."""
        try:
            path = Path(environ["CROSSFADE_CONFIG_PATH"])
            settings = pickle.loads(read_all(int(environ["CROSSFADE_CONFIG_FD"])))  # noqa: S301 - the launcher's own
            numbers = {name: int(environ[f"CROSSFADE_{name}"]) for name in _NUMBERS}
            listen_fds = tuple(int(fd) for fd in environ["CROSSFADE_LISTEN_FDS"].split(","))
        except (KeyError, ValueError, OSError) as error:
            raise RefuseToStart(f"this process is started by `proxyctl run`, not by hand ({error!r})") from None
        return cls(
            settings=settings,
            places=places_of(settings),
            config_path=path,
            marks_fd=numbers["MARKS_FD"],
            listen_fds=listen_fds,
            lifeline_fd=numbers["LIFELINE_FD"],
            ready_fd=numbers["READY_FD"],
            launcher_pid=numbers["LAUNCHER_PID"],
            started_ns=numbers["STARTED_NS"],
        )


_NUMBERS: Final = ("MARKS_FD", "LIFELINE_FD", "READY_FD", "LAUNCHER_PID", "STARTED_NS")


def places_of(settings: Settings) -> Places:
    """Where this instance's files and sockets lie."""
    return Places(Path(settings.state_dir), settings.admin.socket)


def read_all(descriptor: int) -> bytes:
    """A memfd's whole content. By pread: every process shares the descriptor's one file offset."""
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(descriptor, _CHUNK, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def say_refusal(reason: object, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the launcher why this child refuses to start; its exit code says that it does."""
    line = one_line(str(reason)).encode()[:_LONGEST_LINE]
    try:
        os.write(int(environ["CROSSFADE_READY_FD"]), b"refused " + line + b"\n")
    except (KeyError, ValueError, OSError) as error:
        log.warning("the launcher could not be told the reason: %r", error)


async def stop_requested(inherited: Inherited) -> str:
    """Wait until this process shall stop; says why: "SIGTERM", "SIGINT" or "the launcher died".

    Installs the handlers at its first await, so start it before the work begins.
    """
    loop = asyncio.get_running_loop()
    reason: asyncio.Future[str] = loop.create_future()

    def stop(why: str) -> None:
        if not reason.done():
            reason.set_result(why)

    def lifeline() -> None:
        # Nobody ever writes to it, so readable means EOF.
        loop.remove_reader(inherited.lifeline_fd)
        stop("the launcher died")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    loop.add_reader(inherited.lifeline_fd, lifeline)
    try:
        return await reason
    finally:
        loop.remove_reader(inherited.lifeline_fd)
