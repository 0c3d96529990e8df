"""Whose connections a process holds."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ESTABLISHED = "01"


def clients_of(pid: int, port: int) -> set[int]:
    """The ports of the clients whose connections with this port of ours the process holds."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            inodes.add(os.readlink(descriptor))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, ours, theirs, state, *_, inode = line.split()[:10]
        if state == _ESTABLISHED and _port(ours) == port and f"socket:[{inode}]" in inodes:
            found.add(_port(theirs))
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
