"""An instance that is stopped and started again while its listening socket stays, as systemd does with a socket unit.

While no instance runs, whoever connects waits in the socket's queue for the next one.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any, Final

from proxy.demo.children import Child
from proxy.demo.instance import Instance

DRAIN: Final = {"accept_for": "2s", "close_over": "1s"}
GRACE: Final = 2.0 + 1.0 + 20.0
"""Seconds from SIGTERM to the end at most: both of these, and `stop_grace`'s default."""
_QUEUE: Final = 4096
_ACTIVATED: Final = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&{0}'
"""Only the process itself can name its number before it is there (sd_listen_fds(3))."""


class HeldInstance(Instance):
    """The socket is there as long as this object is. exits: seconds that each stop took."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        super().__init__(directory, config | {"drain": DRAIN})
        self._listening = socket.create_server((self.address.host, self.address.port), backlog=_QUEUE)
        self.exits: list[float] = []

    async def stop(self) -> int:
        """See Instance; the socket stays."""
        began = time.perf_counter()
        code = await super().stop()
        self.exits.append(time.perf_counter() - began)
        return code

    def _launched(self, command: list[str]) -> Child:
        descriptor = self._listening.fileno()
        words = ["sh", "-c", _ACTIVATED.format(descriptor), "sh", *command]
        return Child("crossfade", words, self.log, descriptors=[descriptor])
