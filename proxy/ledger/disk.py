"""The disk's room: a preallocated reserve that is given back when the disk is full, and a warning before.

On a full disk SQLite can neither delete nor checkpoint, so without a reserve a backlog could not even be
drained. Low means: less than `min_free` is left, or the reserve is spent; then workers refuse new events.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Final

import apsw

log = logging.getLogger(__name__)

_HYSTERESIS: Final = 1.1
"""Low ends when this many times `min_free` is free, so that it does not flap."""


def is_no_room(error: BaseException) -> bool:
    """Does it say that the disk is full? Files of our own say so by a number, SQLite by a class."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, apsw.FullError)


class Disk:
    """The file system of a directory. reserve, min_free: bytes. Used by one thread."""

    def __init__(self, directory: Path, reserve: int, min_free: int) -> None:
        self._directory = directory
        self._path = directory / "reserve"
        self._reserve = reserve
        self._min_free = min_free
        self.is_low = False
        self.released = 0
        """How often the reserve was given back."""

    def free(self) -> int:
        """Bytes that we may still write."""
        status = os.statvfs(self._directory)
        return status.f_bavail * status.f_frsize

    def has_reserve(self) -> bool:
        """Is the whole reserve there (or none wanted)?"""
        try:
            return self._reserve == 0 or os.stat(self._path).st_blocks * 512 >= self._reserve
        except FileNotFoundError:
            return False

    def check(self) -> bool:
        """Look at the room, make the reserve again when there is enough; is the disk low?"""
        free = self.free()
        if not self.has_reserve() and free >= self._reserve + self._min_free:
            self._make_reserve()
            free = self.free()
        wanted = self._min_free * _HYSTERESIS if self.is_low else self._min_free
        was_low, self.is_low = self.is_low, free < wanted or not self.has_reserve()
        if self.is_low and not was_low:
            log.error("the disk is nearly full: new events are refused until there is room", extra={"free": free})
        elif was_low and not self.is_low:
            log.warning("there is room on the disk again: new events are taken", extra={"free": free})
        return self.is_low

    def release(self) -> bool:
        """Give the reserve back to the disk, which is full; false when it was spent already."""
        self.is_low = True
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        self.released += 1
        log.error("the disk is full: the reserve was released so that what is owed can be drained")
        return True

    def _make_reserve(self) -> None:
        descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._reserve)
        except OSError as error:
            if not is_no_room(error):
                raise
            # Others took the room between our look and now; the next check tries again.
            log.warning("no room for the reserve: %s", error)
            self._path.unlink()
        finally:
            os.close(descriptor)
