"""The ledger's directory: segment files in a row, the newest of which takes new events.

    segment-00000001.db   seq 1..80,000        all settled: dropped whole when older than `retain`
    segment-00000002.db   seq 80,001..150,000  something pending, deferred or dead: stays
    segment-00000003.db   seq 150,001..        new events, streams, gaps, the balance of dropped segments

One thread uses the store. `segments` may be read from others: it is replaced, never changed, and a
segment's numbers only ever grow.
"""

# ruff: noqa: S608 - what is put into SQL text here are our own constants

from __future__ import annotations

import logging
import os
import re
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import orjson

from config.model import Ledger
from proxy.core.errors import RefuseToStart
from proxy.core.event import SIDES
from proxy.core.owed import DEAD, DEFERRED, PENDING, REFUSED, RELEASED
from proxy.ledger.checkpoint import Checkpoints
from proxy.ledger.group import Group, HeldRow, SideRow, StreamRow
from proxy.ledger.schema import OPEN_STATES, RECEIPT_COLUMNS, check_file
from proxy.ledger.segment import BalanceTable, Segment, add_counts, rows_of, unlink_segment

log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"segment-(\d{8})\.db")
_RELEASE_CHUNK: Final = 1000
"""Deferred events released in one transaction."""


def check_directory(directory: Path) -> None:
    """Refuse what this version cannot read of a ledger that another process may be writing; nothing is touched."""
    try:
        names = sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return
    except OSError as error:
        raise RefuseToStart(f"the ledger's directory {directory} cannot be used: {error}") from error
    for name in names:
        with suppress(FileNotFoundError):  # dropped meanwhile
            check_file(directory / name)


class Moved(NamedTuple):
    """What a move changed. seqs: at its side; partners: at the other side; with_partners: both sides were asked for."""

    seqs: list[int]
    partners: list[int]
    with_partners: bool


class Store:
    """All segments. Opening raises RefuseToStart for a file that is none of ours; nothing is overwritten.

    now_ns: wall clock in nanoseconds.
    """

    def __init__(self, directory: Path, settings: Ledger, now_ns: Callable[[], int]) -> None:
        self._directory = directory
        self._settings = settings
        self._now_ns = now_ns
        self.segments: tuple[Segment, ...] = ()
        self.checkpoints = Checkpoints()
        self._written: set[Segment] = set()
        """Segments whose connection has written something."""
        self._streams: dict[int, StreamRow] = {}
        self._carried: BalanceTable = {}
        self.was_clean = True
        """The ledger before this one was closed in order (or there was none)."""
        try:
            self._open()
        except apsw.Error as error:
            raise RefuseToStart(f"the ledger in {directory} is damaged ({error}); restore it from a backup") from error

    def _open(self) -> None:
        directory = self._directory
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            names = sorted(os.listdir(directory))
        except OSError as error:
            raise RefuseToStart(f"the ledger's directory {directory} cannot be used: {error}") from error
        numbers = [int(match[1]) for match in map(_NAME.fullmatch, names) if match]
        for name in names:
            if name.endswith(".new"):
                # Never became a segment: the ledger died while it made it.
                (directory / name).unlink()
        if not numbers:
            self.segments = (Segment.create(self._path(1), 1, 1, self._now_ns(), (), {}),)
            return
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise RefuseToStart(f"a segment between {numbers[0]} and {numbers[-1]} is missing in {directory}")
        newest = Segment.open(self._path(numbers[-1]), numbers[-1])
        dropped = newest.meta("dropped")
        older = []
        for number in numbers[:-1]:
            if number <= dropped:
                unlink_segment(self._path(number))
            else:
                older.append(Segment.open(self._path(number), number))
        self.segments = (*older, newest)
        self._carried = newest.carried()
        rows = newest.connection.execute(
            "SELECT json_group_array(json_array(id, name, worker, durable, last_ns, closed)) FROM stream"
        ).get
        self._streams = {row[0]: tuple(row) for row in orjson.loads(str(rows))}
        self.was_clean = bool(newest.meta("clean"))
        newest.set_meta("clean", 0)
        self._rest_connections()

    def _path(self, number: int) -> Path:
        return self._directory / f"segment-{number:08d}.db"

    @property
    def newest(self) -> Segment:
        """The segment that takes new events."""
        return self.segments[-1]

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self.newest.last_seq + 1

    # what was found at the start

    def streams(self) -> list[StreamRow]:
        """The streams that the newest segment knows, closed ones too: their workers may come back all the same."""
        return list(self._streams.values())

    @property
    def last_stream_id(self) -> int:
        """The highest stream id in the newest segment."""
        return max(self._streams, default=0)

    def held_rows(self) -> list[dict[str, Any]]:
        """Events that a worker was still working on, oldest first, by column name. Few: what was in flight."""
        rows: list[dict[str, Any]] = []
        for segment in self.segments:
            if segment.open_count(PENDING):
                rows += _entry_rows(segment, "held > 0")
        return rows

    def received_rows(self, window_ns: int) -> list[dict[str, Any]]:
        """Events that may be taken back, as those of `held_rows`: received in the last `window_ns` of any worker."""
        since = max((row[4] for row in self._streams.values()), default=0) - window_ns
        rows: list[dict[str, Any]] = []
        for segment in self.segments:
            if segment.received_ns < since:
                continue
            found = {row[0]: row for row in segment.received(since)}  # the last word counts
            seqs = orjson.dumps(list(found)).decode()
            for row in _entry_rows(segment, "seq IN (SELECT value FROM json_each(?))", seqs):
                _, row["received"], row["context"], row["body"] = found[row["seq"]]
                rows.append(row)
        return rows

    def pending_by_bucket(self) -> list[tuple[str, int, int, int]]:
        """(route, side, bucket, how many) of everything pending; counted in the index, no row is read."""
        return self._by_bucket(PENDING)

    def deferred_by_bucket(self) -> list[tuple[str, int, int, int]]:
        """The same of everything deferred."""
        return self._by_bucket(DEFERRED)

    def _by_bucket(self, state: int) -> list[tuple[str, int, int, int]]:
        rows: list[tuple[str, int, int, int]] = []
        for segment in self.segments:
            for side, name in enumerate(("old", "new")):
                if any(counts[state] for (_, s), counts in segment.balance.items() if s == side):
                    text = segment.connection.execute(
                        "SELECT json_group_array(json_array(route, bucket, n)) FROM ("
                        f"SELECT route, bucket, count(*) AS n FROM receipt WHERE {name}_state IN {OPEN_STATES} "
                        f"AND {name}_state = {state} GROUP BY route, bucket)"
                    ).get
                    rows += [(route, side, bucket, n) for route, bucket, n in orjson.loads(str(text))]
        return rows

    # writing

    def commit(self, group: Group) -> None:
        """Make a group durable. Raises apsw.FullError when the disk is full: call again with the same group.

        Older segments come first. Should we die in between, the worker sends its frame again, and what
        it says about rows that are settled already changes nothing.
        """
        for segment, held, sides in self._by_segment(group):
            if segment.number not in group.applied:
                segment.apply(group, held, sides, newest=segment is self.newest)
                group.applied.add(segment.number)
                self._written.add(segment)
        for row in group.streams:
            self._streams[row[0]] = row
        for segment in self.segments[:-1]:
            if 0 < segment.received_ns < group.received_until_ns:
                segment.forget_received(group.received_until_ns)
                self._written.add(segment)

    def is_checkpoint_due(self) -> bool:
        """Is there something to be done about a log? To be asked between two commits."""
        return any(self.checkpoints.is_due(segment) for segment in tuple(self._written))

    def checkpoint(self) -> None:
        """Begin or end checkpoints of what was written; after a commit, when everybody was told of that.

        Raises as `Checkpoints.look`.
        """
        for segment in tuple(self._written):
            self.checkpoints.look(segment)

    def _by_segment(self, group: Group) -> list[tuple[Segment, list[HeldRow], tuple[list[SideRow], list[SideRow]]]]:
        newest = self.newest
        first = newest.first_seq
        if all(row[0] >= first for rows in (group.held, *group.sides) for row in rows):  # bodies come with sides
            return [(newest, group.held, group.sides)]
        parts: dict[int, tuple[list[HeldRow], tuple[list[SideRow], list[SideRow]]]] = {newest.number: ([], ([], []))}
        starts = [segment.first_seq for segment in self.segments]

        def part(seq: int) -> tuple[list[HeldRow], tuple[list[SideRow], list[SideRow]]]:
            segment = self.segments[bisect_right(starts, seq) - 1]
            return parts.setdefault(segment.number, ([], ([], [])))

        for row in group.held:
            part(row[0])[0].append(row)
        for side in (0, 1):
            for side_row in group.sides[side]:
                part(side_row[0])[1][side].append(side_row)
        return [(segment, *parts[segment.number]) for segment in self.segments if segment.number in parts]

    def move(self, side: int, seqs: list[int], before: int, after: int, done: Moved | None = None) -> list[int]:
        """Change the state of those of `seqs` that are in `before` and on which no worker works; which they were.

        done: what is moved is added to it, so that a call that is repeated after a full disk leaves out
        nothing; it also says which were moved at the other side, see `_partners`.
        """
        done = done or Moved([], [], with_partners=False)
        starts = [segment.first_seq for segment in self.segments]
        by_segment: dict[int, list[int]] = {}
        for seq in seqs:
            by_segment.setdefault(bisect_right(starts, seq) - 1, []).append(seq)
        name, other = SIDES[side], SIDES[1 - side]
        # A dead letter whose authority's is requeued too goes with that one: alone it would be discarded.
        follows = (
            f"after_authority AND authority = {1 - side} AND {other}_state = {DEAD}" if done.with_partners else "0"
        )
        for index, some in by_segment.items():
            segment = self.segments[index]
            rows = self._side_rows(segment, side, some, after, f"{name}_state = {before} AND NOT ({follows})")
            partners = self._partners(segment, side, rows, done) if (before, after) == (DEAD, PENDING) else []
            if rows:
                segment.move((rows, partners) if side == 0 else (partners, rows), keep=self._settings.retain_bodies)
                done.seqs.extend(row[0] for row in rows)
                done.partners.extend(row[0] for row in partners)
                self._written.add(segment)
                self.checkpoints.look(segment)
        self._rest_connections()
        return done.seqs

    def _partners(self, segment: Segment, side: int, rows: list[SideRow], done: Moved) -> list[SideRow]:
        """Other sides of authorities' dead letters that were settled with them: unsent, they go out after them."""
        other = SIDES[1 - side]
        states = f"{other}_state = {REFUSED} AND {other}_attempts = 0"
        if done.with_partners:
            states = f"({states} OR {other}_state = {DEAD})"
        which = f"after_authority AND authority = {side} AND {states}"
        return self._side_rows(segment, 1 - side, [row[0] for row in rows], PENDING, which)

    def _side_rows(self, segment: Segment, side: int, seqs: list[int], after: int, which: str) -> list[SideRow]:
        """What is to be written of one side of those of `seqs` that fit; attempts go on being counted."""
        name = SIDES[side]
        text = segment.connection.execute(
            f"SELECT json_group_array(json_array(seq, route, {name}_state, {after}, {name}_status, {name}_attempts, "
            "NULL, NULL, NULL)) "
            f"FROM receipt WHERE seq IN (SELECT value FROM json_each(?)) AND held = 0 AND {which}",
            (orjson.dumps(seqs).decode(),),
        ).get
        return [tuple(row) for row in orjson.loads(str(text))]

    # upkeep

    def is_due_to_roll(self) -> bool:
        """Is the newest segment large or old enough to be closed? An empty one never is."""
        newest = self.newest
        if newest.last_seq < newest.first_seq:
            return False
        age = (self._now_ns() - newest.created_ns) / 1e9
        return newest.size >= self._settings.segment_size or age >= self._settings.segment_age

    def roll(self) -> None:
        """Close the newest segment and begin the next. When it raises all is as before: no file is left of it."""
        before = self.newest
        goes_on = [row for row in self._streams.values() if not row[5]]
        number = before.number + 1
        young = Segment.create(self._path(number), number, self.next_seq, self._now_ns(), goes_on, self._carried)
        self._streams = {row[0]: row for row in goes_on}
        self.segments = (*self.segments, young)
        self._rest_connections()

    def drop_old(self) -> int:
        """Drop the oldest segments while they are past `retain` and nothing in them is open; how many."""
        limit = self._now_ns() - int(self._settings.retain * 1e9)
        count = 0
        while len(self.segments) > 1:
            oldest = self.segments[0]
            if oldest.newest_ns >= limit or oldest.received_ns or oldest.open_count(PENDING, DEFERRED, DEAD):
                break
            self.newest.add_carried(oldest.number, oldest.balance)
            self._carried = add_counts(self._carried, rows_of(oldest.balance))
            self.segments = self.segments[1:]
            self._close(oldest)
            unlink_segment(oldest.path)
            count += 1
        return count

    def release_deferred(self) -> int:
        """Release a chunk of the deferred events that are past `carry_over_for`; how many."""
        limit = self._now_ns() - int(self._settings.carry_over_for * 1e9)
        released = 0
        for segment in self.segments:
            if not segment.open_count(DEFERRED):
                continue
            for side, name in enumerate(("old", "new")):
                text = segment.connection.execute(
                    f"SELECT json_group_array(seq) FROM (SELECT seq FROM receipt WHERE {name}_state IN {OPEN_STATES} "
                    f"AND {name}_state = {DEFERRED} AND accepted_ns < ? AND held = 0 LIMIT {_RELEASE_CHUNK})",
                    (limit,),
                ).get
                released += len(self.move(side, orjson.loads(str(text)), DEFERRED, RELEASED))
            if released >= _RELEASE_CHUNK:
                break
        return released

    def _rest_connections(self) -> None:
        """Close the connections of old segments in which nothing can change any more."""
        for segment in self.segments[:-1]:
            if not segment.received_ns and not segment.open_count(PENDING, DEFERRED, DEAD):
                self._close(segment)

    def _close(self, segment: Segment) -> None:
        self._written.discard(segment)
        self.checkpoints.forget(segment)
        segment.close()

    # figures

    def balance(self) -> BalanceTable:
        """Counts by state for each (route, side), over all time."""
        table: BalanceTable = {}
        for part in (self._carried, *(segment.balance for segment in self.segments)):
            table = add_counts(table, rows_of(part))
        return table

    def size(self) -> int:
        """Bytes of all segments with their logs."""
        return sum(segment.size for segment in self.segments)

    @property
    def gaps(self) -> int:
        """How many coverage gaps the segments know of."""
        return sum(segment.gaps for segment in self.segments)

    @property
    def last_gap_ns(self) -> int:
        """Where the last of them ends, by the wall clock; 0 without one."""
        return max(segment.last_gap_ns for segment in self.segments)

    def close(self, *, clean: bool = True) -> None:
        """Close everything; clean: what was going on was ended in order."""
        try:
            for segment in self.segments:
                self.checkpoints.forget(segment)  # first: a ledger whose last pass failed is not a clean one
            if clean:
                self.newest.set_meta("clean", 1)
        finally:
            for segment in self.segments:
                segment.close()
            self.checkpoints.close()


def _entry_rows(segment: Segment, which: str, *values: apsw.SQLiteValue) -> list[dict[str, Any]]:
    """What an entry is made of, by column name, with its context and body where these are kept; by seq."""
    names = [name for name in RECEIPT_COLUMNS if name != "digest"]
    found = segment.connection.execute(
        f"SELECT {','.join(names)}, coalesce(context, x''), coalesce(body, x''), body IS NOT NULL "
        f"FROM receipt LEFT JOIN body USING (seq) WHERE {which} ORDER BY seq",
        values,
    )
    return [dict(zip((*names, "context", "body", "has_body"), row, strict=True)) for row in found]
