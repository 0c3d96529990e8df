"""The file of past figures: `figures.db` in the state directory, bounded in time and size.

    counted now --since(base)--> 10 s --merged--> the row of each tier that it falls into      one transaction
                                                  base := counted now

Thinning is done by writing: each tier has rows of its own width, so what is old goes by being deleted alone, and only
while the wall clock is believed (`proxy.core.walltime`): one that was wrong for a moment must not take a month along.
The base, which is what was counted up to the last row, is in the file, too: whoever goes on after a kill counts nothing
twice, as far as the account itself is whole. Nothing here may be called on an event loop.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from math import ceil
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import msgspec

from proxy.control.figures import Figures
from proxy.core.walltime import PACE, SURE, WallTime

log = logging.getLogger(__name__)


class Tier(NamedTuple):
    """Rows of `step` seconds are kept for `keep` seconds."""

    step: int
    keep: int


EVERY: Final = 10
"""Seconds of the finest rows."""
TIERS: Final = (Tier(EVERY, 86_400), Tier(60, 30 * 86_400), Tier(900, 30 * 86_400))
"""The last one makes a month quick to read."""
MOST_BYTES: Final = 512 * 2**20
"""Of the file; the oldest rows go first."""
MOST_ROWS: Final = 5000
"""That one reading adds up; a longer span is read from wider rows, so it gets fewer points than were asked for."""
BREATH: Final = 1e-5
"""Seconds in which a reader lets go of the interpreter after some rows: the event loop has more urgent work."""
_BREATH_EVERY: Final = 4
_VERSION: Final = 1
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS figures (
    step INTEGER NOT NULL, route TEXT NOT NULL, start INTEGER NOT NULL, said BLOB NOT NULL,
    UNIQUE (step, route, start));
CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), believed REAL NOT NULL);
CREATE TABLE IF NOT EXISTS base (route TEXT PRIMARY KEY, said BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
_decoder: Final = msgspec.msgpack.Decoder(Figures)


class _Foreign(Exception):
    """The file is not ours."""


_DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError, msgspec.DecodeError, _Foreign)


class Unreadable(Exception):
    """The file cannot be read now; the text says why."""


class Read(NamedTuple):
    """began: when the route's oldest row starts, None without one; width: seconds of each row; rows: by their start."""

    began: int | None
    width: int
    rows: list[tuple[int, Figures]]


class FiguresFile:
    """The one who writes it. It is opened by the first write, and again after one that failed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.put_aside = 0
        """How often a damaged file was."""
        self._db: apsw.Connection | None = None
        self._is_checked = False
        self._time: WallTime | None = None
        """What is known of the wall clock; None before the file was opened."""

    def keep(self, at: float, seconds: float, counted: Mapping[str, Figures], first: Mapping[str, Figures]) -> None:
        """Add what was counted in the last `seconds`, until `at` (seconds since 1970).

        counted: by route, since the first start; first: the same, for a route that the file does not know.
        A damaged file is put aside and begun anew. Raises apsw.Error or OSError; nothing was written then, and the next
        call adds it all.
        """
        try:
            try:
                self._keep(at, seconds, counted, first)
            except _DAMAGED as error:
                self._put_aside(error)
                self._keep(at, seconds, counted, first)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            with suppress(apsw.Error):
                self._db.close()
            self._db = None

    def _keep(self, at: float, seconds: float, counted: Mapping[str, Figures], first: Mapping[str, Figures]) -> None:
        if self._db is None:
            self._db = _connect(self.path, is_checked=self._is_checked)
            self._is_checked = True
        db = self._db
        before = self._time or WallTime(_believed(db))
        after = before.after(at, seconds)
        with db:
            if after.is_believed:
                db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (at,))
                if not before.is_believed:
                    _sweep(db, at)
            for route, total in counted.items():
                base = _one(db, "SELECT said FROM base WHERE route = ?", route) or first.get(route, total)
                for tier in TIERS:
                    _add(db, tier, route, at, total.since(base, seconds), is_believed=after.is_believed)
                if total.mismatches is None:
                    total = msgspec.structs.replace(total, mismatches=base.mismatches)  # noqa: PLW2901 - as it is kept
                db.execute("INSERT OR REPLACE INTO base VALUES (?, ?)", (route, msgspec.msgpack.encode(total)))
            _bound(db)
        self._time = after
        if not after.is_believed and (before.is_believed or before.last is None):
            _say_doubt(at - seconds - (before.last or before.believed or 0.0))

    def _put_aside(self, error: Exception) -> None:
        self.close()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        log.error("%s cannot be used (%s): it is put aside as %s, and begun anew", self.path, error, aside.name)
        self.put_aside += 1
        self._is_checked = False
        self._time = None
        self.path.replace(aside)
        for name in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(f"{self.path.name}{name}").unlink()


def read(path: Path, route: str, since: float, until: float, points: int, now: float) -> Read:
    """At most so many rows of a span, added up where there are more. since, until, now: seconds since 1970.

    Raises Unreadable.
    """
    if not path.exists():
        return Read(None, EVERY, [])
    tier, width = _fitting(since, until, points, now)
    begin = int(since // tier.step) * tier.step
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            db.set_busy_timeout(2000)
            db.execute("BEGIN")  # one moment of it
            rows: dict[int, Figures] = {}
            found = db.execute(
                "SELECT start, said FROM figures WHERE step = ? AND route = ? AND start >= ? AND start < ? "
                "ORDER BY start",
                (tier.step, route, begin, until),
            )
            for number, (start, said) in enumerate(found):
                if number % _BREATH_EVERY == 0:
                    time.sleep(BREATH)
                at = begin + (int(start) - begin) // width * width
                figures = _decoded(said)
                rows[at] = rows[at].merged(figures) if at in rows else figures
            began = _began(db, route)
    except (apsw.Error, msgspec.DecodeError) as error:
        raise Unreadable(f"{path}: {error}") from None
    return Read(began, width, list(rows.items()))


def last_sent(path: Path, route: str, side: int) -> tuple[int | None, int | None]:
    """When a side of a route was sent an event last, as the end of the row that tells so, None where no row does; and
    when the route's oldest row starts. Seconds since 1970. Raises Unreadable.
    """
    if not path.exists():
        return None, None
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            db.set_busy_timeout(2000)
            db.execute("BEGIN")
            began = _began(db, route)
            for tier in (TIERS[0], TIERS[-1]):
                rows = db.execute(
                    "SELECT start, said FROM figures WHERE step = ? AND route = ? ORDER BY start DESC",
                    (tier.step, route),
                )
                for number, (start, said) in enumerate(rows):
                    if number % _BREATH_EVERY == 0:
                        time.sleep(BREATH)
                    figures = _decoded(said).sides[side]
                    if figures.answers or figures.chosen or figures.body_bytes:
                        return int(start) + tier.step, began
            return None, began
    except (apsw.Error, msgspec.DecodeError) as error:
        raise Unreadable(f"{path}: {error}") from None


def _began(db: apsw.Connection, route: str) -> int | None:
    """By the finest rows, as long as they reach back as far as the others, which begin at full minutes."""
    query = "SELECT min(start) FROM figures WHERE step = ? AND route = ?"
    starts = [db.execute(query, (tier.step, route)).fetchall()[0][0] for tier in TIERS]
    known = [int(start) for start in starts if start is not None]
    if not known:
        return None
    is_young = starts[0] is not None and known[0] < min(known) + TIERS[-1].step
    return known[0] if is_young else min(known)


def _fitting(since: float, until: float, points: int, now: float) -> tuple[Tier, int]:
    """The tier to read, and how wide its rows are to become: the coarsest that is fine enough."""
    span = until - since
    there = [tier for tier in TIERS if now - tier.keep <= since] or [TIERS[-1]]
    few = [tier for tier in there if span <= MOST_ROWS * tier.step] or [there[-1]]
    tier = max((each for each in few if each.step * points <= span), key=lambda each: each.step, default=few[0])
    return tier, max(1, ceil((until - since // tier.step * tier.step) / points / tier.step)) * tier.step


def _connect(path: Path, *, is_checked: bool) -> apsw.Connection:
    """is_checked: the whole file was read once; not again after each failure, for it takes as long as it is large."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(2000)
        version = db.pragma("user_version")
        if version not in (0, _VERSION):
            raise _Foreign(f"it is of version {version}, and this one writes {_VERSION}")
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "normal")
        if not is_checked and (found := db.pragma("quick_check", 1)) != "ok":
            raise apsw.CorruptError(str(found))
        with db:
            db.execute(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _one(db: apsw.Connection, query: str, *bindings: str | int) -> Figures | None:
    rows = db.execute(query, bindings).fetchall()
    return _decoded(rows[0][0]) if rows else None


def _decoded(said: object) -> Figures:
    """Raises msgspec.DecodeError."""
    if not isinstance(said, bytes):
        raise msgspec.DecodeError("a row holds no figures")
    return _decoder.decode(said)


def _believed(db: apsw.Connection) -> float | None:
    """The last time that was believed; of a file that does not say so, the one of its newest row."""
    for query in ("SELECT believed FROM clock", "SELECT max(start) FROM figures"):
        for (found,) in db.execute(query).fetchall():
            if isinstance(found, int | float):
                return float(found)
    return None


def _say_doubt(ahead: float) -> None:
    log.warning(
        "the clock is %+.0f s from what was expected: past figures are deleted by age again when it has run evenly for"
        " %g hours, or is back",
        ahead,
        SURE / 3600,
    )


def _sweep(db: apsw.Connection, at: float) -> None:
    """Delete what is too old, also of routes that are gone, and before it what a clock wrote that was ahead."""
    db.execute("DELETE FROM figures WHERE start > ?", (int(at + PACE),))
    for tier in TIERS:
        db.execute("DELETE FROM figures WHERE step = ? AND start < ?", (tier.step, int(at) - tier.keep))


def _add(db: apsw.Connection, tier: Tier, route: str, at: float, figures: Figures, *, is_believed: bool) -> None:
    """Into the row of this tier in which its middle lies; what is too old by now goes where the time is believed."""
    key = tier.step, route, int((at - EVERY / 2) // tier.step) * tier.step
    before = _one(db, "SELECT said FROM figures WHERE step = ? AND route = ? AND start = ?", *key)
    if before is not None:
        figures = before.merged(figures)
    db.execute("INSERT OR REPLACE INTO figures VALUES (?, ?, ?, ?)", (*key, msgspec.msgpack.encode(figures)))
    if is_believed:
        db.execute("DELETE FROM figures WHERE step = ? AND route = ? AND start < ?", (*key[:2], int(at) - tier.keep))


def _bound(db: apsw.Connection) -> None:
    """Delete the oldest tenth of the rows of a file that is too large; their pages are used again."""
    used = (db.pragma("page_count") - db.pragma("freelist_count")) * db.pragma("page_size")
    if used <= MOST_BYTES:
        return
    db.execute(
        "DELETE FROM figures WHERE rowid IN (SELECT rowid FROM figures ORDER BY start LIMIT "
        "(SELECT 1 + count(*) / 10 FROM figures))"
    )
