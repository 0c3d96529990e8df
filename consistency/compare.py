"""One window: rows of both stores and what is on record, put together by identity, each given its class.

    old rows ---+                                       +--> counts by class, fields that differ
    new rows ---+--> Holding (one for each identity) ---+
    recorded ---+                                       +--> findings: suspects, until they were read again

Nothing here reads a store or a clock; what has to be read again, and when, is in `judge`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from consistency.classes import (
    MISMATCHES,
    UNJUDGED,
    Class,
    Presence,
    Record,
    lost_by,
    of_presence,
    too_often,
    too_seldom,
)
from consistency.identity import Naming
from consistency.recorded import Recorded
from consistency.rows import Key, Row
from consistency.rules import IDENTICAL, Comparison, Difference, Rules
from proxy.core.event import NEW, OLD, SIDES
from proxy.core.owed import DELIVERED

TIME_PATH: Final = "(time)"
ROWS_PATH: Final = "(rows)"
"""In the place of a path: the times of two rows differ; one store has fewer rows than there were events."""
MOST_PATHS: Final = 500
LONGEST_PATH: Final = 200
OTHER_PATHS: Final = "(other paths)"
"""Paths with figures of their own, and their characters: names may be made of data, and have no end."""
MOST_COPIES: Final = 20
"""Rows of one identity that are compared with each other; what is behind them is compared in order."""
AT_BOTH: Final = Record.of(DELIVERED, DELIVERED)
"""One event, delivered to both sides at the first try."""


class Finding(NamedTuple):
    """One identity and what became of it.

    key: under which its rows are read again; kind: its class; by: sides it is held against, as `old`, `new`;
    differences, tolerated, enriched: see `rules.Comparison`; ids: events of the ledger that bear it
    """

    key: Key
    kind: Class
    by: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    tolerated: tuple[str, ...] = ()
    enriched: int = 0
    ids: tuple[str, ...] = ()

    @property
    def is_mismatch(self) -> bool:
        """It counts against a side, should it be persistent."""
        return self.kind in MISMATCHES

    @property
    def is_against_new(self) -> bool:
        """A mismatch that says something of new: not what old alone did, nor what both have lost, as of one event that
        neither stores.
        """
        return self.is_mismatch and "old" not in self.by


_EQUAL: Final = Finding(Key("", 0), Class.EQUAL)
"""Of what is everywhere and the same nobody asks what it was called."""


class Holding:
    """What is known of one identity in one window."""

    __slots__ = ("new", "old", "recorded")

    def __init__(self) -> None:
        self.old: list[Row] = []
        self.new: list[Row] = []
        self.recorded: Recorded | None = None

    @property
    def home(self) -> int:
        """The time that says to which window it belongs: the ledger's, else old's, else new's."""
        if self.recorded is not None:
            return self.recorded.at
        return min(row.at for row in self.old or self.new)

    @property
    def key(self) -> Key:
        """Under which it is read again."""
        rows = self.old or self.new
        if rows:
            return rows[0].key
        assert self.recorded is not None, "nobody knows of it"
        return Key(self.recorded.identity, self.recorded.at)


class TimeRule(NamedTuple):
    """How the times of two rows are compared. within: nanoseconds that they may lie apart, beyond the coarser precision
    of both stores; is_compared: false where a store has a time of its own, such as that of writing.
    """

    within: int = 0
    is_compared: bool = True


class Judge:
    """Gives identities their classes. covers: whether the ledger would know an event of a time, had it come by us."""

    def __init__(
        self, rules: Rules, naming: Naming, covers: Callable[[int], bool], time: TimeRule | None = None
    ) -> None:
        self._rules = rules
        self._naming = naming
        self._covers = covers
        self._time = time or TimeRule()

    @property
    def precision(self) -> int:
        """Nanoseconds: the coarser precision of both stores."""
        return self._naming.precision

    def name(self, key: Key | Row) -> str:
        """Under which it is counted."""
        return self._naming.name(key)

    def place(self, key: Key | Row) -> str:
        """What rows of one name have in common, and their keys know."""
        return self._naming.place(key)

    def holdings(self, old: Iterable[Row], new: Iterable[Row], recorded: Iterable[Recorded]) -> dict[str, Holding]:
        """By name, all that is in a store or on record."""
        found: dict[str, Holding] = {}
        self.add(found, OLD, old)
        self.add(found, NEW, new)
        self.record(found, recorded)
        return found

    def record(self, holdings: dict[str, Holding], recorded: Iterable[Recorded]) -> None:
        """What is on record, of names that are there already or of others."""
        for each in recorded:
            name = self._naming.name(Key(each.identity, each.at))
            holding = holdings.get(name)
            if holding is None:
                holding = holdings[name] = Holding()
            holding.recorded = each

    def add(self, holdings: dict[str, Holding], side: int, rows: Iterable[Row]) -> None:
        """Rows of one side's store."""
        name_of, is_merging = self._naming.name, self._naming.is_keyed_by_time
        for row in rows:
            name = name_of(row)
            holding = holdings.get(name)
            if holding is None:
                holding = holdings[name] = Holding()
            there = holding.new if side == NEW else holding.old
            if there and is_merging:
                there[0] = _merged(there[0], row)
            else:
                there.append(row)

    def finding(self, holding: Holding) -> Finding:
        """The class of one identity. Raises rules.Incomparable."""
        recorded = holding.recorded
        record = recorded.record if recorded is not None else None
        ids = recorded.ids if recorded is not None else ()
        if record == AT_BOTH and len(holding.old) == 1 == len(holding.new):
            said = self._pair(holding.old[0], holding.new[0])  # most of them
            return _EQUAL if said is IDENTICAL else _told(holding, said, ids)
        presence = Presence(len(holding.old), len(holding.new))
        if self._naming.content is not None:
            return _counted(holding, presence)
        key = holding.key
        kind = of_presence(record, presence, is_covered=record is None and self._covers(key.at))
        if kind is Class.LOST:
            return Finding(key, kind, _names(lost_by(record, presence)), ids=ids)
        if kind is Class.UNRECORDED:
            return Finding(key, kind, ("new" if presence.old else "old",))
        copies, sides = too_often(record, presence) if kind in (None, Class.ONE_SIDED) else (None, ())
        if kind is not None:
            return Finding(key, copies or kind, _names(sides), ids=ids)
        said = self._compared(holding.old, holding.new)
        if too_seldom(record, presence):
            said = said.plus(Comparison((Difference(ROWS_PATH, "count", *presence),)))
        return _told(holding, said, ids, copies, _names(sides))

    def _compared(self, old: list[Row], new: list[Row]) -> Comparison:
        """Each row with one of the other side that says the same, as far as there is one; surplus rows with any."""
        left, said = list(new), IDENTICAL
        unequal = []
        for row in old:
            found = self._equal_to(row, left)
            if found is None:
                unequal.append(row)
            else:
                said = said.plus(found[1])
                del left[found[0]]
        for a, b in zip(unequal, left, strict=False):
            said = said.plus(self._pair(a, b))
        for a in unequal[len(left) :]:
            said = said.plus(self._closest(a, new, is_old=True))
        for b in left[len(unequal) :]:
            said = said.plus(self._closest(b, old, is_old=False))
        return said

    def _equal_to(self, row: Row, others: list[Row]) -> tuple[int, Comparison] | None:
        for index, other in enumerate(others[:MOST_COPIES]):
            said = self._pair(row, other)
            if not said.differences:
                return index, said
        return None

    def _closest(self, row: Row, others: list[Row], *, is_old: bool) -> Comparison:
        """A copy too many is compared with all that it could be a copy of."""
        found = None
        for other in others[:MOST_COPIES]:
            said = self._pair(row, other) if is_old else self._pair(other, row)
            if not said.differences:
                return said
            found = found or said
        assert found is not None, "both sides have a row"
        return found

    def _pair(self, old: Row, new: Row) -> Comparison:
        said = self._rules.compare(old.fields, new.fields)
        if old.at == new.at or not self._time.is_compared:
            return said
        apart = abs(old.at - new.at)
        # Two times in one step of the coarser precision are one time to it.
        if apart < self._naming.precision:
            return said
        if apart <= self._time.within:
            return said._replace(tolerated=(*said.tolerated, TIME_PATH))
        return said._replace(differences=(*said.differences, Difference(TIME_PATH, "value", old.at, new.at)))


def _counted(holding: Holding, presence: Presence) -> Finding:
    """Rows of one content, of which there should be as many at both sides."""
    if presence.old == presence.new:
        return _EQUAL
    if not all(presence):
        return Finding(holding.key, Class.UNRECORDED, ("new" if presence.old else "old",))
    return _told(holding, Comparison((Difference(ROWS_PATH, "count", *presence),)), ())


def _told(
    holding: Holding, said: Comparison, ids: tuple[str, ...], copies: Class | None = None, by: tuple[str, ...] = ()
) -> Finding:
    """What is in both stores. copies: its class when nothing differs and a store has it too often; by: which ones."""
    key = holding.old[0].key
    if said.differences:
        return Finding(key, Class.DIFFERENT, (), said.differences, said.tolerated, said.enriched, ids)
    kind = copies or (Class.TOLERATED if said.tolerated else Class.EQUAL)
    return Finding(key, kind, by, (), said.tolerated, said.enriched, ids)


def _names(sides: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(SIDES[side] for side in sides)


def _merged(one: Row, other: Row) -> Row:
    """A point that was written twice: the fields of both, the later one's where both have them."""
    first, last = (one, other) if one.at <= other.at else (other, one)
    return Row(first.identity, first.at, first.fields | last.fields)


class Counts:
    """What is counted of a window: identities by class, paths that differ, enrichment."""

    __slots__ = ("classes", "enriched", "fields", "tolerated")

    def __init__(self) -> None:
        self.classes: Counter[Class] = Counter()
        self.fields: Counter[str] = Counter()
        """Identities that differ at a path, of MOST_PATHS; indexes of lists count as one path, `*`. One that differs at
        several of the others is counted for each.
        """
        self.tolerated: Counter[str] = Counter()
        self.enriched = 0

    def add(self, finding: Finding) -> None:
        """Count one identity."""
        self.classes[finding.kind] += 1
        if finding is _EQUAL:
            return
        self.enriched += finding.enriched
        if finding.differences:
            _add(self.fields, dict.fromkeys((general(each.path) for each in finding.differences), 1))
        if finding.tolerated:
            _add(self.tolerated, dict.fromkeys(map(general, finding.tolerated), 1))

    @property
    def settled(self) -> int:
        """Distinct identities that say something of the sides: all but what is pending or somebody else's."""
        return self.classes.total() - sum(self.classes[each] for each in UNJUDGED)

    @property
    def mismatches(self) -> int:
        """Identities that count against a side."""
        return sum(self.classes[each] for each in MISMATCHES)

    @property
    def rate(self) -> float | None:
        """Mismatches of the settled, 0 to 1; None when nothing is settled."""
        return self.mismatches / self.settled if self.settled else None

    def merge(self, other: Counts) -> None:
        """Add another window's."""
        self.classes.update(other.classes)
        _add(self.fields, other.fields)
        _add(self.tolerated, other.tolerated)
        self.enriched += other.enriched


def _add(counted: Counter[str], more: Mapping[str, int]) -> None:
    for path, number in more.items():
        is_known = path in counted or (len(counted) < MOST_PATHS and len(path) <= LONGEST_PATH)
        counted[path if is_known else OTHER_PATHS] += number


def general(path: str) -> str:
    """A path with `*` for every index of a list, so that one field of a thousand elements is one field."""
    if not any(character.isdigit() for character in path):
        return path
    return "/".join("*" if part.isdecimal() else part for part in path.split("/"))
