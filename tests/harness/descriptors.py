"""A process that can open nothing more: its limit of open files is where its next descriptor would be."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count


@contextmanager
def no_descriptors(pid: int = 0) -> Iterator[None]:
    """Take the descriptors from a process, this one by default, until the end of the block."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    if pid:
        taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        free = next(number for number in count() if number not in taken)
    else:
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
