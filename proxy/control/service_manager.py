"""systemd's side of a service: sockets that it passes (sd_listen_fds(3)) and what it wants to hear (sd_notify(3)).

LISTEN_PID, LISTEN_FDS   descriptors 3, 4 ... are listening sockets, if the number is ours
NOTIFY_SOCKET            READY=1, RELOADING=1, STOPPING=1 go there, one datagram each
WATCHDOG_USEC            within this time WATCHDOG=1 has to come, again and again
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import Final

from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)

FIRST_DESCRIPTOR: Final = 3
_NAMES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for processes that the service manager does not speak to."""
    return {name: value for name, value in environ.items() if name not in _NAMES}


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """The sockets that were passed to this very process; raises RefuseToStart for what is no listening TCP socket."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    found: list[socket.socket] = []
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(environ.get("LISTEN_FDS", "0"))):
        os.set_inheritable(descriptor, False)
        passed = socket.socket(fileno=descriptor)
        is_tcp = passed.family in (socket.AF_INET, socket.AF_INET6) and passed.type == socket.SOCK_STREAM
        if not is_tcp or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            for each in (*found, passed):
                each.close()
            raise RefuseToStart(
                f"the service manager passed something else than a listening TCP socket as descriptor {descriptor}; "
                "use ListenStream= with an address and port in the socket unit, and Accept=no"
            )
        passed.setblocking(False)
        found.append(passed)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    return found


class Notifier:
    """Tells the service manager how it goes; without one it tells nobody. watchdog: seconds, 0 without."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = watchdog

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """As sd_notify(3) and sd_watchdog_enabled(3) find it."""
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "0") if is_ours else "0"
        return cls(environ.get("NOTIFY_SOCKET", ""), int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say that we live, twice as often as it has to be."""
        if not self._address or not self._watchdog:
            return
        self._tell("WATCHDOG=1")
        loop.call_later(self._watchdog / 2, self.start, loop)

    def ready(self, status: str) -> None:
        """Clients are served, or a reload is over. status: for people; empty leaves it as it was."""
        self._tell("READY=1" + (f"\nSTATUS={status}" if status else ""))

    def reloading(self) -> None:
        """Processes are being replaced."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("the service manager could not be told %s: %s", message.partition("=")[0], error)
