"""When a process serves: it is made ready, stands by, and begins once the launcher says that the place is free.

    launched --> stands by --go--> serves --relieved--> stands by --go--> serves ...
                     |               |                      |
                  dismissed       stopped                dismissed: it ends

Two processes of one kind never serve at once, but for workers. One that was relieved keeps what it has loaded, so
that it can go on where its successor fails, even if its code is not on disk any more. The launcher speaks through a
pipe of each process: a byte to begin, its end to be dismissed.

    CROSSFADE_DUTY_FD   read end of that pipe; absent in a process that was started by hand
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Mapping
from typing import Final

from proxy.control.inherit import RELIEVED, Inherited, say

GO: Final = b"g"
GO_AFTER: Final = b"a"
"""Begin in the place of a worker that serves still, and take its connections."""
_QUIET: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Duty:
    """One process's side. kind: worker, ledger and so on; index: the worker's, else 0."""

    def __init__(
        self, inherited: Inherited, kind: str, index: int = 0, *, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._inherited = inherited
        self._kind, self._index = kind, index
        number = environ.get("CROSSFADE_DUTY_FD")
        self._descriptor = int(number) if number is not None else -1

    def run(self, serve: Callable[[Inherited], str]) -> int:
        """Serve, and again after each relief; the exit code, 0. serve: returns why it ended, `RELIEVED` or other."""
        if self._descriptor < 0:
            serve(self._inherited)
            return 0
        while (word := self._wait()) is not None:
            if serve(self._inherited.placed(self._index, is_successor=word == GO_AFTER)) != RELIEVED:
                break
        return 0

    def serving(self) -> None:
        """Tell the launcher that this process does its work from now on."""
        say(f"serving {self._kind} {self._index} {os.getpid()}", self._inherited.ready_fd)

    def _wait(self) -> bytes | None:
        """The word to begin; None when this process is dismissed, or the launcher died."""
        # Between two turns no loop hears these, and what the system does by itself is to end the process.
        for number in _QUIET:
            signal.signal(number, signal.SIG_IGN)
        # A launcher that is about to become another program has them blocked, which is inherited.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, *_QUIET))
        say(f"standby {self._kind} {self._index} {os.getpid()}", self._inherited.ready_fd)
        lifeline = self._inherited.lifeline_fd
        ready, _, _ = select.select([self._descriptor, lifeline], [], [])
        if lifeline in ready:
            return None
        word = os.read(self._descriptor, 1)
        return word if word and not self._is_dismissed() else None

    def _is_dismissed(self) -> bool:
        """Who was told to begin and then to end need not begin; the signal came when nobody heard it."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return any(what & select.POLLHUP and not what & select.POLLIN for _, what in poll.poll(0))


RELIEF: Final = {"worker": signal.SIGUSR1}
"""The signal that relieves a process, by its kind; SIGUSR2 for the others."""


def relief_of(kind: str) -> signal.Signals:
    """The signal that relieves a process of this kind. For a supervisor SIGUSR1 means something else."""
    return RELIEF.get(kind, signal.SIGUSR2)
