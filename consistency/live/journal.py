"""What a live check has to keep: which windows were judged, what was found in them, and the counts of it all.

    one file:   receipt, place     the ledger's index (`consistency.ledger`)
                judged, finding    reports of windows, for as long as they are kept
                reopened, stray    what has to be judged once more, and rows that belong to it
                acknowledged       when an event of a window was acknowledged last
                state              cursor, totals, trial

What belongs together is written in one transaction, so whoever goes on after a kill counts no window twice and leaves
none out: a window that was being judged begins anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec
import orjson

from config.consistency import Check
from consistency.classes import Class
from consistency.compare import Finding
from consistency.judge import YOUNG, Judged
from consistency.report import told
from consistency.rows import Key, Span
from consistency.shown import KEPT, small
from consistency.windows import Windows
from proxy.core.checked import Trial

MOST_COPIED: Final = 100
"""Spans of copied time that are remembered."""
SAMPLES: Final = 10
"""Findings of a trial that are told with a revert."""
MOST_FINDINGS: Final = 200_000
"""Findings that are kept of all windows, the newest; some 100 MiB."""
KEPT_FOR: Final = 30 * 86_400 * 1_000_000_000
"""Nanoseconds for which reports are kept after their window."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS judged (
    start INTEGER PRIMARY KEY, until INTEGER NOT NULL, at_ns INTEGER NOT NULL, found TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS finding (
    home INTEGER NOT NULL, at INTEGER NOT NULL, class TEXT NOT NULL, said TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS finding_of ON finding (home);
CREATE TABLE IF NOT EXISTS held (
    home INTEGER NOT NULL, identity TEXT NOT NULL, class TEXT NOT NULL, PRIMARY KEY (home, identity, class)
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reopened (start INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS acknowledged (start INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS stray (
    home INTEGER NOT NULL, identity TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (home, identity, at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), said TEXT NOT NULL);
"""


def journal_of(folder: Path, check: Check) -> Path:
    """Where a check has its file. folder: of all checks."""
    return folder / f"{check.routes[0]}.db"


class Found(msgspec.Struct):
    """The counts of one window. most: what was counted of it for the totals so far, which it may not take back."""

    classes: dict[str, int]
    fields: dict[str, int]
    tolerated: dict[str, int]
    enriched: int
    most: dict[str, int]
    settled: int
    further: int
    """The most settled identities, and mismatches of new beyond those that are named, that were counted of it."""
    latest: float = 0.0
    """See `judge.Judged`."""


class State(msgspec.Struct):
    """All that has to be known beside single windows. size, begin, cursor: of `Windows`, nanoseconds."""

    size: int
    begin: int
    cursor: int
    totals: dict[str, int] = {}
    checked: int = 0
    judged: int = 0
    trial: Trial = msgspec.field(default_factory=Trial)
    copied: list[tuple[int, int | None]] = []
    """Spans in which every event was owed to both sides, nanoseconds; None while it still is."""
    copy_epoch: int = 0
    """Of the routing that was known last."""

    def was_copied(self, span: Span) -> bool:
        """Whether every event of it was owed to both sides, for all that is known."""
        return any(since <= span.start and (until is None or span.end <= until) for since, until in self.copied)


class Journal:
    """The file of one check. Raises apsw.Error for one that is none of ours.

    size: of a window; begin: from when on events are judged, for a new file; horizon: see `Windows`; now: nanoseconds.
    A file with windows of another size goes on where that ended.
    """

    def __init__(self, path: Path, *, size: int, begin: int, horizon: int) -> None:
        self._saw_routing = False
        self.db = apsw.Connection(str(path))
        self.db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
        self.db.set_busy_timeout(2000)
        self.db.execute(_SCHEMA)
        self.state = self._load() or State(size, begin, begin)
        if self.state.size != size:
            self._change_size(size)
        behind = self.db.execute("SELECT start FROM judged WHERE start >= ?", (self.state.cursor,))
        self.windows = Windows(
            size=size,
            begin=self.state.begin,
            horizon=horizon,
            cursor=self.state.cursor,
            judged=[start for (start,) in behind],
            reopened=[start for (start,) in self.db.execute("SELECT start FROM reopened")],
            acknowledged=dict(self.db.execute("SELECT start, at_ns FROM acknowledged")),
        )
        with self.db:
            self._write()

    def _change_size(self, size: int) -> None:
        """What is judged already stays, as far as new windows end where old ones did; the rest is judged anew."""
        start = self.state.cursor = max(self.state.begin, self.state.cursor - self.state.cursor % size)
        self.state.size = size
        with self.db:
            self.db.execute("DELETE FROM reopened; DELETE FROM stray; DELETE FROM acknowledged")
            self.db.execute("DELETE FROM judged WHERE start >= ?", (start,))
            self.db.execute("DELETE FROM finding WHERE home >= ?", (start,))

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    # --- windows -------------------------------------------------------------------------------------------

    def note(self, at: Sequence[int], now: int) -> None:
        """Events of these times turned up, or were acknowledged since. Call it in a transaction of `db`."""
        windows = self.windows
        for start in {windows.of(each).start for each in at if each >= windows.begin}:
            windows.acknowledge(start, now)
            self.db.execute("INSERT OR REPLACE INTO acknowledged VALUES (?, ?)", (start, now))
            self._reopen(start, now)

    def _reopen(self, start: int, now: int) -> None:
        self.windows.reopen(start, now)
        if start in self.windows.reopened:
            self.db.execute("INSERT OR IGNORE INTO reopened VALUES (?)", (start,))

    def strays(self, window: Span) -> list[Key]:
        """Rows of this window that lie in others."""
        rows = self.db.execute("SELECT identity, at FROM stray WHERE home = ?", (window.start,))
        return [Key(identity, at) for identity, at in rows]

    def keep(self, judged: Judged, now: int) -> None:
        """What was found in a window that was taken; in the place of what was found in it before."""
        window = judged.window
        with self.db:
            for stray in judged.strays:
                self._note_stray(stray.home, stray.key, now)
            found = self._counted(judged)
            self.db.execute("DELETE FROM reopened WHERE start = ?", (window.start,))
            for start in self.windows.reopened:  # an event of it came while it was judged
                self.db.execute("INSERT OR IGNORE INTO reopened VALUES (?)", (start,))
            self.db.execute(
                "INSERT OR REPLACE INTO judged VALUES (?, ?, ?, ?)",
                (window.start, window.end, now, msgspec.json.encode(found).decode()),
            )
            self.db.execute("DELETE FROM finding WHERE home = ?", (window.start,))
            self.db.executemany(
                "INSERT INTO finding VALUES (?, ?, ?, ?)",
                [
                    (window.start, each.key.at, str(each.kind), orjson.dumps(told(small(each))).decode())
                    for each in judged.findings[:KEPT]
                ],
            )
            self.windows.judge(window)
            self.state.judged += 1
            self._write()

    def _note_stray(self, home: int, key: Key, now: int) -> None:
        if home < self.windows.begin:
            return  # nobody judges it
        start = self.windows.of(home).start
        is_new = not self.db.execute(
            "SELECT 1 FROM stray WHERE home = ? AND identity = ? AND at = ?", (start, key.identity, key.at)
        ).fetchall()
        if is_new:
            self.db.execute("INSERT INTO stray VALUES (?, ?, ?)", (start, key.identity, key.at))
            self._reopen(start, now)

    def prune(self, now: int) -> None:
        """Leave out what is past its time."""
        with self.db:
            # What was held against new matters while a window may be judged once more.
            last = min(now - self.windows.horizon - self.windows.size, *self.windows.reopened, self.windows.cursor)
            self.db.execute("DELETE FROM held WHERE home < ?", (last,))
            for table, column in (("judged", "start"), ("finding", "home"), ("stray", "home")):
                before = min(now - KEPT_FOR, self.windows.cursor)
                self.db.execute(f"DELETE FROM {table} WHERE {column} < ?", (before,))  # noqa: S608 - our own names
            self.windows.forget(now - YOUNG, now)
            self.db.execute("DELETE FROM acknowledged WHERE NOT at_ns BETWEEN ? AND ?", (now - YOUNG, now))
            newest = "(SELECT max(rowid) FROM finding)"
            self.db.execute(f"DELETE FROM finding WHERE rowid <= {newest} - ?", (MOST_FINDINGS,))  # noqa: S608 - ours

    # --- counts --------------------------------------------------------------------------------------------

    def _counted(self, judged: Judged) -> Found:
        """Add to totals and trial what a window has more than was counted of it already: neither ever falls."""
        counts = judged.counts
        classes = {str(kind): number for kind, number in counts.classes.items() if number}
        before = self.found(judged.window)
        most = before.most if before is not None else {}
        more = {name: max(0, number - most.get(name, 0)) for name, number in classes.items()}
        self.state.totals = dict(Counter(self.state.totals) + Counter(more))
        trial = self.state.trial
        settled = max(0, counts.settled - (before.settled if before is not None else 0))
        self.state.checked += settled
        trial.settled += settled
        against = [each for each in judged.findings if each.is_against_new]
        news = self._news(judged.window, against)
        # Of more than are named, only how many more there are than ever before.
        further = max(0, judged.against_new - KEPT - (before.further if before is not None else 0))
        trial.mismatches += len(news) + further
        trial.lost += sum(each.kind is Class.LOST for each in news)
        trial.samples = (trial.samples + [told(small(each)) for each in news])[:SAMPLES]
        return Found(
            classes=classes,
            fields=dict(counts.fields),
            tolerated=dict(counts.tolerated),
            enriched=counts.enriched,
            most={name: max(classes.get(name, 0), most.get(name, 0)) for name in classes.keys() | most.keys()},
            settled=max(counts.settled, before.settled if before is not None else 0),
            further=max(0, judged.against_new - KEPT, before.further if before is not None else 0),
            latest=judged.latest,
        )

    def _news(self, window: Span, against: list[Finding]) -> list[Finding]:
        """Those of the first KEPT that were not held against new in this window before, however often it was judged.

        Several may bear one identity, as points of a series do: then so many of them are told apart by their number.
        """
        news = []
        seen: Counter[tuple[str, Class]] = Counter()
        for each in against[:KEPT]:
            name, number = each.key.identity, seen[each.key.identity, each.kind]
            seen[name, each.kind] += 1
            row = (window.start, f"{name}\n{number}" if number else name, str(each.kind))
            if not self.db.execute("SELECT 1 FROM held WHERE home = ? AND identity = ? AND class = ?", row).fetchall():
                self.db.execute("INSERT INTO held VALUES (?, ?, ?)", row)
                news.append(each)
        return news

    def found(self, window: Span) -> Found | None:
        """What was found in a window; None when it was not judged yet."""
        rows = self.db.execute("SELECT found FROM judged WHERE start = ?", (window.start,)).fetchall()
        return msgspec.json.decode(str(rows[0][0]), type=Found) if rows else None

    def begin_trial(self, epoch: int, weights: dict[str, float]) -> None:
        """The weight was changed: what comes now says something of this weight."""
        with self.db:
            self.state.trial = Trial(epoch, weights)
            self._write()

    def note_copy(self, is_copied: bool, epoch: int, now: int) -> None:
        """From now on every event is owed to both sides, or not every one. epoch: of the routing that says so."""
        state = self.state
        is_open = bool(state.copied) and state.copied[-1][1] is None
        # While nobody looked the routing changed: what was so meanwhile nobody knows.
        is_unsure = is_open and not self._saw_routing and epoch != state.copy_epoch
        self._saw_routing = True
        if is_open and (is_unsure or not is_copied):
            state.copied[-1] = (state.copied[-1][0], self.windows.cursor if is_unsure else now)
            is_open = False
        if is_copied and not is_open:
            state.copied = [*state.copied[-MOST_COPIED:], (now, None)]
        state.copy_epoch = epoch
        with self.db:
            self._write()

    # --- the file ------------------------------------------------------------------------------------------

    def _load(self) -> State | None:
        rows = self.db.execute("SELECT said FROM state").fetchall()
        return msgspec.json.decode(str(rows[0][0]), type=State) if rows else None

    def _write(self) -> None:
        """Call it in a transaction."""
        self.state.cursor = self.windows.cursor
        self.db.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (msgspec.json.encode(self.state).decode(),))
