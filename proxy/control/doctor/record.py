"""The ledger: its files as they lie on the disk, and what its process says of itself."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw

from config.model import Settings
from proxy.control.doctor.finding import RECORD, Finding, fail, judged, ok, size_text, warn
from proxy.control.link import LedgerStats
from proxy.control.places import Places
from proxy.control.salt import check_salt
from proxy.core.errors import RefuseToStart
from proxy.core.event import SIDES
from proxy.core.owed import STATE_NAMES

QUICK: Final = 3.0
"""Seconds for the look into all segments; those for which there is no time are left out, and that is said."""
_WAL: Final = (256 * 2**20, 2**30)
"""Bytes of a log that was not brought into its file."""
_COMMIT: Final = (0.1, 1.0)
"""Seconds."""
_OLD: Final = (60.0, 3600.0)
"""Seconds that the oldest event may wait for a backend."""
_HEADER: Final = 100
_RESTORE: Final = "stop the instance, keep its files, restore this one from a backup, and report it"


def files(settings: Settings, places: Places) -> list[Finding]:
    """The files, looked at from outside, whether an instance runs or not. Blocks: to be called in a thread."""
    if not places.ledger.is_dir():
        return [ok(RECORD, "segments", "none yet: no instance ran in this state_dir")]
    segments = sorted(places.ledger.glob("segment-*.db"))
    found = [_salt(settings, places), *_logs(segments)]
    if settings.ledger.reserve:
        found.append(_reserve(settings, places.ledger / "reserve"))
    return [*found, _integrity(segments, time.monotonic() + QUICK)]


def is_running(places: Places) -> bool:
    """Does an instance hold this state directory?"""
    try:
        descriptor = os.open(places.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _salt(settings: Settings, places: Places) -> Finding:
    name = "salt"
    if not places.salt.exists():
        return warn(RECORD, name, f"{places.salt} is missing", "give the state_dir back as it was, with all its files")
    try:
        check_salt(places.salt, settings.salt)
    except RefuseToStart as refusal:
        return fail(RECORD, name, "not the one of this record", str(refusal))
    return ok(RECORD, name, "the one that this record was begun with")


def _logs(segments: Sequence[Path]) -> list[Finding]:
    """How much of the record is not in its files yet: after a crash it is read at the start."""
    sizes = {path.name: _size(path.with_name(f"{path.name}-wal")) for path in segments}
    total = sum(_size(path) for path in segments) + sum(sizes.values())
    found = [ok(RECORD, "segments", f"{len(segments)}, {size_text(total)}")]
    if sizes:
        worst = max(sizes, key=lambda name: sizes[name])
        advice = "checkpoints do not keep up: put state_dir on a faster disk, and look at the ledger's log"
        seen = f"{size_text(sizes[worst])} beside {worst}"
        found.append(judged(RECORD, "log not in its file", sizes[worst], _WAL, seen, advice))
    return found


def _reserve(settings: Settings, path: Path) -> Finding:
    wanted, name = settings.ledger.reserve, "reserve"
    try:
        held = os.stat(path).st_blocks * 512
    except OSError:
        held = 0
    if held < wanted:
        seen = f"{size_text(held)} of {size_text(wanted)}"
        return warn(RECORD, name, seen, "it was given back to a full disk, or the disk was never that empty: free some")
    return ok(RECORD, name, size_text(wanted))


def _integrity(segments: Sequence[Path], deadline: float) -> Finding:
    """The newest first: what is wrong is found where most is written."""
    name, looked = "integrity", 0
    for path in reversed(segments):
        if time.monotonic() >= deadline:
            break
        trouble = _trouble(path, deadline)
        if trouble is None:
            break
        if trouble:
            return fail(RECORD, name, f"{path.name}: {trouble}", _RESTORE)
        looked += 1
    left = f", {len(segments) - looked} not looked at for want of time" if looked < len(segments) else ""
    return ok(RECORD, name, f"{looked} segments are sound{left}")


def _trouble(path: Path, deadline: float) -> str | None:
    """What is wrong with a segment, or empty; None when there was no time to say."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
        if len(header) < _HEADER or not header.startswith(b"SQLite format 3\0"):
            return "it is no segment (foreign, empty or damaged)"
        (pages,) = struct.unpack_from(">I", header, 28)
        size = struct.unpack_from(">H", header, 16)[0]
        if _size(path) < pages * (65536 if size == 1 else size) and not path.with_name(f"{path.name}-wal").exists():
            return "it is truncated"
        has_log = _size(path.with_name(f"{path.name}-wal")) > 0
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as db:
            # Only its ledger brings a log into the file, not we because we looked last. Without a log there
            # is nothing to bring, and what we made of one goes when we close.
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(has_log))
            db.set_busy_timeout(500)
            db.execute("PRAGMA query_only = ON")
            db.set_progress_handler(lambda: time.monotonic() >= deadline, 10_000)
            said = db.execute("PRAGMA quick_check(1)").get
    except apsw.InterruptError:
        return None
    except (OSError, apsw.Error) as error:
        return str(error)
    return "" if said == "ok" else str(said)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def process(stats: LedgerStats | None) -> list[Finding]:
    """What the ledger's process says."""
    if stats is None:
        advice = "the launcher starts it again; its log says why it ended"
        return [fail(RECORD, "process", "not there: events that need it get 503", advice)]
    unsound = [f"{side.route} {SIDES[side.side]}" for side in stats.sides if not _is_sound(side.balance)]
    found = [
        fail(RECORD, "balance", f"does not add up: {', '.join(unsound)}", "keep its files and report this")
        if unsound
        else ok(RECORD, "balance", "every event is accounted for"),
        judged(
            RECORD,
            "commits",
            stats.commit_p99,
            _COMMIT,
            f"p99 {stats.commit_p99 * 1000:.0f} ms",
            "answers that wait for the record wait for this: put state_dir on a faster disk",
        ),
    ]
    if stats.low_disk:
        found.append(fail(RECORD, "room", "the disk is nearly full: new events get 503", "free some; draining goes on"))
    if stats.gaps:
        advice = "a crash lost what was not on disk: proxyctl verify over that time; ledger status has the times"
        found.append(warn(RECORD, "gaps", f"{stats.gaps} times of which the record does not know everything", advice))
    for side in stats.sides:
        found += _side(f"{side.route} to {SIDES[side.side]}", side.balance, side.paused, side.oldest_pending_age)
    return found


def _side(name: str, balance: dict[str, int], paused: str, oldest: float) -> list[Finding]:
    found = []
    if paused:
        advice = "mend that backend's address or our credential for it (authorization): it goes on by itself"
        found.append(fail(RECORD, name, f"deliveries are paused: {paused}", advice))
    if balance.get("pending", 0):
        seen = f"{balance['pending']:,} events wait, the oldest for {oldest:.0f} s"
        advice = "proxyctl status says why that backend takes nothing"
        found.append(judged(RECORD, f"backlog of {name}", oldest, _OLD, seen, advice))
    if balance.get("dead", 0):
        advice = "proxyctl dead ls, then requeue or discard"
        found.append(warn(RECORD, f"dead letters of {name}", f"{balance['dead']:,}", advice))
    return found


def _is_sound(balance: dict[str, int]) -> bool:
    return balance.get("owed", 0) == sum(balance.get(name, 0) for name in STATE_NAMES[1:])
