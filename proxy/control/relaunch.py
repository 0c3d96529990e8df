"""What a launcher becomes at the end of an upgrade: `python -m proxy.control.relaunch run FILE`, by `exec` in place.

With `--check` it is a process of its own, which finds out whether this code can take over, and touches nothing.

CROSSFADE_BATON_FD   memfd with the `Baton`; everything that it names is open
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from proxy.control import baton, descriptors, sealed
from proxy.control.baton import Baton
from proxy.control.holdings import Holdings
from proxy.control.inherit import read_all
from proxy.control.launcher import keep_running
from proxy.control.logs import setup_logging
from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)


def check(held: Baton) -> None:
    """That what is handed over can be used; raises RefuseToStart or OSError."""
    for descriptor in held.descriptors():
        os.fstat(descriptor)
    for _, descriptor, _ in held.held.listeners:
        with socket.socket(fileno=os.dup(descriptor)) as listener:
            listener.getsockname()
    sealed.unseal(read_all(held.held.config_fd))


def main(arguments: Sequence[str]) -> int:
    """Go on as the launcher; its exit code. With --check 0 when this code could, 1 with the reason on stderr."""
    descriptor = int(os.environ.pop("CROSSFADE_BATON_FD"))
    try:
        held = baton.read(descriptor)
        if "--check" in arguments:
            check(held)
            return 0
    except (RefuseToStart, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    os.close(descriptor)
    setup_logging(sealed.unseal(read_all(held.held.config_fd)).log, "launcher")
    descriptors.raise_limit()
    holdings = Holdings.adopted(held.held, held.terms, Path(held.path))
    return keep_running(holdings, held.modules, held)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
