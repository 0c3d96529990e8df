"""What consumers were told: `fanout.db` in the state directory.

    states   the last state of each entity, by route: what get_states is answered with. The last one is that of the
             highest place in the record. One that is gone stays, without a value, while a side may still be told of
             an earlier one
    kept     by consumer, events whose receipt is younger than its `redeliver_window`: with its connection they may have
             been lost before they were processed, so its next one begins with them; tries: how often it died of this
             one alone
    clock    of which start of the machine the times in `kept` are: they are seconds of its monotonic clock, which all
             processes share and nobody sets


Written when a receipt comes, before the ledger hears of it, and not synced: a kill of any process loses nothing of it.
After a power cut the last rows may be missing, or the file is damaged and begun anew. The write-ahead log is brought
into the file in a thread, for that waits for the disk. Beside a writer a pass never copies all, and only a log of which
all was copied begins anew: what a pass has left of a long one is copied by the writer, which does not wait.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import apsw

from proxy.core.errors import RefuseToStart
from proxy.fanout.home_event import HomeEvent

log = logging.getLogger(__name__)

_VERSION: Final = 3
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS states (
    route TEXT NOT NULL, name TEXT NOT NULL, seq INTEGER NOT NULL, value BLOB,
    PRIMARY KEY (route, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gone ON states (route, seq) WHERE value IS NULL;
CREATE TABLE IF NOT EXISTS kept (
    n INTEGER PRIMARY KEY AUTOINCREMENT, consumer TEXT NOT NULL, at REAL NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL,
    body BLOB NOT NULL, tries INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS kept_by_consumer ON kept (consumer, n);
CREATE TABLE IF NOT EXISTS clock (boot TEXT NOT NULL);
PRAGMA user_version = {_VERSION};
"""
_LONG: Final = 2048
"""Pages in the log, of 4 KiB, from which on the writer sees to it that it begins anew."""
_SAY_STATE: Final = (
    "INSERT INTO states VALUES (?1, ?2, ?3, ?4) ON CONFLICT (route, name) DO UPDATE "
    "SET seq = ?3, value = ?4 WHERE seq <= ?3"
)
"""One side may be behind the other: what it is told late is not what is."""


class _Foreign(Exception):
    """The file is not ours."""


class Kept(NamedTuple):
    """An event that a consumer had a moment ago. n: its place in the order of receipts."""

    n: int
    type: str
    body: bytes


class Told:
    """The file, open. To be used by the ledger's process alone. Methods raise apsw.Error."""

    def __init__(self, path: Path, boot: str | None = None) -> None:
        self._path = path
        self._db = _open(path)
        self._set_clock(_boot() if boot is None else boot, monotonic())

    def _set_clock(self, boot: str, now: float) -> None:
        """Times of an earlier start of the machine say nothing now: what was kept then is kept anew."""
        try:
            with self._db:
                if self._db.execute("SELECT boot FROM clock").fetchall() != [(boot,)]:
                    self._db.execute("UPDATE kept SET at = ?", (now,))
                    self._db.execute("DELETE FROM clock")
                    self._db.execute("INSERT INTO clock VALUES (?)", (boot,))
                self._db.execute("UPDATE kept SET at = ?1 WHERE at > ?1", (now,))
        except apsw.FullError as error:
            log.error("what consumers had before the machine was started cannot be kept anew: %s", error)

    def received(self, consumer: str, route: str, events: Sequence[HomeEvent], at: float, *, keeps: bool) -> None:
        """A consumer has these events. at: monotonic seconds; keeps: they may have to be sent again."""
        with self._db:
            if keeps:
                self._db.executemany(
                    "INSERT INTO kept (consumer, at, id, type, body) VALUES (?, ?, ?, ?, ?)",
                    [(consumer, at, each.id, each.type, each.body) for each in events],
                )
            self._db.executemany(
                _SAY_STATE, [(route, each.state, each.seq, each.value) for each in events if each.state]
            )

    # states

    def begin_record(self, next_seq: int) -> None:
        """The record goes on with this place. What was said of later ones is of another record, and older than all."""
        self._db.execute("UPDATE states SET seq = 0 WHERE seq >= ?", (next_seq,))

    def forget_gone(self, route: str, before: int) -> None:
        """Nobody will be told of an event before this place any more."""
        self._db.execute("DELETE FROM states WHERE route = ? AND value IS NULL AND seq < ?", (route, before))

    def states(self, route: str) -> list[bytes]:
        """All states of a route that are not gone, by name."""
        query = "SELECT value FROM states WHERE route = ? AND value IS NOT NULL ORDER BY name"
        return [bytes(value) for (value,) in self._db.execute(query, (route,))]

    # what may have to be sent again

    def received_again(self, numbers: Iterable[int], at: float) -> None:
        """It has these kept events once more."""
        with self._db:
            self._db.executemany("UPDATE kept SET at = ? WHERE n = ?", [(at, n) for n in numbers])

    def died_of_first(self, consumer: str) -> None:
        """It was sent the first of its kept events alone, and died within the window."""
        query = "UPDATE kept SET tries = tries + 1 WHERE n = (SELECT min(n) FROM kept WHERE consumer = ?)"
        self._db.execute(query, (consumer,))

    def give_up(self, consumer: str, tries: int) -> list[str]:
        """Forget what a consumer has died of so many times; the ids of these events."""
        query = "DELETE FROM kept WHERE consumer = ? AND tries >= ? RETURNING id"
        return [str(found) for (found,) in self._db.execute(query, (consumer, tries))]

    def span(self, consumer: str) -> tuple[int, int, int]:
        """The first and the last kept event of a consumer, and how many there are; 0 without one."""
        query = "SELECT min(n), max(n), count(*) FROM kept WHERE consumer = ?"
        first, last, count = (int(str(found or 0)) for found in self._db.execute(query, (consumer,)).fetchall()[0])
        return first, last, count

    def kept(self, consumer: str, after: int, until: int, most: int) -> list[Kept]:
        """So many of a consumer's kept events at most, oldest first, behind `after` and up to `until`."""
        query = "SELECT n, type, body FROM kept WHERE consumer = ? AND n > ? AND n <= ? ORDER BY n LIMIT ?"
        return [Kept(*row) for row in self._db.execute(query, (consumer, after, until, most))]

    def lived_through(self, consumer: str, until: int) -> None:
        """A consumer has processed its kept events up to this one."""
        self._db.execute("DELETE FROM kept WHERE consumer = ? AND n <= ?", (consumer, until))

    def forget(self, consumer: str, before: float) -> None:
        """A consumer has processed what it received before this time, monotonic seconds."""
        self._db.execute("DELETE FROM kept WHERE consumer = ? AND at < ?", (consumer, before))

    # the file

    def checkpoint(self) -> bool:
        """Bring the write-ahead log into the file. Waits for the disk; to be called from another thread.

        True when the log is long: `end_log` is to be called, by who writes.
        """
        with closing(apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)) as db:
            db.set_busy_timeout(1000)
            return _copy_log(db) >= _LONG

    def end_log(self) -> None:
        """Copy what came during `checkpoint`, so that the log begins anew with the next write."""
        _copy_log(self._db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _boot() -> str:
    """Which start of the machine this is; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _copy_log(db: apsw.Connection) -> int:
    """As far as nobody reads it; how many pages the log has."""
    # The call of that name does not open the log itself.
    ((_, pages, _),) = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return int(str(pages))


def _open(path: Path) -> apsw.Connection:
    """A damaged file is put aside, and begun anew. Raises RefuseToStart where that is no help."""
    try:
        return _connect_or_begin_anew(path)
    except (apsw.Error, OSError) as error:
        raise RefuseToStart(f"what consumers were told cannot be read from {path}, nor begun anew: {error}") from None


def _connect_or_begin_anew(path: Path) -> apsw.Connection:
    try:
        return _connect(path)
    except (apsw.CorruptError, apsw.NotADBError, _Foreign) as error:
        aside = path.with_name(f"{path.name}.damaged")
        log.error("%s cannot be used (%s): it is put aside as %s, and begun anew", path, error, aside.name)
        path.replace(aside)
        for name in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(f"{path.name}{name}").unlink()
        return _connect(path)


def _connect(path: Path) -> apsw.Connection:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(1000)
        version = db.pragma("user_version")
        if version not in (0, _VERSION):
            raise _Foreign(f"it is of version {version}, and this one writes {_VERSION}")
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "off")
        db.pragma("wal_autocheckpoint", 0)
        if (found := db.pragma("integrity_check", 1)) != "ok":
            raise apsw.CorruptError(str(found))
        if version == 0:  # on a full disk one that is there can still be read
            with db:
                db.execute(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db
