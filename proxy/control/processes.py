"""Whether a process that was known once is still there: Linux gives its number to another one later."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

GONE: Final = 0
UNKNOWN: Final = -1
"""It cannot be looked at now, for want of a descriptor or for another reason: it may be there or not."""
_STATE: Final = 0
_START: Final = 19
"""Places behind the name, which is in parentheses and may have any character in it (proc(5))."""


def started(pid: int) -> int:
    """When a process was started, in ticks since boot; GONE when there is none, or only what is left of it; UNKNOWN."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return GONE
    except OSError:
        return UNKNOWN
    fields = text.rpartition(")")[2].split()
    return GONE if fields[_STATE] in ("Z", "X") else int(fields[_START])


def is_stopped(pid: int) -> bool:
    """Is it stopped by a signal, so that it does nothing until it is told to go on?"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[_STATE] == "T"


def end(pid: int) -> None:
    """By force, stopped or not; its parent hears of it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
