"""The disk that the record lies on: is it one, how soon does it keep what it is told, and how much room is there?"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from config.model import Settings
from proxy.control.doctor.finding import DISK, Finding, fail, judged, ok, size_text, warn

_MOUNTS: Final = Path("/proc/self/mountinfo")
_TRIES: Final = 8
_BLOCK: Final = b"\0" * 4096
_FSYNC: Final = (0.020, 0.250)
"""Seconds: clients of a stalled copy wait for one, and workers count a ledger as hanging after seconds."""
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})
_OVER_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"})


def look(settings: Settings, root: Path) -> list[Finding]:
    """All of it. root: the state directory, which may not be there yet. Blocks: to be called in a thread."""
    folder = root if root.is_dir() else next(each for each in root.parents if each.is_dir())
    return [fsync(folder), room(settings, folder), kind(folder, _MOUNTS.read_text())]


def room(settings: Settings, directory: Path) -> Finding:
    """Free room, beside what the ledger keeps free and its reserve."""
    ledger = settings.ledger
    try:
        status = os.statvfs(directory)
    except OSError as error:
        return fail(DISK, "room", f"{directory}: {error.strerror}", "make state_dir, or let this user reach it")
    free = status.f_bavail * status.f_frsize
    seen = f"{size_text(free)} free in {directory}"
    wanted = ledger.min_free + ledger.reserve
    if free < ledger.min_free:
        return fail(
            DISK, "room", seen, f"below ledger.min_free ({size_text(ledger.min_free)}): events get 503; free it"
        )
    if free < 4 * wanted:
        return warn(
            DISK, "room", seen, "a backlog of an hour may not fit: free some, or put state_dir on a larger disk"
        )
    return ok(DISK, "room", seen)


def kind(directory: Path, mounts: str) -> Finding:
    """What sort of file system it is. mounts: /proc/self/mountinfo."""
    found = file_system(directory, mounts)
    if found in _VOLATILE:
        what = "what is in it is gone with the machine or its container"
        return warn(DISK, "file system", f"{found}: {what}", "put state_dir on a volume: the record is to outlive both")
    if found in _OVER_NETWORK:
        seen = f"{found}, over the network"
        return warn(DISK, "file system", seen, "put state_dir on a local disk: locks and fsync depend on that server")
    return ok(DISK, "file system", found or "not known")


def file_system(directory: Path, mounts: str) -> str:
    """The type of the file system that a directory is on; empty where that is not known."""
    path, best, kind = os.path.realpath(directory), "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        if len(words) < 5 or not after:
            continue
        point = words[4].encode().decode("unicode_escape")
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def fsync(directory: Path) -> Finding:
    """How long a small write takes until it is safe. Blocks: to be called in a thread."""
    try:
        times = _timed(directory)
    except OSError as error:
        seen = f"{directory} cannot be written: {error.strerror}"
        return fail(DISK, "fsync", seen, "let the user of the instance write in state_dir; nothing can be recorded")
    median, worst = times[len(times) // 2], times[-1]
    seen = f"{median * 1000:.1f} ms, {worst * 1000:.1f} ms at worst"
    advice = "answers that wait for the record wait for this: put state_dir on a faster disk, away from who writes much"
    return judged(DISK, "fsync", median, _FSYNC, seen, advice)


def _timed(directory: Path) -> list[float]:
    """Seconds of each try, the shortest first."""
    descriptor, name = tempfile.mkstemp(prefix=".doctor-", dir=directory)
    try:
        times = []
        for _ in range(_TRIES):
            begun = time.monotonic()
            os.write(descriptor, _BLOCK)
            os.fsync(descriptor)
            times.append(time.monotonic() - begun)
        return sorted(times)
    finally:
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(name)
