"""What a child process gets from the launcher: the configuration as it was loaded, and open descriptors.

CROSSFADE_CONFIG_PATH   the file's path, for messages and relative paths
CROSSFADE_CONFIG_FD     memfd with the settings as they were loaded (`proxy.control.sealed`): a child started later
                        reads no edited file
CROSSFADE_MARKS_FD      memfd of proxy.ledger.marks
CROSSFADE_LISTEN_FDS    listening sockets for clients, "5,6", in the order of `listen`
CROSSFADE_LIFELINE_FD   read end of a pipe whose write end only the launcher has: EOF = the launcher died
CROSSFADE_READY_FD      write end of a pipe: a line for each thing that a child says:
                          standby KIND INDEX PID   it is loaded, and waits for its turn (`proxy.control.duty`)
                          serving KIND INDEX PID   it does its work: a worker accepts clients
                          ready ADMIN              of the supervisor, once: traffic may come
                          refused PID REASON       it cannot start
CROSSFADE_HANDOVER      in a worker that takes the place of one that serves still: the Unix socket where it takes
                        that one's connections
CROSSFADE_LAUNCHER_PID  whom the supervisor asks to stop
CROSSFADE_STARTED_NS    wall clock at the launcher's start; also names this life of the instance
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from config.model import Settings
from proxy.control import sealed
from proxy.control.carried import Carried, of_ledger
from proxy.control.logs import one_line
from proxy.control.places import Places
from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)

EXIT_REFUSED: Final = 78
"""Exit code of a child that refuses to start (sysexits.h EX_CONFIG); its message is in the log."""

RELIEVED: Final = "relieved"
"""Why a process stops that may have to serve again."""
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
    handover: Path | None = None
    carried: Carried | None = None

    @property
    def slots(self) -> Mapping[str, int]:
        """Where in the marks each route is."""
        return (self.carried or Carried.first(self.settings)).slots

    @property
    def ledger_settings(self) -> Settings:
        """The settings as the ledger goes by them."""
        return of_ledger(self.settings, self.carried) if self.carried is not None else self.settings

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Inherited:
        """Read it all; raises RefuseToStart when the process was not started by the launcher."""
        try:
            path = Path(environ["CROSSFADE_CONFIG_PATH"])
            settings, carried = sealed.unseal_both(read_all(int(environ["CROSSFADE_CONFIG_FD"])))
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
            handover=Path(environ["CROSSFADE_HANDOVER"]) if "CROSSFADE_HANDOVER" in environ else None,
            carried=carried,
        )

    def placed(self, index: int, *, is_successor: bool) -> Inherited:
        """The same for a worker's next turn. is_successor: it takes the place of one that serves still."""
        return replace(self, handover=self.places.handover_socket(index) if is_successor else None)


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


def say(line: str, descriptor: int) -> None:
    """Tell the launcher something, in one line of at most 4,096 bytes; a launcher that is gone is told nothing."""
    try:
        os.write(descriptor, line.encode()[:_LONGEST_LINE] + b"\n")
    except OSError as error:
        log.warning("the launcher could not be told %r: %s", line.partition(" ")[0], error)


def say_refusal(reason: object, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the launcher why this child refuses to start; its exit code says that it does."""
    try:
        say(f"refused {os.getpid()} {one_line(str(reason))}", int(environ["CROSSFADE_READY_FD"]))
    except (KeyError, ValueError) as error:
        log.warning("the launcher could not be told the reason: %r", error)


class Stops:
    """Why this process shall stop: "SIGTERM", "SIGINT", "the launcher died" or "relieved", each once.

    relief: the signal that relieves it, so that it may have to serve again.
    It hears from its making on, in a running loop; what comes while nobody waits is waited for next.
    """

    def __init__(self, inherited: Inherited, relief: signal.Signals | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._lifeline_fd = inherited.lifeline_fd
        self._heard: set[str] = set()
        self._reasons: asyncio.Queue[str] = asyncio.Queue()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, number.name)
        if relief is not None:
            self._loop.add_signal_handler(relief, self._stop, RELIEVED)
        self._loop.add_reader(self._lifeline_fd, self._lifeline)

    async def next(self) -> str:
        """The next reason."""
        return await self._reasons.get()

    def close(self) -> None:
        """Do not look at the launcher any more; signals are heard, and nobody does anything about them."""
        self._loop.remove_reader(self._lifeline_fd)

    def _lifeline(self) -> None:
        # Nobody ever writes to it, so readable means EOF.
        self._loop.remove_reader(self._lifeline_fd)
        self._stop("the launcher died")

    def _stop(self, why: str) -> None:
        if why not in self._heard:
            self._heard.add(why)
            self._reasons.put_nowait(why)


async def stop_requested(inherited: Inherited, relief: signal.Signals | None = None) -> str:
    """Wait until this process shall stop; says why, as `Stops` does.

    Installs the handlers at its first await, so start it before the work begins.
    """
    with contextlib.closing(Stops(inherited, relief)) as stops:
        return await stops.next()
