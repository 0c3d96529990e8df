"""Two stores of files compared as a whole, however long they are: what is the same in both never becomes a row here.

    pass 1  both: count and sum of 64-bit hashes of rows, by place (`consistency.places`) --> places that differ
    pass 2  both: the same by identity, at these places alone                             --> identities that differ
            (first taken out of the files where that is little, which are then read once less)
    pass 3  their rows, wherever they are --> Judge: rules, classes, findings

Nothing is found different by hashes alone: these raise suspects, and a rounded one raises a few more. What stands as
often and with the same values in both is equal; so is what lies in one step of a tolerance, which windows would call
tolerated. What stands twice in both is not told, for nobody here has seen it twice. DuckDB holds what it needs within a
bound of memory and spills beyond it.
"""

# ruff: noqa: S608 - what is put into SQL text here are names of columns, quoted, and our own constants

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import duckdb

from config.consistency import Check
from config.rules import FieldRule
from consistency.classes import Class
from consistency.compare import Counts, Finding, Holding, Judge
from consistency.documents import taken_apart
from consistency.identity import PROBE
from consistency.judge import UNTOLD
from consistency.places import ByName, ByTime, number_of
from consistency.rows import Row, Span
from consistency.rules import LOOKS, Rules, tokens
from consistency.shown import KEPT
from consistency.stores.files import MEMORY, FilesStore, connect, translated
from consistency.stores.files_table import FLOATS, Table, WrongValue, kind_of
from consistency.stores.protocol import Store
from consistency.stores.table import clamped

SCATTERED: Final = 0.7
"""Share of places that differ beyond which looking for them in particular does not pay."""
NEAR: Final = 20_000
"""Rows at places that differ, of both sides, up to which they are taken out of the files, with all their columns: few
enough that wide ones fit in memory.
"""
BATCH: Final = 2000
"""Suspects whose rows are read at a time."""


class Compared(NamedTuple):
    """What was found. findings: those that are told, at most KEPT of a class; rows: of old, of new; places: how many
    differ, of how many; suspects: identities whose rows were read.
    """

    counts: Counts
    findings: list[Finding]
    rows: tuple[int, int]
    places: tuple[int, int]
    suspects: int


class _Extent(NamedTuple):
    """Rows of a side within the span, and the times of the first and the last of them."""

    rows: int
    first: int
    last: int


def tables_of(old: Store, new: Store) -> tuple[Table, Table]:
    """What two stores of files hold. Raises TypeError for others."""
    if not isinstance(old, FilesStore) or not isinstance(new, FilesStore):
        raise TypeError("both must be stores of files")
    return old.table, new.table


async def in_bulk(bulk: Bulk, rules: Rules) -> Compared:
    """Compare in a thread. rules: learn which of them have a place in some rows. Raises StoreError, Incomparable."""

    def compare() -> Compared:
        try:
            if rules.unused:
                for row in bulk.some(LOOKS):
                    rules.look(row.fields)
            return bulk.compare()
        except (duckdb.Error, ValueError) as error:
            raise translated("files", error) from None

    compared = asyncio.ensure_future(asyncio.to_thread(compare))
    try:
        return await asyncio.shield(compared)
    except asyncio.CancelledError:
        bulk.stop()
        await asyncio.gather(compared, return_exceptions=True)
        raise


class Bulk:
    """Compares two tables within a span. memory: of DuckDB, such as `512MB`."""

    def __init__(self, check: Check, old: Table, new: Table, judge: Judge, span: Span, *, memory: str = MEMORY) -> None:
        self._documents = check.json_fields
        self._tables = {"old": old, "new": new}
        self._near: dict[str, str] = {}
        """By side, the table of what lies at places that differ, with the columns of the files; none of many rows."""
        self._hashed = _hashed(check, old, new, judge.precision)
        self._is_time_compared = check.time == "compare"
        self._judge = judge
        self._span = clamped(span)
        self._db = connect(memory)

    def close(self) -> None:
        """Let go of files and memory."""
        self._db.close()

    def stop(self) -> None:
        """End a comparison that another thread is at: it raises duckdb.InterruptException there."""
        self._db.interrupt()

    def some(self, limit: int) -> Iterator[Row]:
        """A few rows of each side, whichever. Raises as `compare` does."""
        for table in self._tables.values():
            row = table.reader()
            read = f"SELECT {', '.join(table.selected)} FROM {table.source} WHERE {self._within(table)} LIMIT {limit}"
            yield from taken_apart([row(each) for each in self._db.execute(read).fetchall()], self._documents)

    def compare(self) -> Compared:
        """All of it. Raises duckdb.Error, rules.Incomparable, and what making rows raises."""
        old, new = (self._extent(table) for table in self._tables.values())
        places = self._places(old, new)
        for side, table in self._tables.items():
            self._sum(side, "place", {"place": places.of(table)}, table.source)
        equal = self._differing("place", ("place",))
        differing = [int(place) for (place,) in self._db.execute("SELECT place FROM differing_place").fetchall()]
        is_scattered = len(differing) > SCATTERED * places.number
        names = tuple(f"part{number}" for number in range(len(self._tables["old"].parts)))
        if not is_scattered:
            self._take_near(places, differing)
        for side, table in self._tables.items():
            where = "" if is_scattered or self._near else f"({places.among(table, differing)})"
            source = self._near.get(side, table.source)
            self._sum(side, "identity", dict(zip(names, table.parts, strict=True)), source, where)
        self._differing("identity", names)
        for side in self._tables:
            self._find(side, names, places)
        if is_scattered:
            equal = 0  # they are counted with the others then
        else:
            equal -= self._told_elsewhere()
        equal += self._equal_identities(names)
        counts, findings = self._judged()
        counts.classes[Class.EQUAL] += equal
        found = (len(differing), places.number)
        return Compared(counts, findings, (old.rows, new.rows), found, self._count("differing_identity"))

    # --- passes 1 and 2 ------------------------------------------------------------------------------------

    def _extent(self, table: Table) -> _Extent:
        """Raises WrongValue for rows that nobody could find again: sums would leave them out."""
        nameless = " OR ".join(f"{each} IS NULL" for each in (*table.parts, table.at))
        if self._number(f"SELECT count(*) FROM {table.source} WHERE {nameless}"):
            raise WrongValue("rows have no time, or no value in a column that names the event")
        # Two questions, each of which a file's own statistics may answer; one of both reads the columns.
        rows, first, last = self._one(
            f"SELECT count(*), coalesce(min({table.at}), 0), coalesce(max({table.at}), 0) FROM {table.source} "
            f"WHERE {self._within(table)}"
        )
        return _Extent(rows, first, last)

    def _places(self, old: _Extent, new: _Extent) -> ByTime | ByName:
        number = number_of(max(old.rows, new.rows))
        held = [extent for extent in (old, new) if extent.rows]
        if not self._is_time_compared or not held:
            return ByName(number)
        first, last = min(extent.first for extent in held), max(extent.last for extent in held)
        return ByTime.between(first, last, number, self._judge.precision)

    def _take_near(self, places: ByTime | ByName, differing: list[int]) -> None:
        """Keep what lies at places that differ at hand, where it is little: sums and rows want it once more each."""
        if self._rows_differing() > NEAR:
            return
        for side, table in self._tables.items():
            self._db.execute(
                f"CREATE TABLE {side}_near AS SELECT * FROM {table.source} "
                f"WHERE {self._within(table)} AND ({places.among(table, differing)})"
            )
            self._near[side] = f"{side}_near"

    def _rows_differing(self) -> int:
        sides = " + ".join(
            f"(SELECT coalesce(sum(n), 0) FROM {side}_place SEMI JOIN differing_place USING (place))"
            for side in self._tables
        )
        return self._number(f"SELECT {sides}")

    def _sum(self, side: str, kind: str, by: dict[str, str], source: str, where: str = "") -> None:
        """Count and sum of row hashes of a side, by expressions with a name each. kind: place or identity."""
        table = self._tables[side]
        condition = " AND ".join(each for each in (self._within(table), where) if each)
        numbers = ", ".join(str(number) for number in range(1, len(by) + 1))  # a file may have columns of these names
        self._db.execute(
            f"CREATE TABLE {side}_{kind} AS SELECT {', '.join(f'{each} AS {name}' for name, each in by.items())}, "
            f"count(*) AS n, sum(hash({', '.join((*table.parts, *self._hashed[side]))})) AS h "
            f"FROM {source} WHERE {condition} GROUP BY {numbers}"
        )

    def _within(self, table: Table) -> str:
        return f"{table.at} >= {self._span.start} AND {table.at} < {self._span.end}"

    def _differing(self, kind: str, by: tuple[str, ...]) -> int:
        """Numbers what differs in the sums of both sides; how many rows of old are in what does not."""
        joined = f"old_{kind} AS o FULL OUTER JOIN new_{kind} AS n ON {_same(by)}"
        differs = "(o.n IS DISTINCT FROM n.n OR o.h IS DISTINCT FROM n.h)"
        named = ", ".join(f"coalesce(o.{name}, n.{name}) AS {name}" for name in by)
        self._db.execute(
            f"CREATE TABLE differing_{kind} AS SELECT row_number() OVER () - 1 AS number, {named} FROM {joined} "
            f"WHERE {differs}"
        )
        return self._number(f"SELECT coalesce(sum(o.n), 0) FROM {joined} WHERE NOT {differs}")

    def _equal_identities(self, names: tuple[str, ...]) -> int:
        joined = f"old_identity AS o JOIN new_identity AS n ON {_same(names)}"
        return self._number(f"SELECT count(*) FROM {joined} WHERE o.n = n.n AND o.h = n.h")

    def _count(self, table: str) -> int:
        return self._number(f"SELECT count(*) FROM {table}")

    def _number(self, query: str) -> int:
        return self._one(query)[0]

    def _one(self, query: str) -> list[int]:
        """The only row of an answer, of whole numbers."""
        found = self._db.execute(query).fetchone()
        return [int(each) for each in found or ()]

    # --- pass 3 --------------------------------------------------------------------------------------------

    def _find(self, side: str, names: tuple[str, ...], places: ByTime | ByName) -> None:
        """All rows of each suspect, also those of other times: a row that moved is not missing.

        First where they are, of which names and times alone are read, then what they hold, of a part of the files.
        """
        table = self._tables[side]
        # Under names of our own first: a file may have columns of any name.
        ours = ", ".join(f"p{number}" for number in range(len(names)))
        parts = ", ".join(f"{part} AS p{number}" for number, part in enumerate(table.parts))
        is_of = " AND ".join(f"f.p{number} = s.{name}" for number, name in enumerate(names))
        self._db.execute(
            f"CREATE TABLE {side}_hit AS SELECT s.*, f.hit_at, f.hit_place "
            f"FROM (SELECT {parts}, {table.at} AS hit_at, {places.of(table)} AS hit_place FROM {table.source}) AS f "
            f"JOIN differing_identity AS s ON {is_of}"
        )
        held = ", ".join(f"{each} AS c{number}" for number, each in enumerate(table.selected))
        source = table.source if self._is_hit_elsewhere(side) else self._near[side]
        self._db.execute(
            f"CREATE TABLE {side}_row AS SELECT s.number, f.* EXCLUDE ({ours}) "
            f"FROM (SELECT {parts}, {held} FROM {source}) AS f "
            f"JOIN (SELECT DISTINCT * FROM {side}_hit) AS s ON {is_of} AND f.c0 = s.hit_at"
        )

    def _is_hit_elsewhere(self, side: str) -> bool:
        """Whether a row of a suspect is not at hand."""
        if side not in self._near:
            return True
        near = f"{self._hit_within()} AND hit_place IN (SELECT place FROM differing_place)"
        return self._number(f"SELECT count(*) FROM {side}_hit WHERE NOT ({near})") > 0

    def _told_elsewhere(self) -> int:
        """How many rows of suspects lie where everything else is equal."""
        return self._number(
            f"SELECT count(*) FROM old_hit WHERE {self._hit_within()} "
            "AND hit_place NOT IN (SELECT place FROM differing_place)"
        )

    def _hit_within(self) -> str:
        return f"hit_at >= {self._span.start} AND hit_at < {self._span.end}"

    def _judged(self) -> tuple[Counts, list[Finding]]:
        counts, findings = Counts(), []
        kept: Counter[Class] = Counter()
        for holding in self._holdings():
            if not self._span.start <= holding.home < self._span.end or PROBE in holding.key.identity:
                continue
            finding = self._judge.finding(holding)
            counts.add(finding)
            if finding.kind not in UNTOLD and kept[finding.kind] < KEPT:
                kept[finding.kind] += 1
                findings.append(finding)
        return counts, sorted(findings, key=lambda finding: finding.key.at)

    def _holdings(self) -> Iterator[Holding]:
        for start in range(0, self._count("differing_identity"), BATCH):
            old, new = (self._read(side, start) for side in self._tables)
            yield from self._judge.holdings(old, new, ()).values()

    def _read(self, side: str, start: int) -> list[Row]:
        row = self._tables[side].reader()
        read = f"SELECT * EXCLUDE number FROM {side}_row WHERE number >= {start} AND number < {start + BATCH}"
        return taken_apart([row(each) for each in self._db.execute(read).fetchall()], self._documents)


def _same(names: tuple[str, ...]) -> str:
    return " AND ".join(f"o.{name} = n.{name}" for name in names)


def _hashed(check: Check, old: Table, new: Table, precision: int) -> dict[str, list[str]]:
    """By side, what is hashed of a row beside its identity, in the same order: all that a difference could lie in."""
    about = {tokens(rule.path)[0] for rule in check.rules}
    names = list(old.columns)
    names += [
        name for name in new.columns if name not in old.columns and (check.only_new == "compare" or about & {name, "*"})
    ]
    found: dict[str, list[str]] = {"old": [], "new": []}
    if check.time == "compare":
        for side, table in (("old", old), ("new", new)):
            found[side].append(table.at if precision == 1 else f"{table.at} // {precision}")
    for name in names:
        rules = [rule for rule in check.rules if tokens(rule.path)[0] in (name, "*")]
        if len(rules) == 1 and rules[0].compare == "ignore" and rules[0].path == f"/{name}":
            continue
        are_alike = old.types.get(name) == new.types.get(name)
        for side, table in (("old", old), ("new", new)):
            if name not in table.columns:
                found[side].append("NULL")
            else:
                found[side].append(_rounded(table, name, rules) if are_alike else _with_kind(table, name))
    return found


def _with_kind(table: Table, name: str) -> str:
    """A value in SQL where the other side has it in another type: true and 1 have one hash, and are two things."""
    return f"'{kind_of(table.types[name])} ' || CAST({table.columns[name]} AS VARCHAR)"


def _rounded(table: Table, name: str, rules: list[FieldRule]) -> str:
    """A value in SQL. Two in one step of an absolute tolerance are within it; at its edge they are suspects."""
    value = table.columns[name]
    # Large whole numbers would lose their last digits.
    if len(rules) == 1 and rules[0].compare == "tolerance" and rules[0].abs > 0 and table.types[name] in FLOATS:
        return f"floor({value} / {rules[0].abs!r})"
    return value
