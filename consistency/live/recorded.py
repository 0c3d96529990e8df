"""What a live check has found already, read from its journal while it goes on, or when it does not run.

Windows that it has not judged yet are not told, and of those it has, what it kept: counts of all, findings of some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import msgspec
import orjson

from consistency.classes import MISMATCHES, Class
from consistency.compare import Counts
from consistency.judge import Judged
from consistency.live.journal import Found, State
from consistency.report import Report, iso
from consistency.rows import Span

MOST_BEHIND: Final = 60 * 1_000_000_000
"""Nanoseconds, beside two windows, that a check may be behind as long as all is well: stores show their rows late."""


class NothingRecorded(Exception):
    """There is no journal, or none that can be read; the text says why."""


class Recorded(NamedTuple):
    """findings: as reports tell them, mismatches first, each class in order of time; untold: how many more there are;
    judged_until: nanoseconds, every window before is judged.
    """

    findings: list[dict[str, Any]]
    untold: int
    judged_until: int


def recorded(
    file: Path, report: Report, is_wanted: Callable[[dict[str, Any]], bool] = lambda _: True, *, limit: int
) -> Recorded:
    """Fill a report of a span from a journal. is_wanted: which findings; limit: how many of them. Raises
    NothingRecorded.
    """
    if not file.exists():
        raise NothingRecorded(f"there is no {file}: the checker of a running instance has not begun")
    try:
        with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            db.set_busy_timeout(2000)
            db.execute("BEGIN")  # one moment of it
            return _read(db, report, is_wanted, limit)
    except (apsw.Error, msgspec.DecodeError, ValueError) as error:
        raise NothingRecorded(f"{file}: {error}") from None


def copied_by(file: Path) -> Callable[[Span], bool]:
    """Whether every event of a span was owed to both sides, by a journal. True for what was before it, and without one:
    nothing is known of that. Raises NothingRecorded for a file that cannot be read.
    """
    if not file.exists():
        return lambda _: True
    try:
        with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            db.set_busy_timeout(2000)
            state = _state(db)
    except (apsw.Error, msgspec.DecodeError, ValueError) as error:
        raise NothingRecorded(f"{file}: {error}") from None
    return lambda span: state is None or span.start < state.begin or state.was_copied(span)


def _state(db: apsw.Connection) -> State | None:
    states = db.execute("SELECT said FROM state").fetchall()
    return msgspec.json.decode(str(states[0][0]), type=State) if states else None


def _read(db: apsw.Connection, report: Report, is_wanted: Callable[[dict[str, Any]], bool], limit: int) -> Recorded:
    span = report.span
    within = (span.start, span.end)
    for start, until, found in db.execute(
        "SELECT start, until, found FROM judged WHERE until > ? AND start < ?", within
    ):
        report.add(_judged(Span(int(start), int(until)), msgspec.json.decode(str(found), type=Found)))
    for (start,) in db.execute("SELECT start FROM reopened WHERE start >= ? AND start < ?", within):
        report.fail_to_read(Span(int(start), int(start)), "an event of it came later: it is to be judged once more")
    state = _state(db)
    if state is None:
        raise NothingRecorded("the live checker has not begun")
    if span.start < state.begin:
        report.fail_to_read(Span(span.start, state.begin), f"the live checker began at {iso(state.begin)}")
    if state.cursor < span.end - MOST_BEHIND - 2 * state.size:
        report.fail_to_read(
            Span(max(state.cursor, span.start + 1), span.end), f"judged until {iso(state.cursor)} alone"
        )
    told: list[dict[str, Any]] = []
    untold = 0
    for (said,) in db.execute(
        "SELECT said FROM finding WHERE home IN (SELECT start FROM judged WHERE until > ? AND start < ?) "
        "ORDER BY class NOT IN (SELECT value FROM json_each(?)), class, at",
        (*within, orjson.dumps(sorted(MISMATCHES)).decode()),
    ):
        finding: dict[str, Any] = orjson.loads(str(said))
        if not is_wanted(finding):
            continue
        if len(told) < limit:
            told.append(finding)
        else:
            untold += 1
    return Recorded(told, untold, state.cursor)


def _judged(window: Span, found: Found) -> Judged:
    counts = Counts()
    counts.classes = Counter({Class(kind): number for kind, number in found.classes.items()})
    counts.fields, counts.tolerated = Counter(found.fields), Counter(found.tolerated)
    counts.enriched = found.enriched
    return Judged(window, counts, latest=found.latest)
