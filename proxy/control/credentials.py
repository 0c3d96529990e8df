"""Reads a credential from its file, which may be on a mount that does not answer.

At most one read of each file is under way, whoever asks for it: a wait that timed out leaves it there, and the next try
waits for the same one. So there are never more threads than files that are configured.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from concurrent.futures import Future
from typing import Final

from proxy.control.threads import begin

MOST_BYTES: Final = 64 * 2**10
_under_way: dict[str, Future[str]] = {}


async def credential(path: str) -> str:
    """The text of a file without the space around it. Raises OSError, and ValueError for what is no text.

    To be called under a timeout.
    """
    reading = _under_way.get(path)
    if reading is None or reading.done():
        reading = _under_way[path] = begin("credential", lambda: _read(path))
    return await asyncio.wrap_future(reading)


def _read(path: str) -> str:
    # O_NONBLOCK: a pipe that nobody writes is opened, and refused.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES} bytes", path)
    return data.decode().strip()
