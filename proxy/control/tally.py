"""What the workers counted, folded into one account that never goes back.

Each worker says cumulative figures of its own life. The account is what ended lives said last (`base`)
plus what the present ones say. It is saved every few seconds, so that a new supervisor goes on with it:

    base + slot 0's present life + slot 1's present life = total since the instance first started
                 |
                 +-- samples of the last ten seconds: rates, quantiles, observed weight
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from proxy.control.files import write_whole
from proxy.control.link import CheckerStats, LedgerStats, WorkerStats
from proxy.control.state import RouteState
from proxy.control.sums import FAILURES, NO_ANSWER, Sums
from proxy.core.answers import AnswerStats
from proxy.core.checked import CheckStats
from proxy.core.event import NEW, OLD
from proxy.core.sketch import Sketch
from proxy.core.verdict import Verdict

log = logging.getLogger(__name__)

WINDOW: Final = 10.0
"""Seconds that rates, quantiles and the observed weight look back."""
_SAMPLE_EVERY: Final = 0.9
_ENDED: Final = 16
"""Workers that are kept apart although they seem to have ended, in case they come back."""
FRESH: Final = 2.0
"""Seconds after which a report tells nothing of the present: its worker hangs, or its link does."""


class Sample(NamedTuple):
    """Figures at a moment (monotonic seconds)."""

    at: float
    stats: WorkerStats


class Slot:
    """One worker index: the life that has it now, or had it last. restarts: lives that ended before it."""

    def __init__(self, life: str, restarts: int = 0) -> None:
        self.life = life
        self.restarts = restarts
        self.is_unknown = False
        """It may have counted for long before it was first heard."""
        self.is_saved = False
        """An earlier supervisor knew it: whether it has ended is not known."""
        self.connected = True
        self.is_told = False
        """It has said its figures since it is connected: what is known of it is of the present."""
        self.latest: WorkerStats | None = None
        self.heard_at = 0.0
        """When that was said, monotonic seconds."""
        self.samples: deque[Sample] = deque()

    def take(self, stats: WorkerStats, now: float, *, keep: bool) -> None:
        """Remember new figures; a sample about once a second is enough, and one whenever `keep` says."""
        self.latest, self.heard_at, self.is_told = stats, now, True
        samples = self.samples
        if keep or not samples or now - samples[-1].at >= _SAMPLE_EVERY:
            samples.append(Sample(now, stats))
        while len(samples) > 1 and samples[1].at <= now - WINDOW:
            samples.popleft()

    def leave(self) -> None:
        """Its link ended."""
        self.connected = self.is_told = False
        self.samples.clear()

    def since(self, moment: float) -> Sample | None:
        """The oldest sample that is not older than a moment."""
        return next((sample for sample in self.samples if sample.at >= moment), None)


class Climb(msgspec.Struct):
    """A counter made from a balance that a person's replay may lower: it adds up the rises."""

    total: int = 0
    last: int = 0

    def take(self, value: int) -> None:
        """The balance is at `value` now."""
        self.total += max(0, value - self.last)
        self.last = value


class Window(NamedTuple):
    """What was counted in the last `seconds`."""

    sums: Sums
    seconds: float


class Observed(NamedTuple):
    """The share of events whose authority was new, percent, with its 95 % interval."""

    weight: float
    low: float
    high: float


class _SavedSlot(msgspec.Struct):
    life: str
    restarts: int
    stats: WorkerStats | None


class _Saved(msgspec.Struct):
    instance: int
    base: WorkerStats
    slots: dict[int, _SavedSlot]
    ledger_life: str
    ledger_base: dict[str, int]
    ledger_last: dict[str, int]
    climbs: dict[str, dict[str, Climb]]
    own: dict[str, int]
    old_incomplete: dict[str, str] = {}
    parting: list[_SavedSlot] = []


class Tally:
    """The account. instance: names this life of the launcher, after which restarts are counted from 0."""

    def __init__(self, path: Path, instance: int) -> None:
        self._path = path
        self._instance = instance
        self._base = Sums()
        self._slots: dict[int, Slot] = {}
        self._parting: dict[str, Slot] = {}
        """By life, workers that another one has taken the place of, and that may count on."""
        self._cuts: dict[str, float] = {}
        self.turns: Counter[str] = Counter()
        """By route, how often its weight or its copy was changed."""
        self.beginnings: Counter[str] = Counter()
        """By route, how often a person began anew at the weight that stood: re-armed it, or began a rollout
        or let one go on.
        """
        self._keep: set[int] = set()
        self._ledger_life = ""
        self._ledger_base: Counter[str] = Counter()
        self.ledger: LedgerStats | None = None
        """The ledger's figures while it is connected."""
        self._ledger_last: dict[str, int] = {}
        self._climbs: dict[str, dict[str, Climb]] = {"owed": {}, "delivered": {}, "bytes": {}}
        self.checker: CheckerStats | None = None
        """What the checker said last, while it is there."""
        self.checks: list[CheckStats] = []
        """What the live checker said last; it keeps its counts itself."""
        self.checked_at = 0.0
        """When it said that, monotonic seconds."""
        self.answers: list[AnswerStats] = []
        """The same of answers that were compared."""
        self.own: Counter[str] = Counter()
        """The supervisor's own counters, by name."""
        self.newcomers = 0
        """How many workers were heard of which no earlier life and no saved figures were known."""
        self.heard: set[int] = set()
        """Workers that have said something to this account. What others counted after it was saved is not in it yet."""
        self.has_heard_ledger = False
        self.goes_on = False
        """An earlier supervisor of this instance has saved figures: what was counted since is in no account yet."""
        self.verdicts: dict[str, Verdict] = {}
        """By route, what the guard thinks of new."""
        self.old_incomplete: dict[str, str] = {}
        """By route, since when (ISO 8601, UTC) old lacks events that new answered."""
        self._load()

    def unheard(self, workers: int) -> list[str]:
        """Of so many workers and the ledger those that have said nothing to this account yet, in words."""
        silent = [f"worker {index}" for index in range(workers) if index not in self.heard]
        return silent if self.has_heard_ledger else [*silent, "the ledger"]

    def count_revert(self, kind: str) -> None:
        """A route was reverted; kind: of its trigger. Saved at once: nobody says this again after a kill."""
        self.own[f"reverts:{kind}"] += 1
        self.save()

    # --- workers -------------------------------------------------------------------------------------------

    def joined(self, index: int, life: str, *, has_place: bool = True) -> None:
        """A worker registered. has_place: no later one has taken its place."""
        slot = self._slots.get(index)
        if slot is not None and slot.life == life:
            slot.connected = True
            return
        known = self._parting.get(life)
        if not has_place:
            self._parting.setdefault(life, Slot(life)).connected = True
            return
        if slot is not None:
            self._part(slot)
        present = self._slots[index] = self._parting.pop(life) if known is not None else Slot(life)
        # One whose predecessor is there still was put beside it on purpose: nothing was restarted.
        present.restarts = slot.restarts + (not slot.connected) if slot is not None else 0
        present.is_unknown = slot is None and known is None
        present.connected = True

    def _part(self, slot: Slot) -> None:
        """Another one has its place. It may count on, unless its link ended before."""
        if slot.connected or slot.is_saved:
            self._parting[slot.life] = slot
            ended = [life for life, each in self._parting.items() if not each.connected]
            for life in ended[:-_ENDED]:
                self._fold(self._parting.pop(life))
        else:
            self._fold(slot)

    def _fold(self, slot: Slot) -> None:
        """It counts no more."""
        if slot.latest is not None:
            self._base.add(slot.latest)

    def left(self, index: int, life: str | None = None) -> None:
        """A worker's link ended. Its figures stay; they no longer tell of the present. life: see `take`."""
        slot = self._slots.get(index)
        if slot is not None and life in (None, slot.life):
            slot.leave()
        elif life is not None and life in self._parting:
            self._parting[life].leave()  # it may come back, so it is kept for a while

    def take(self, index: int, stats: WorkerStats, now: float, life: str | None = None) -> None:
        """New figures of a worker. life: which one, where two have an index; who has the place if None."""
        slot = self.slot(index, life)
        if slot is None:
            return
        if slot.is_unknown:
            slot.is_unknown = False
            self.newcomers += 1
        self.heard.add(index)
        slot.take(stats, now, keep=index in self._keep)
        self._keep.discard(index)

    def slot(self, index: int, life: str | None = None) -> Slot | None:
        """What is known of a worker index; of one that another has taken the place of by its life."""
        if life in self._parting:
            return self._parting[life]
        return self._slots.get(index)

    def _all(self) -> Iterator[Slot]:
        yield from self._slots.values()
        yield from self._parting.values()

    def present(self) -> Iterator[tuple[int, WorkerStats]]:
        """The latest figures of each connected worker that has said any: saved ones tell nothing of the present."""
        for index, slot in sorted(self._slots.items()):
            if slot.connected and slot.is_told and slot.latest is not None:
                yield index, slot.latest

    def total(self) -> Sums:
        """Everything since the instance first started."""
        return Sums([self._base.as_stats(), *(slot.latest for slot in self._all() if slot.latest is not None)])

    def answered(self, route: str, side: int) -> tuple[int, int]:
        """Answers of one side and how many were failures, ever. Cheap: the trigger asks with every report."""
        total = failed = 0
        for classes in self._classes(route, side):
            total += sum(classes.values())
            failed += sum(classes.get(name, 0) for name in FAILURES)
        return total, failed

    def judged(self, route: str, side: int) -> tuple[int, int]:
        """The same without what `proxy.core.contribution` leaves out: what the test of failures goes by."""
        total, failed = self.answered(route, side)
        for left_out in self._left_out(route):
            total -= left_out[side][0]
            failed -= left_out[side][1]
        return total, failed

    def replies(self, route: str, side: int) -> int:
        """How often one side has said anything at all, be it a failure, ever."""
        return sum(sum(classes.values()) - classes.get(NO_ANSWER, 0) for classes in self._classes(route, side))

    def outstanding(self, route: str, side: int, now: float) -> int:
        """Events that one side has not answered, in workers that have reported just now."""
        fresh = [slot for slot in self._connected() if slot.latest is not None and now - slot.heard_at <= FRESH]
        return sum(slot.latest.outstanding.get(route, (0, 0))[side] for slot in fresh if slot.latest is not None)

    def _classes(self, route: str, side: int) -> Iterator[Mapping[str, int]]:
        for series, answers in self._base.requests.items():
            if series.route == route and series.side == side:
                yield answers.classes
        for slot in self._all():
            for each in slot.latest.requests if slot.latest is not None else ():
                if each.route == route and each.side == side:
                    yield each.code_classes

    def _left_out(self, route: str) -> Iterator[Sequence[Sequence[int]]]:
        if route in self._base.left_out:
            yield self._base.left_out[route]
        for slot in self._all():
            if slot.latest is not None and route in slot.latest.left_out:
                yield slot.latest.left_out[route]

    def latencies(self, route: str, side: int) -> Sketch:
        """The latencies of one side's answers to whole events, ever."""
        sketch = Sketch()
        for series, answers in self._base.requests.items():
            if series.route == route and series.side == side and series.role != "stream":
                sketch.merge(answers.sketch)
        for slot in self._all():
            for each in slot.latest.requests if slot.latest is not None else ():
                if each.route == route and each.side == side and each.role != "stream":
                    sketch.merge(Sketch(each.latency))
        return sketch

    def window(self, now: float, seconds: float = WINDOW) -> Window:
        """What the connected workers counted lately: in the last seconds, about, WINDOW at most."""
        sums, moment, spent = Sums(), now - seconds - 1.0, 0.0
        for slot in self._connected():
            first = slot.since(moment)
            if first is None or slot.latest is None:
                continue
            sums.add(slot.latest)
            sums.add(first.stats, -1)
            spent = max(spent, now - first.at)
        return Window(sums, spent)

    def cut(self, route: str, now: float) -> None:
        """The weight of a route changed: what was chosen and judged before says nothing about it."""
        self._cuts[route] = now
        self.verdicts.pop(route, None)
        self._keep.update(self._slots)

    def observed(self, route: str, now: float) -> Observed | None:
        """The observed weight since the last change, at most over the window; None without events."""
        chosen = [0, 0]
        moment = max(self._cuts.get(route, 0.0), now - WINDOW - 1.0)
        for slot in self._connected():
            first = slot.since(moment)
            if first is None or slot.latest is None:
                continue
            for side in (OLD, NEW):
                chosen[side] += (
                    slot.latest.chosen.get(route, (0, 0))[side] - first.stats.chosen.get(route, (0, 0))[side]
                )
        return wilson(chosen[NEW], chosen[OLD] + chosen[NEW])

    def _connected(self) -> Iterator[Slot]:
        return (slot for slot in self._all() if slot.connected)

    def dated(self, route: str, state: RouteState) -> RouteState:
        """A route's state with what is known of old's completeness."""
        since = state.old_incomplete_since or self.old_incomplete.get(route, "")
        return msgspec.structs.replace(state, old_incomplete_since=since)

    # --- ledger --------------------------------------------------------------------------------------------

    def ledger_joined(self, life: str) -> None:
        """The ledger registered; what an earlier life counted goes into the base."""
        if life != self._ledger_life:
            self._ledger_base.update(self._ledger_last)
            self._ledger_last = {}
            self._ledger_life = life
            for climb in self._climbs["bytes"].values():
                climb.last = 0  # the others are of the record, this is of the process

    def ledger_left(self) -> None:
        """The ledger's link ended."""
        self.ledger = None

    def take_ledger(self, stats: LedgerStats) -> None:
        """New figures of the ledger."""
        self.ledger, self.has_heard_ledger = stats, True
        self._ledger_last = stats.counters
        for side in stats.sides:
            for name, climbs in self._climbs.items():
                value = side.delivered_bytes if name == "bytes" else side.balance.get(name, 0)
                climbs.setdefault(f"{side.route}\n{side.side}\n{side.backend}", Climb()).take(value)

    def ledger_counters(self) -> Counter[str]:
        """The ledger's counters over all its lives."""
        return self._ledger_base + Counter(self._ledger_last)

    def climbed(self, name: str) -> Counter[str]:
        """By backend, how many events were ever owed (`owed`) or delivered (`delivered`)."""
        by_backend: Counter[str] = Counter()
        for key, climb in self._climbs[name].items():
            backend = key.split("\n")[2]
            if backend:  # else of a route that is gone: it was counted under the name that its backend had
                by_backend[backend] += climb.total
        return by_backend

    def ledger_bytes(self, route: str, side: int) -> int:
        """Bodies that the ledger ever delivered to a side, bytes."""
        begins = f"{route}\n{side}\n"
        return sum(climb.total for key, climb in self._climbs["bytes"].items() if key.startswith(begins))

    # --- the saved account ---------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the account beside the sockets; not synced, because it may be lost in a power cut. What cannot be
        written is logged and counted.
        """
        saved = _Saved(
            instance=self._instance,
            base=self._base.as_stats(),
            slots={i: _SavedSlot(slot.life, slot.restarts, slot.latest) for i, slot in self._slots.items()},
            parting=[_SavedSlot(slot.life, 0, slot.latest) for slot in self._parting.values()],
            ledger_life=self._ledger_life,
            ledger_base=dict(self._ledger_base),
            ledger_last=self._ledger_last,
            climbs=self._climbs,
            own=dict(self.own),
            old_incomplete=self.old_incomplete,
        )
        try:
            write_whole(self._path, msgspec.msgpack.encode(saved), durable=False)
        except OSError as error:
            self.own["counters_not_saved"] += 1
            log.warning("the counters could not be saved: %s", error)

    def _load(self) -> None:
        try:
            saved = msgspec.msgpack.decode(self._path.read_bytes(), type=_Saved)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the saved counters cannot be used, counting from 0: %s", error)
            self.own["counters_unreadable"] += 1
            return
        self.goes_on = same = saved.instance == self._instance
        self._base.add(saved.base)
        for index, each in saved.slots.items():
            slot = Slot(each.life, each.restarts if same else -1)
            slot.latest, slot.connected, slot.is_saved = each.stats, False, True
            self._slots[index] = slot
        for each in saved.parting:
            slot = self._parting[each.life] = Slot(each.life)
            slot.latest, slot.connected, slot.is_saved = each.stats, False, True
        self._ledger_life = saved.ledger_life
        self._ledger_base.update(saved.ledger_base)
        self._ledger_last = saved.ledger_last
        self._climbs.update(saved.climbs)
        self.own.update(saved.own)
        self.old_incomplete.update(saved.old_incomplete)


def wilson(hits: int, total: int, z: float = 1.96) -> Observed | None:
    """A share as percent with Wilson's score interval (Wilson 1927; z = 1.96: 95 %); None without events."""
    if total <= 0:
        return None
    share = hits / total
    middle = share + z * z / (2 * total)
    spread = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low, high = max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
    return Observed(round(100 * share, 2), round(100 * low, 2), round(100 * high, 2))
