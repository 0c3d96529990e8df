"""What processes are started with: code, settings, environment, descriptors. A switch makes another outfit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.control import service_manager
from proxy.control.code_place import CodePlace
from proxy.control.holdings import Holdings


@dataclass(frozen=True)
class Outfit:
    """What processes are started with. descriptors: for all; listeners: for workers; lock_fd: for the ledger."""

    code: CodePlace
    environment: Mapping[str, str]
    descriptors: tuple[int, ...]
    listeners: tuple[int, ...]
    lock_fd: int

    def for_kind(self, kind: str) -> tuple[int, ...]:
        """The descriptors that a process of a kind inherits."""
        # The ledger holds the lock too: as long as there is a writer of the record, no other instance starts.
        # Workers alone hold the listeners: when we are killed, the port is free as soon as they stop.
        more = {"ledger": (self.lock_fd,), "worker": self.listeners}
        return (*self.descriptors, *more.get(kind, ()))


def outfit_of(
    holdings: Holdings,
    code: CodePlace,
    *,
    started_ns: int,
    pythonpath: str = "",
    config_fd: int | None = None,
    listeners: Sequence[int] | None = None,
) -> Outfit:
    """An outfit of what is held.

    code: by name; what is there now is what processes get. started_ns: when the instance started; pythonpath: as it was
    without our root; config_fd, listeners: those that are not held yet, in the place of those that are.
    """
    place = code.pinned()
    config_fd = holdings.config_fd if config_fd is None else config_fd
    listeners = [each.fileno() for each in holdings.sockets] if listeners is None else listeners
    environment = service_manager.without(os.environ) | {
        "PYTHONPATH": place.path(pythonpath),
        "CROSSFADE_CONFIG_PATH": str(holdings.config_path),
        "CROSSFADE_CONFIG_FD": str(config_fd),
        "CROSSFADE_MARKS_FD": str(holdings.marks_fd),
        "CROSSFADE_LISTEN_FDS": ",".join(str(each) for each in listeners),
        "CROSSFADE_LIFELINE_FD": str(holdings.lifeline_fd),
        "CROSSFADE_READY_FD": str(holdings.ready_fd),
        "CROSSFADE_LAUNCHER_PID": str(os.getpid()),
        "CROSSFADE_STARTED_NS": str(started_ns),
    }
    shared = (config_fd, holdings.marks_fd, holdings.lifeline_fd, holdings.ready_fd)
    return Outfit(place, environment, shared, tuple(listeners), holdings.lock_fd)
