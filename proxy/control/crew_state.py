"""Which processes died, and which keep dying: `run/crew.json`, written by the launcher, read by the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from proxy.control.files import write_whole


class Deaths(msgspec.Struct):
    """One process. died: how often since the instance started; last_end: how, the last time.

    loops: it dies soon after each start, and waits longer each time before the next; short_lives: how often in a row.
    """

    name: str
    died: int
    short_lives: int
    loops: bool
    last_end: str


def write(path: Path, died: Sequence[Deaths]) -> None:
    """Replace the file; raises OSError."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(died), indent=1) + b"\n", durable=False)


def read(path: Path) -> list[Deaths]:
    """Those that have died; none when the file says nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Deaths])
    except (OSError, msgspec.DecodeError):
        return []
