"""The book: what the ledger knows of events that somebody still works on. Pure: no clock, no I/O.

    frames of workers --> Book --take()--> Group --store--> disk --committed()--> Book forgets what is settled
    outcomes of replays -->

An `Entry` lives from its frame until its worker has reported every side and that is durable. Sides in
the ledger's hands are the replayer's, who reads them from disk; so memory is bounded by what is in
flight, whatever the backlog.

    side of an entry:   held by its worker --(settled report)--> settled
                             |       \\--(PARKED)--> held, and backlog: the mark is set
                             |       \\--(RECEIVED)--> settled, but for the length of a window it may be taken back
                             \\--(HANDED, or the worker is gone)--> backlog: the replayer's

This is the hot path of the ledger: an event that two healthy sides got costs about 3 us in here (of 7 us
for the whole process), and its two reports take the short branch of `_take_reports`. Whatever is special
goes through `_report`. It is a long file because it is one owner of one state: entries, streams and
what the next group writes change together, and handing them around was the larger part of the cost.
What the next group leaves out is in `young`, how the rest becomes rows in `packing`, and what is kept
because it may be taken back in `windows`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from proxy.core.choose import BUCKETS
from proxy.core.dedupe import is_accepted
from proxy.core.event import NEW, OLD
from proxy.core.owed import DEFERRED, DELIVERED, DISCARDED, LOST, NOT_OWED, OPEN, PENDING, REFUSED, lets_follow
from proxy.core.routing import Routing
from proxy.ledger.arbiter import Arbiter
from proxy.ledger.backlog import Backlog
from proxy.ledger.carry import Carry, Due
from proxy.ledger.entry import IN_FLIGHT, NEW_ENTRY, ON_DISK, Entry, Stream
from proxy.ledger.group import Group, StreamRow
from proxy.ledger.observer import Observer
from proxy.ledger.packing import pack_changed, pack_new
from proxy.ledger.protocol import (
    ANSWERED,
    CLIENT_ID,
    HANDED,
    OWED,
    PARKED,
    RECEIVED,
    ROUTE,
    UNANSWERED,
    EventRow,
    LedgerFrame,
    Report,
)
from proxy.ledger.recall import InFlight
from proxy.ledger.turns import Place, Turns
from proxy.ledger.windows import MARGIN, Windows
from proxy.ledger.young import Young

_SETTLING: Final = frozenset({DELIVERED, REFUSED, DISCARDED, LOST})


class Book:
    """All entries and streams. turns: granted places are collected in `granted`.

    next_seq: the number of the next event; now_ns is given where it matters; windows: by route, nanoseconds for which
    what a backend received may be taken back.
    """

    def __init__(
        self, backlog: Backlog, observer: Observer, *, next_seq: int, retain_bodies: bool = False,
        arbiter: Arbiter | None = None, windows: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.windows = Windows(windows or {})
        self._now_ns = 0
        self.backlog = backlog
        self.observer = observer
        self.arbiter = arbiter
        """None when no route has a dedupe window."""
        self.carry = Carry(backlog)
        self.granted: list[Place] = []
        self.turns = Turns(self.granted.append)
        self.streams: dict[str, Stream] = {}
        self.by_id: dict[int, Stream] = {}
        self.on_disk: dict[int, Entry] = {}
        """Entries that are on disk (or being written), by seq."""
        self.counters: Counter[str] = Counter()
        self.uncommitted_bytes = 0
        self.next_seq = self._first_seq = next_seq
        self._retain_bodies = retain_bodies
        self._next_stream = 1
        self._new: list[Entry] = []
        self._young = Young()
        self._is_reading = False
        """Of the observer, when it was last asked."""
        self._halves = 0
        self._dirty: list[Entry] = []
        self._sides: tuple[dict[int, list[Any]], dict[int, list[Any]]] = ({}, {})
        self._streams_changed: set[int] = set()
        self._gaps: list[tuple[int, int, str]] = []
        self._answered: Counter[tuple[str, int]] = Counter()
        self._promises: list[tuple[Place, int]] = []
        """Outcomes that the record alone tells, for `arbiter` once they are on disk."""
        self.group_number = 0
        """Of the group taken last."""
        self.committed_number = 0
        """Of the group committed last."""

    # what a start finds on disk

    def restore(self, streams: Iterable[StreamRow], last_stream: int, held: Iterable[Mapping[str, Any]]) -> None:
        """Take over streams that may resume, and the events that their workers were on.

        They count as backlog and their marks are set, as for any pending row; but the replayer leaves
        them to their worker until `hand_over`.
        """
        self._next_stream = last_stream + 1
        for id, name, worker, durable, last_ns, closed in streams:
            stream = Stream(id, name, worker, durable)
            stream.last_ns = last_ns
            stream.closed = bool(closed)
            self.streams[name] = self.by_id[id] = stream
        for row in held:
            self._restore_held(self._restore_entry(row))

    def restore_received(self, rows: Iterable[Mapping[str, Any]], now_ns: int) -> None:
        """After `restore`: what may be taken back, should the worker say so, or not come back.

        Its window begins anew, for what a backend got from a connection that was lost with us is not known.
        """
        self._now_ns = now_ns
        for row in rows:
            stream, window = self.by_id.get(row["stream"]), self.windows.lengths.get(row["route"], 0)
            if stream is None or stream.closed or not window:
                continue
            entry = self.on_disk.get(row["seq"]) or self._restore_entry(row)
            entry.context, entry.body = row["context"], row["body"]
            entry.has_body = bool(row["has_body"])
            entry.received = sum(1 << s for s in (0, 1) if row["received"] >> s & 1 and entry.state(s) == DELIVERED)
            if not entry.received:
                continue
            stream.live[entry.n] = entry
            self._mark_received(entry)
            if not entry.held:
                self._begin_window(entry)

    def _restore_entry(self, row: Mapping[str, Any]) -> Entry:
        window = self.windows.lengths.get(row["route"], 0)
        context, body = (row["context"], row["body"]) if window else (b"", b"")
        entry = Entry(
            (
                row["n"], row["id"], row["route"], row["key"], row["bucket"], row["epoch"], row["authority"],
                row["owed"], 0, 0, bool(row["after_authority"]), row["accepted_ns"], row["transport"], context, body,
                "", (), False,
            ),
            row["seq"], row["stream"],
        )  # fmt: skip
        entry.held = row["held"]
        entry.old_state, entry.old_status, entry.old_attempts = row["old_state"], row["old_status"], row["old_attempts"]
        entry.new_state, entry.new_status, entry.new_attempts = row["new_state"], row["new_status"], row["new_attempts"]
        entry.stage, entry.special = ON_DISK, True
        entry.has_body = bool(row["has_body"])
        entry.on_disk = entry.old_state * 16 + entry.new_state
        entry.window = window
        for side in (0, 1):
            if entry.state(side) == PENDING:
                entry.backlog |= 1 << side
        return entry

    def _restore_held(self, entry: Entry) -> None:
        self.on_disk[entry.seq] = entry
        stream = self.by_id.get(entry.stream)
        if stream is None or stream.closed:
            # Its stream was closed before: nobody will report on it.
            self._hand_over(entry)
            return
        stream.live[entry.n] = entry
        entry.in_line = True
        self.turns.want(entry.route, entry.key, (entry.stream, entry.n))

    def restore_claims(self, arbiter: Arbiter, rows: Iterable[InFlight]) -> None:
        """After `restore`: the ids of the events among `held` that clients gave."""
        for row in rows:
            entry = self.on_disk[row.seq]
            place = (entry.stream, entry.n)
            arbiter.found(place, row.route, row.id, row.line, row.digest, row.accepted_ns)
            status = arbiter.verdict_of_record(entry)
            if status is not None:  # only its copy is still on its way, or nobody will report on it
                arbiter.answered(place, status)

    # streams

    def hello(self, name: str, worker: int) -> Stream:
        """A worker connects; the stream it continues or begins."""
        stream = self.streams.get(name)
        if stream is None:
            stream = Stream(self._next_stream, name, worker, 0)
            self._next_stream += 1
            self.streams[name] = self.by_id[stream.id] = stream
        stream.is_connected = stream.came_back = True
        stream.closed = False
        for entry in stream.live.values():
            if entry.received & entry.backlog:
                self._unmark(entry, entry.received & entry.backlog)
        # Frames that were received but not committed stay known by their number: sent again, they are ignored.
        self._streams_changed.add(stream.id)
        return stream

    def lost(self, stream: Stream) -> None:
        """Its connection ended: what it was on is backlog from now on, and turns pass on.

        The replayer waits for `hand_over`, so that a worker that only lost its connection goes on.
        """
        stream.is_connected = False
        for entry in stream.live.values():
            for side in (0, 1):
                if entry.held & (1 << side):
                    self._enter_backlog(entry, side)
            self._mark_received(entry)
            entry.parked = entry.held
            self._pass_turn(entry)

    def _mark_received(self, entry: Entry) -> None:
        """Its worker is away, and may not come back: nothing of its key is to go before what may be taken back."""
        for side in (0, 1):
            if entry.received & ~entry.backlog & (1 << side):
                entry.backlog |= 1 << side
                self.backlog.enter(entry.route, side, entry.bucket)

    def _unmark(self, entry: Entry, sides: int) -> None:
        """What these sides received is not waited for."""
        entry.backlog &= ~sides
        for side in (0, 1):
            if sides & 1 << side:
                self.backlog.leave(entry.route, side, entry.bucket)

    def hand_over(self, stream: Stream) -> None:
        """It did not come back: the ledger delivers what it was on."""
        for entry in list(stream.live.values()):
            self._hand_over(entry)
        if self.arbiter is not None:
            self._give_up_claims(self.arbiter, stream)

    def close(self, stream: Stream) -> None:
        """Its life ended, and everything it said is in the record."""
        stream.closed = True
        self._streams_changed.add(stream.id)

    def touch_streams(self) -> bool:
        """Note with the next group that connected streams are alive; is there one?"""
        alive = [stream.id for stream in self.streams.values() if stream.is_connected]
        self._streams_changed.update(alive)
        return bool(alive)

    def forget(self, stream: Stream) -> bool:
        """It has been away for long: do not wait for late reports of it. False: not yet, or it is back."""
        if stream.is_connected or stream.id in self._streams_changed or any(e.dirty for e in stream.live.values()):
            return False
        for entry in stream.live.values():
            self.on_disk.pop(entry.seq, None)
        del self.streams[stream.name], self.by_id[stream.id]
        return True

    def add_gap(self, from_ns: int, to_ns: int, reason: str) -> None:
        """Between these wall clock times the record may be incomplete."""
        self._gaps.append((from_ns, to_ns, reason))

    def _hand_over(self, entry: Entry) -> None:
        for side in (0, 1):
            if entry.held & (1 << side):
                if entry.state(side) == PENDING:  # it may have gone out: the next try is not the first
                    self._set_status(entry, side, 0, attempts=1)
                self._hand(entry, side)
            elif entry.received & (1 << side):
                self._take_back(entry, side)
        self._pass_turn(entry)

    # frames

    def take_frame(self, stream: Stream, frame: LedgerFrame) -> None:
        """Take what a worker says. Raises ValueError for a frame that cannot be: a gap, or an unknown code."""
        if frame.number <= stream.received:
            self.counters["duplicate_frames"] += 1
            return
        if frame.number != stream.received + 1:
            raise ValueError(f"frame {frame.number} after frame {stream.received}")
        stream.received = frame.number
        self._streams_changed.add(stream.id)
        if frame.events:
            self._young.said(len(self._new), stream, frame.number)
            self._take_events(stream, frame.events)
            if self.arbiter is not None:
                self._recorded(self.arbiter, stream, frame.events)
        if frame.turns:
            for n in frame.turns:
                self._want_turn(stream, n)
        if frame.reports:
            self._take_reports(stream, frame.reports)
        if frame.answers and self.arbiter is not None:
            self._take_answers(self.arbiter, stream, frame.answers)

    def _take_events(self, stream: Stream, events: list[EventRow]) -> None:
        seq = self.next_seq
        live = stream.live
        stream_id = stream.id
        size = 0
        new, windows = self._new, self.windows.lengths
        context = b""
        for row in events:
            entry = Entry(row, seq, stream_id)
            seq += 1
            if entry.context:
                context = entry.context
            else:
                entry.context = context
            live[entry.n] = entry
            new.append(entry)
            size += _bytes_of(entry)
            owed = entry.owed
            entry.held = owed
            if owed & 1:
                entry.old_state = PENDING
            if owed & 2:
                entry.new_state = PENDING
            if windows:
                entry.window = windows.get(entry.route, 0)
            if entry.handed or entry.deferred or entry.after_authority:
                self._begin_special(entry)
        self.next_seq = seq
        self.uncommitted_bytes += size

    def _begin_special(self, entry: Entry) -> None:
        entry.special = True
        for side in (0, 1):
            bit = 1 << side
            if entry.deferred & entry.owed & bit:
                entry.held &= ~bit
                self._set(entry, side, DEFERRED)
                if side == OLD:
                    self._begin_deferred(entry)
            elif entry.handed & entry.owed & bit:
                self._hand(entry, side)
        if entry.held and entry.handed & entry.owed & ~entry.deferred:
            self._halves += 1

    def _begin_deferred(self, entry: Entry) -> None:
        if self.carry.is_due(entry.route, entry.bucket, entry.epoch):
            self._make_due(entry)
        else:
            self.carry.note(entry.route, entry.bucket)

    def _take_reports(self, stream: Stream, reports: list[Report]) -> None:
        live = stream.live
        for n, side, code, status in reports:
            if code == RECEIVED:
                self._take_received(live, n, side, status)
                continue
            entry = live.get(n)
            if entry is None:
                self.counters["late_reports"] += 1
                continue
            if code != DELIVERED or entry.special:
                self._report(entry, side, code, status)
            elif side:
                if entry.new_state == PENDING:
                    entry.new_state = DELIVERED
                    entry.new_status = status
                    entry.new_attempts = 1
                    entry.held &= 1
                else:
                    self._delivered_again(entry, side)
            elif entry.old_state == PENDING:
                entry.old_state = DELIVERED
                entry.old_status = status
                entry.old_attempts = 1
                entry.held &= 2
            else:
                self._delivered_again(entry, side)

    def _take_received(self, live: dict[int, Entry], first: int, side: int, more: int) -> None:
        """Settle a row of events at a side, of which most are as good as new."""
        bit = 1 << side
        for n in range(first, first + more + 1):
            entry = live.get(n)
            if entry is None:
                self.counters["late_reports"] += 1
            elif entry.special or entry.state(side) != PENDING:
                if not entry.held & bit:  # the ledger is on it, and what it delivers cannot be handed back
                    self.counters["late_reports"] += 1
                    continue
                if entry.window and entry.state(side) == PENDING:
                    entry.received |= bit
                self._report(entry, side, DELIVERED, 0)
            else:
                if entry.window:
                    entry.received |= bit
                entry.held &= ~bit
                if side:
                    entry.new_state = DELIVERED
                    entry.new_attempts = 1
                else:
                    entry.old_state = DELIVERED
                    entry.old_attempts = 1

    def _delivered_again(self, entry: Entry, side: int) -> None:
        """What was received cannot be lost any more, or it is a late report."""
        if entry.received & 1 << side:
            entry.received &= ~(1 << side)
        else:
            self.counters["late_reports"] += 1

    def _report(self, entry: Entry, side: int, code: int, status: int) -> None:
        entry.special = True
        bit = 1 << side
        if code in _SETTLING:
            if entry.state(side) == DEFERRED and code != DISCARDED:
                # A failover: the side that was to get it later answers it now.
                self._set(entry, side, PENDING)
            if entry.state(side) in OPEN:
                if code == REFUSED or (code == DELIVERED and entry.stage != NEW_ENTRY):
                    # New ones that are delivered are counted with their group.
                    self._answered[entry.route, side] += 1
                self._settle_entry(entry, side, code, status, attempts=1)
            else:
                self._delivered_again(entry, side)
        elif code == HANDED:
            if entry.state(side) == PENDING:
                self._set_status(entry, side, 0 if status == UNANSWERED else status, attempts=1 if status else 0)
                self._hand(entry, side)
            elif entry.received & bit:
                self._take_back(entry, side)
        elif code == PARKED:
            if entry.held & bit:
                self._enter_backlog(entry, side)
                entry.parked |= bit
        elif code == OWED:
            if entry.state(side) in (NOT_OWED, DEFERRED):
                entry.owed |= bit
                entry.held |= bit
                self._set(entry, side, PENDING)
        elif code == ANSWERED:
            entry.authority = side
            self._touch(entry)
            self._review_order(entry, side)
        else:
            raise ValueError(f"unknown report code {code}")
        if entry.in_line:
            self._pass_turn(entry)
        if self.arbiter is not None:
            self._review_claim(self.arbiter, entry)

    # claims on ids

    def _recorded(self, arbiter: Arbiter, stream: Stream, events: list[EventRow]) -> None:
        live = stream.live
        for row in events:
            if row[CLIENT_ID] and row[ROUTE] in arbiter.routes:
                arbiter.recorded(live[row[0]])

    def _take_answers(self, arbiter: Arbiter, stream: Stream, answers: list[tuple[int, int]]) -> None:
        """What clients were told. A no for an event that its authority has, or may yet get, is not the outcome."""
        for n, status in answers:
            place = (stream.id, n)
            entry = stream.live.get(n)
            if is_accepted(status) or entry is None or not arbiter.has_event(place) or not arbiter.status_of(entry):
                arbiter.answered(place, status)
            else:
                arbiter.doubt(place)
                entry.special = True  # so that its reports are looked at
                self._review_claim(arbiter, entry)

    def _review_claim(self, arbiter: Arbiter, entry: Entry) -> None:
        """An event whose answer nobody will say, or half of it: its outcome is what is recorded, once durable."""
        status = arbiter.verdict_of_record(entry)
        if status is not None:
            self._promises.append(((entry.stream, entry.n), status))

    def _give_up_claims(self, arbiter: Arbiter, stream: Stream) -> None:
        """Its worker is gone: what it recorded has an outcome without it, the rest was never sent."""
        for place in arbiter.of_stream(stream.id):
            entry = stream.live.get(place[1])
            if entry is None or not arbiter.has_event(place):
                arbiter.withdraw(place)
            else:
                arbiter.doubt(place)
                self._review_claim(arbiter, entry)

    # what happens to a side

    def _set(self, entry: Entry, side: int, state: int) -> None:
        if side:
            entry.new_state = state
        else:
            entry.old_state = state
        entry.changed |= 1 << side
        self._touch(entry)

    def _set_status(self, entry: Entry, side: int, status: int, attempts: int) -> None:
        if side:
            entry.new_status, entry.new_attempts = status, attempts
        else:
            entry.old_status, entry.old_attempts = status, attempts
        entry.changed |= 1 << side
        self._touch(entry)

    def _touch(self, entry: Entry) -> None:
        """What is on disk of it, or on its way there, is not true any more."""
        if entry.stage != NEW_ENTRY and not entry.dirty:
            entry.dirty = True
            self._dirty.append(entry)

    def _enter_backlog(self, entry: Entry, side: int) -> None:
        bit = 1 << side
        entry.special = True
        if not entry.backlog & bit and entry.state(side) == PENDING:
            entry.backlog |= bit
            self.backlog.enter(entry.route, side, entry.bucket)
            if entry.held & bit and entry.stage != NEW_ENTRY:
                self.observer.parked(entry.route, side, entry.seq, entry.key)

    def _hand(self, entry: Entry, side: int) -> None:
        """The worker is not on this side any more: the replayer's."""
        entry.held &= ~(1 << side)
        self._enter_backlog(entry, side)
        self._touch(entry)
        if entry.stage == ON_DISK and self._is_pending_on_disk(entry, side):
            self.observer.handed(entry.route, side, entry.seq, entry.key)
        if entry.after_authority and side != entry.authority:
            self._review_order(entry, entry.authority)
        self._review_due(entry)

    @staticmethod
    def _is_pending_on_disk(entry: Entry, side: int) -> bool:
        """Does its row say so, or the one that is being written?"""
        return (entry.on_disk & 15 if side else entry.on_disk >> 4) == PENDING

    def _take_back(self, entry: Entry, side: int) -> None:
        """A backend that had received it may have lost it: the replayer delivers it again."""
        entry.received &= ~(1 << side)
        entry.special = True
        self.counters["taken_back"] += 1
        self._set(entry, side, PENDING)
        self._hand(entry, side)
        if entry.stage != NEW_ENTRY and not self._is_pending_on_disk(entry, side):
            # It can be read after the next commit: what comes after it of its key, and can be read now, waits for it.
            self.observer.parked(entry.route, side, entry.seq, entry.key)

    def _make_due(self, entry: Entry) -> None:
        """What was deferred of it is to be delivered: marked now, and pending once its worker has new's answer.

        Until then new may still refuse it, and old must not get what the client is refused.
        """
        entry.special = True
        entry.backlog |= 1 << OLD
        self.backlog.enter(entry.route, OLD, entry.bucket)
        self.counters["carried_over"] += 1
        self._review_due(entry)

    def _review_due(self, entry: Entry) -> None:
        if entry.old_state == DEFERRED and entry.backlog & (1 << OLD) and not entry.held & (1 << NEW):
            self._set(entry, OLD, PENDING)

    def _settle_entry(self, entry: Entry, side: int, state: int, status: int, attempts: int) -> None:
        bit = 1 << side
        self._set(entry, side, state)
        self._set_status(entry, side, status, attempts)
        entry.held &= ~bit
        if entry.backlog & bit:
            entry.backlog &= ~bit
            self.backlog.leave(entry.route, side, entry.bucket)
            self.observer.settled(entry.route, side, entry.seq, entry.key)
        if entry.after_authority and side == entry.authority:
            self._review_order(entry, side)
        self._review_due(entry)

    def _review_order(self, entry: Entry, authority: int) -> None:
        """`after_authority`: the other side, if the ledger's, goes out after the authority's or not at all."""
        other = 1 - authority
        if not entry.after_authority or entry.held & (1 << other) or entry.state(other) != PENDING:
            return
        state = entry.state(authority)
        if state != NOT_OWED and lets_follow(state, entry.status(authority)):
            self.observer.released(entry.route, other, entry.seq, entry.key)
        elif state not in (PENDING, NOT_OWED):
            self._settle_entry(entry, other, DISCARDED, 0, 0)

    def turn(self, routing: Routing) -> list[Due]:
        """A new epoch: see `Carry.turn`. Entries that are due become pending here, other rows are the caller's."""
        found = self.carry.turn(routing)
        if found:
            due_from = {due.route: due.from_bucket for due in found}
            live = [entry for stream in self.streams.values() for entry in stream.live.values()]
            for entry in (*live, *self.on_disk.values()):
                if (
                    entry.old_state == DEFERRED
                    and not entry.backlog & (1 << OLD)
                    and entry.bucket >= due_from.get(entry.route, BUCKETS)
                ):
                    self._make_due(entry)
        return found

    # what the replayer says

    def is_held(self, seq: int, side: int) -> bool:
        """Is the event's worker still on this side?"""
        entry = self.on_disk.get(seq)
        return entry is not None and bool(entry.held & (1 << side))

    def is_parked(self, seq: int, side: int) -> bool:
        """Is it held, and does it block what comes after it?"""
        entry = self.on_disk.get(seq)
        return entry is not None and bool(entry.held & entry.backlog & (1 << side))

    def is_settled(self, seq: int, side: int) -> bool:
        """Is this side settled already, although the disk may not say so yet?"""
        entry = self.on_disk.get(seq)
        return entry is not None and entry.state(side) != PENDING

    def settle(self, seq: int, route: str, side: int, bucket: int, state: int, status: int, attempts: int) -> bool:
        """A side in the ledger's hands changed: a state, or PENDING with what the last attempt showed.

        False when it was settled otherwise meanwhile (a late report of a worker that came back).
        """
        entry = self.on_disk.get(seq)
        if entry is not None:
            if entry.state(side) != PENDING:
                return False
            if state == PENDING:
                self._set_status(entry, side, status, attempts)
            else:
                self._settle_entry(entry, side, state, status, attempts)
            return True
        row = self._sides[side].get(seq)
        if row is None:
            self._sides[side][seq] = [route, PENDING, state, status, attempts]
        elif row[2] != PENDING:
            return False
        else:
            row[2:] = (state, status, attempts)
        if state != PENDING:
            self.backlog.leave(route, side, bucket)
        return True

    def tries(self, seq: int, side: int, read: int) -> int:
        """How often a side was tried. read: what its row said when it was read; what is not on disk may say more."""
        entry, row = self.on_disk.get(seq), self._sides[side].get(seq)
        known = 0 if entry is None else entry.new_attempts if side else entry.old_attempts
        return max(read, known, 0 if row is None else row[4])

    # what moves say

    def may_move(self, seq: int, side: int, before: int) -> bool:
        """May a side's row be changed on disk by itself? Not while the book knows more of it than the disk."""
        entry = self.on_disk.get(seq)
        return entry is None or not (entry.held or entry.received or entry.dirty or entry.state(side) != before)

    def moved(self, seq: int, side: int, state: int) -> None:
        """A row was changed on disk. If PENDING, it is counted in the backlog already."""
        entry = self.on_disk.get(seq)
        if entry is None:
            return
        if side:
            entry.new_state = state
            entry.on_disk = entry.on_disk & 0xF0 | state
        else:
            entry.old_state = state
            entry.on_disk = entry.on_disk & 0x0F | state << 4
        if state == PENDING:
            entry.backlog |= 1 << side

    # turns

    def _want_turn(self, stream: Stream, n: int) -> None:
        entry = stream.live.get(n)
        if entry is None:
            raise ValueError(f"a turn for the unknown event {n}")
        entry.special = entry.in_line = True
        self.turns.want(entry.route, entry.key, (stream.id, n))
        self._pass_turn(entry)

    def release_turns(self) -> None:
        """After a restart, once workers said what they are on: the earliest of each key has its turn.

        What was on disk was in line before; the rest came about in the order in which it was accepted.
        """

        def order(place: Place) -> tuple[int, int]:
            entry = self.by_id[place[0]].live[place[1]]
            return (0, entry.seq) if entry.seq < self._first_seq else (1, entry.accepted_ns)

        self.turns.release(order)

    def _pass_turn(self, entry: Entry) -> None:
        if entry.in_line and not entry.held & ~entry.parked:
            entry.in_line = False
            self.turns.done(entry.route, entry.key, (entry.stream, entry.n))

    # commits

    def has_changes(self) -> bool:
        """Is there anything that is not on disk or on its way?"""
        return bool(
            self._new or self._dirty or self._sides[0] or self._sides[1] or self._streams_changed or self._gaps
            or self._promises
        )  # fmt: skip

    def take(self, now_ns: int, young_ns: int = 0) -> Group:
        """Everything said since the last group, packed to be written.

        young_ns: what is not settled and younger than that, and all that was said after it, may wait for the next one.
        """
        self.group_number += 1
        self._now_ns = now_ns
        self._is_reading = self.observer.is_reading()
        group = Group(self.group_number, retain_bodies=self._retain_bodies, now_ns=now_ns)
        group.received_until_ns = now_ns - self.windows.longest - 2 * MARGIN
        for entry in self.windows.ended(now_ns):
            self._end_window(entry)
        may_wait = young_ns and not self._halves and not self._promises
        left: list[Entry] = []
        if may_wait:
            left = self._young.cut_off(self._new, now_ns - young_ns)
        else:
            self._young.leave_nothing()
        if self._new:
            pack_new(group, self._new, self.on_disk)
        self._new = left
        if self._dirty:
            pack_changed(group, self._dirty, self.on_disk)
            self._dirty = []
        for side in (0, 1):
            if self._sides[side]:
                group.sides[side].extend((seq, *row, None, None, None) for seq, row in self._sides[side].items())
                self._sides[side].clear()
        for id in self._streams_changed:
            stream = self.by_id[id]
            number, stream.last_ns = self._young.durable(stream, now_ns)
            group.streams.append((id, stream.name, stream.worker, number, stream.last_ns, int(stream.closed)))
        self._streams_changed = set(self._young.streams)
        group.gaps, self._gaps = self._gaps, []
        group.promises, self._promises = self._promises, []
        group.halves, self._halves = self._halves, 0
        self.uncommitted_bytes = sum([_bytes_of(entry) for entry in left])
        return group

    def committed(self, group: Group) -> list[Stream]:
        """The group is durable: forget what is settled; the streams whose durable number went up."""
        self.committed_number = group.number
        self._is_reading = self.observer.is_reading()
        by_id, on_disk, arbiter = self.by_id, self.on_disk, self.arbiter
        for e in group.entries:
            if e.stage == IN_FLIGHT:
                e.stage = ON_DISK
                if e.backlog:
                    self._wake(group, e)
            if e.has_body and not e.window:
                e.body = e.context = b""
            if e.held or e.dirty:
                continue
            if e.received:
                self._begin_window(e)
                continue
            stream = by_id.get(e.stream)
            if e.backlog and stream is not None and not stream.is_connected:
                # Its worker may come back and say that it delivered it after all.
                continue
            if on_disk.pop(e.seq, None) is not None and self._is_reading:
                self._tell_left(e)
            if stream is not None:
                stream.live.pop(e.n, None)
            if arbiter is not None and e.client_id and arbiter.has_event((e.stream, e.n)):
                # All is settled or ours, and the answer is still to come: should its worker die now, nobody else knows.
                arbiter.answered((e.stream, e.n), arbiter.status_of(e))
        if arbiter is not None:
            for place, status in group.promises:
                arbiter.answered(place, status)
        for e, side in group.opened:
            if e.backlog & ~e.held & (1 << side) and e.state(side) == PENDING:
                self.observer.handed(e.route, side, e.seq, e.key)
        for route, side in group.wake:
            self.observer.has_more(route, side)
        self._tell_answers(group)
        return self._streams_durable(group)

    def _begin_window(self, entry: Entry) -> None:
        """It is settled on disk; until its window is over a side may be taken back."""
        self.on_disk[entry.seq] = entry
        windows = self.windows
        windows.begin(entry, self._now_ns)
        if windows.is_full:
            for other in windows.cut(entry.route):
                self.counters["windows_cut"] += 1
                self._end_window(other)

    def _end_window(self, entry: Entry) -> None:
        """Nothing of it will be taken back any more."""
        marked = entry.received & entry.backlog
        if marked:
            self._unmark(entry, marked)
        entry.received = entry.until = entry.window = 0
        if entry.has_body:
            entry.body = entry.context = b""
        if entry.held or entry.dirty or entry.stage != ON_DISK:
            return
        if self.on_disk.pop(entry.seq, None) is not None and self._is_reading:
            self._tell_left(entry)
        stream = self.by_id.get(entry.stream)
        if stream is not None:
            stream.live.pop(entry.n, None)

    def _tell_left(self, entry: Entry) -> None:
        for side in (0, 1):
            if entry.state(side) != PENDING:
                self.observer.left(entry.route, side, entry.seq)

    def _tell_answers(self, group: Group) -> None:
        """New events that were settled when they were written, and older ones settled since the last time."""
        answered, self._answered = self._answered, Counter()
        for (route, old, new), n in group.states.items():
            for side, state in ((0, old), (1, new)):
                if state == DELIVERED:
                    answered[route, side] += n
        for (route, side), n in answered.items():
            self.observer.answered(route, side, n)

    def _wake(self, group: Group, entry: Entry) -> None:
        """Tell the replayer of an entry that came to disk with sides in the ledger's hands."""
        for side in (0, 1):
            if entry.backlog & ~entry.held & (1 << side):
                group.wake.add((entry.route, side))
                if entry.dirty and self._is_pending_on_disk(entry, side):
                    # Handed since it was packed: the replayer may have passed it by.
                    self.observer.handed(entry.route, side, entry.seq, entry.key)

    def _streams_durable(self, group: Group) -> list[Stream]:
        risen = []
        for id, _, _, number, _, _ in group.streams:
            stream = self.by_id.get(id)
            if stream is not None and number > stream.durable:
                stream.durable = number
                risen.append(stream)
        return risen


def _bytes_of(entry: Entry) -> int:
    """What it stands for in memory until it is on disk, roughly."""
    return len(entry.body) + len(entry.context) + 1000
