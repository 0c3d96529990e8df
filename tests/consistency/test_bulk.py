"""Two stores of files compared as a whole: what is found, what is not, and that it says what windows say."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from config.consistency import Check
from consistency import bulk, places
from consistency.__main__ import main
from consistency.bulk import Bulk, Compared, tables_of
from consistency.classes import Class
from consistency.compare import Judge, TimeRule
from consistency.identity import Naming
from consistency.rows import Row, Span
from consistency.rules import Rules
from consistency.stores.errors import StoreError
from consistency.stores.files import FilesStore
from tests.consistency.stores.files_stand import FilesStand
from tests.consistency.stores.stand import EVER, SECOND, START, events
from tests.consistency.test_verify import configuration


class Pair:
    """Two folders of files."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        for side in ("old", "new"):
            (folder / side).mkdir()
        self.folder = folder
        self.old, self.new = FilesStand(folder / "old", **settings), FilesStand(folder / "new", **settings)

    def both(self, rows: list[Row]) -> None:
        self.old.put(rows)
        self.new.put(rows)

    def check(self, **check: Any) -> Check:
        stores = {
            side: {"files": stand.settings | {"files": f"{stand.folder}/*.parquet"}}
            for side, stand in (("old", self.old), ("new", self.new))
        }
        return Check.model_validate({"routes": ["events"], **stores} | check, strict=False)

    async def compare(self, span: Span = EVER, **check: Any) -> Compared:
        settings = self.check(**check)
        stores = [FilesStore(side, getattr(settings, side).settings) for side in ("old", "new")]
        for store in stores:
            await store.open()
        rules = Rules(settings.rules, only_new=settings.only_new)
        time = TimeRule(round(settings.time_within * 1e9), is_compared=settings.time == "compare")
        naming = Naming(max(store.traits.precision for store in stores))
        engine = Bulk(settings, *tables_of(*stores), Judge(rules, naming, lambda _: False, time), span)
        try:
            return await bulk.in_bulk(engine, rules)
        finally:
            engine.close()
            for store in stores:
                await store.close()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture(params=[bulk.NEAR, 0], ids=["at hand", "from the files"])
def near(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies at places that differ is taken out of the files, or read there each time."""
    monkeypatch.setattr(bulk, "NEAR", request.param)


def told(compared: Compared) -> dict[str, str]:
    return {finding.key.identity: str(finding.kind) for finding in compared.findings}


def classes(compared: Compared) -> dict[str, int]:
    return {str(kind): count for kind, count in compared.counts.classes.items() if count}


@pytest.mark.asyncio
async def test_what_is_the_same_makes_no_row(pair: Pair) -> None:
    pair.both(events(pair.old, 20_000))
    compared = await pair.compare()
    assert (classes(compared), compared.findings) == ({"equal": 20_000}, [])
    assert (compared.rows, compared.suspects, compared.places[0]) == ((20_000, 20_000), 0, 0)
    assert 900 < compared.places[1] <= 1025


@pytest.mark.asyncio
@pytest.mark.usefixtures("near")
async def test_one_that_is_lost_and_one_that_differs_are_named_among_many(pair: Pair) -> None:
    rows = events(pair.old, 30_000)
    pair.old.put(rows)
    other = rows[777]._replace(fields=rows[777].fields | {"ratio": 5.5})
    pair.new.put([*rows[:777], other, *rows[778:12_345], *rows[12_346:]][::-1])
    compared = await pair.compare()
    assert told(compared) == {rows[777].identity: "different", rows[12_345].identity: "unrecorded"}
    assert classes(compared) == {"equal": 29_998, "different": 1, "unrecorded": 1}
    (lost,) = (finding for finding in compared.findings if finding.kind is Class.UNRECORDED)
    assert lost.by == ("new",)
    (different,) = (finding for finding in compared.findings if finding.kind is Class.DIFFERENT)
    assert [each.path for each in different.differences] == ["/ratio"]
    assert (compared.suspects, compared.places[0]) == (2, 2)


@pytest.mark.asyncio
async def test_differences_everywhere_are_all_found(pair: Pair) -> None:
    """Nearly every place differs: looking for those that do is left out."""
    rows = events(pair.old, 5000)
    pair.old.put(rows)
    pair.new.put([row._replace(fields=row.fields | {"whole": -1}) if i % 2 else row for i, row in enumerate(rows)])
    compared = await pair.compare()
    assert classes(compared) == {"equal": 2500, "different": 2500}
    assert compared.places[0] > 0.7 * compared.places[1]
    assert len(compared.findings) == 1000, "what is kept of one class"
    assert compared.counts.fields == {"/whole": 2500}


@pytest.mark.asyncio
async def test_two_changes_that_would_cancel_each_other_out_are_found(pair: Pair) -> None:
    """Two rows change places: counts, sums and least and greatest values are the same, and an XOR of hashes as well."""
    rows = events(pair.old, 4000)
    pair.old.put(rows)
    a, b = rows[10], rows[11]
    pair.new.put([a._replace(fields=b.fields), b._replace(fields=a.fields), *rows[:10], *rows[12:]])
    assert told(await pair.compare()) == {a.identity: "different", b.identity: "different"}


@pytest.mark.asyncio
async def test_a_pair_of_copies_that_an_xor_would_not_see_is_found(pair: Pair) -> None:
    rows = events(pair.old, 100)
    pair.both(rows)
    pair.new.put([rows[5], rows[5]])
    assert told(await pair.compare()) == {rows[5].identity: "duplicate"}


@pytest.mark.asyncio
async def test_rules_hold_and_no_rule_hides_more_than_it_says(pair: Pair) -> None:
    rows = events(pair.old, 3000)
    pair.old.put(rows)
    changed = [
        row._replace(fields=row.fields | {"ratio": row.fields["ratio"] + (0.004 if i % 3 else 0.0), "note": f"x{i}"})
        for i, row in enumerate(rows)
    ]
    changed[42] = changed[42]._replace(fields=changed[42].fields | {"ratio": rows[42].fields["ratio"] + 0.02})
    pair.new.put(changed)
    rules = [{"path": "/ratio", "compare": "tolerance", "abs": 0.01}, {"path": "/note", "compare": "ignore"}]
    compared = await pair.compare(rules=rules)
    assert told(compared) == {rows[42].identity: "different"}
    assert compared.counts.mismatches == 1
    assert compared.counts.settled == 3000
    assert 500 < compared.suspects < 2500, "at the edges of steps, and the one"


@pytest.mark.asyncio
async def test_what_only_new_has_is_enrichment_unless_it_is_said(tmp_path: Path) -> None:
    pair = Pair(tmp_path, columns=("whole",))
    rows = events(pair.old, 200)
    pair.both(rows)
    pair.new.settings["columns"] = ("whole", "ratio", "note")
    assert classes(await pair.compare()) == {"equal": 200}
    assert classes(await pair.compare(only_new="compare")) == {"different": 200}
    rule = [{"path": "/note", "compare": "exact"}]
    assert classes(await pair.compare(rules=rule)) == {"different": 200}
    pair.old.settings["columns"], pair.new.settings["columns"] = ("whole", "ratio"), ("whole",)
    assert classes(await pair.compare()) == {"different": 200}


@pytest.mark.asyncio
async def test_times_are_compared_as_it_is_said(pair: Pair) -> None:
    rows = events(pair.old, 300)
    pair.old.put(rows)
    pair.new.put([row._replace(at=row.at + 1000) for row in rows])
    assert classes(await pair.compare()) == {"different": 300}
    assert classes(await pair.compare(time="ignore")) == {"equal": 300}
    assert classes(await pair.compare(time_within="1ms")) == {"tolerated": 300}


@pytest.mark.asyncio
@pytest.mark.usefixtures("near")
async def test_a_row_that_moved_out_of_the_span_is_not_missing(pair: Pair) -> None:
    rows = events(pair.old, 100)
    pair.old.put(rows)
    pair.new.put([*rows[:50], rows[50]._replace(at=START + 1000 * SECOND), *rows[51:]])
    first, second = Span(START, START + 100 * SECOND), Span(START + 100 * SECOND, START + 2000 * SECOND)
    assert told(await pair.compare(first)) == {rows[50].identity: "different"}
    assert classes(await pair.compare(second)) == {}, "it is at home in the other span"
    assert classes(await pair.compare(Span(START, START + 10 * SECOND))) == {"equal": 10}


@pytest.mark.asyncio
@pytest.mark.usefixtures("near")
async def test_a_copy_far_from_its_event_is_counted_once(pair: Pair) -> None:
    """Where the event lies both sides are equal; where the copy lies they are not. Its time is another."""
    rows = events(pair.old, 5000)
    pair.both(rows)
    pair.new.put([rows[10]._replace(at=rows[4000].at)])
    assert classes(await pair.compare(time="ignore")) == {"equal": 4999, "duplicate": 1}
    compared = await pair.compare()
    assert (classes(compared), compared.places[0]) == ({"equal": 4999, "different": 1}, 1)


@pytest.mark.asyncio
@pytest.mark.usefixtures("near")
async def test_many_places_that_differ_are_not_named_one_by_one(pair: Pair) -> None:
    rows = events(pair.old, 5000)
    pair.old.put(rows)
    pair.new.put([row for number, row in enumerate(rows) if number % 15])
    compared = await pair.compare()
    assert classes(compared) == {"equal": 4666, "unrecorded": 334}
    assert places.RANGES < compared.places[0] < bulk.SCATTERED * compared.places[1]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["place", "number", "part0", "hit_at", "hit_place", "n", "h", "p0", "c0", "s", "f"])
@pytest.mark.parametrize("is_identity", [False, True])
async def test_columns_may_have_any_name(name: str, is_identity: bool, tmp_path: Path) -> None:
    pair = Pair(tmp_path, identity=(name,)) if is_identity else Pair(tmp_path)
    for stand, missing in ((pair.old, -1), (pair.new, 7)):
        for file in stand.folder.glob("*.parquet"):
            file.unlink()
        id, other = (name, "id") if is_identity else ("id", name)
        stand.settings["columns"] = (other,)
        stand.copy(
            f"SELECT 'e' || i AS {id}, {START} + i * {SECOND} AS \"at\", i AS {other} "
            f"FROM range(50) AS r(i) WHERE i <> {missing}",
            "a.parquet",
        )
    assert told(await pair.compare()) == {"e7": "unrecorded"}


@pytest.mark.asyncio
async def test_json_in_text_is_compared_as_json(pair: Pair) -> None:
    rows = events(pair.old, 10)
    pair.old.put([row._replace(fields={"note": '{"a": 1, "b": [1, 2]}'}) for row in rows])
    pair.new.put([row._replace(fields={"note": '{"b":[1,2],"a":1}'}) for row in rows])
    assert classes(await pair.compare()) == {"different": 10}
    assert classes(await pair.compare(json_fields=["note"])) == {"equal": 10}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("true", "1::BIGINT"),
        ("-1::INTEGER", "4294967295::UINTEGER"),
        ("5::BIGINT", "5.0::DOUBLE"),
        ("'5'", "5::BIGINT"),
        ("{'x': 1}", "'{\"x\": 1}'"),
    ],
)
async def test_values_of_other_types_are_other_values(old: str, new: str, pair: Pair) -> None:
    for stand, value in ((pair.old, old), (pair.new, new)):
        (stand.folder / "part-1.parquet").unlink()
        stand.copy(f"SELECT 'a' AS id, {START} AS \"at\", {value} AS v", "a.parquet")
    assert told(await pair.compare()) == {"a": "different"}


@pytest.mark.asyncio
async def test_whole_numbers_of_any_width_are_the_same(pair: Pair) -> None:
    for stand, kind in ((pair.old, "INTEGER"), (pair.new, "UBIGINT")):
        (stand.folder / "part-1.parquet").unlink()
        stand.copy(f"SELECT 'a' AS id, {START} AS \"at\", 7::{kind} AS v", "a.parquet")
    compared = await pair.compare()
    assert (classes(compared), compared.suspects) == ({"equal": 1}, 0)


@pytest.mark.asyncio
async def test_a_tolerance_keeps_the_last_digits_of_large_whole_numbers(pair: Pair) -> None:
    row = events(pair.old, 1)[0]
    pair.old.put([row._replace(fields={"whole": 1_700_000_000_000_000_000})])
    pair.new.put([row._replace(fields={"whole": 1_700_000_000_000_000_050})])
    rules = [{"path": "/whole", "compare": "tolerance", "abs": 1}]
    assert classes(await pair.compare(rules=rules)) == {"different": 1}


@pytest.mark.asyncio
async def test_rows_without_a_name_are_not_left_out(pair: Pair) -> None:
    pair.both(events(pair.old, 3000))
    pair.old.copy(f'SELECT NULL::VARCHAR AS id, {START} AS "at", 1::BIGINT AS whole', "more.parquet")
    with pytest.raises(StoreError, match="that names the event"):
        await pair.compare()


@pytest.mark.asyncio
async def test_events_of_several_columns_and_kinds(tmp_path: Path) -> None:
    pair = Pair(tmp_path, identity=("whole", "note"))
    rows = events(pair.old, 500)
    pair.old.put(rows)
    pair.new.put(rows[:77] + rows[78:])
    assert told(await pair.compare()) == {'["77","note 77"]': "unrecorded"}


def damaged(row: Row, chosen: random.Random) -> list[Row]:
    """What becomes of a row: in most cases nothing."""
    dice, fields = chosen.random(), row.fields
    if dice < 0.05:
        return []
    if dice < 0.10:
        return [row, row]
    if dice < 0.15:
        return [row._replace(fields={"whole": fields["whole"], "ratio": fields["ratio"]})]
    if dice < 0.20:
        return [row._replace(fields=fields | {"ratio": fields["ratio"] + chosen.choice((0.001, 0.1))})]
    if dice < 0.25:
        return [row._replace(at=row.at + chosen.choice((1, 7 * SECOND)))]
    return [row]


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize("seed", range(6))
def test_it_says_what_windows_say(seed: int, pair: Pair) -> None:
    """The same files by windows: the same classes, whatever was done to them."""
    chosen = random.Random(seed)
    rows = events(pair.old, 400, step=SECOND // 4)
    new = [each for row in rows for each in damaged(row, chosen)]
    dropped = {row.identity for row in chosen.sample(rows, 20)}
    pair.old.put([row for row in rows if row.identity not in dropped])
    pair.new.put(new)
    rules = [{"path": "/ratio", "compare": "tolerance", "abs": 0.01}]
    asked = {"from_ns": START, "to_ns": START + 100 * SECOND, "top": 1000}

    def say(**check: Any) -> dict[str, Any]:
        stores = {
            side: {"files": stand.settings | {"files": f"{stand.folder}/*.parquet"}}
            for side, stand in (("old", pair.old), ("new", pair.new))
        }
        path = configuration(pair.folder, **stores, window="10s", **check)
        return main(json.dumps({"do": "verify", "config": str(path)} | asked))

    whole = say(rules=rules)
    # A pattern that everything matches has to be asked of equal values too, which takes windows.
    by_windows = say(rules=[*rules, {"path": "/whole", "compare": "regex", "pattern": ".*"}])
    assert whole["windows"] == {"judged": 1, "pending": 0, "inconclusive": 0}
    assert by_windows["windows"]["judged"] == 10
    for each in (whole, by_windows):  # what is within a step of a tolerance is not looked at closer in bulk
        each["classes"]["equal"] += each["classes"].pop("tolerated", 0)
    for what in ("result", "classes", "settled", "mismatches"):
        assert whole[what] == by_windows[what], what
    assert whole["fields"]["different"] == by_windows["fields"]["different"]
    assert sorted(map(str, whole["findings"])) == sorted(map(str, by_windows["findings"]))


def test_what_cannot_be_read_is_inconclusive(pair: Pair) -> None:
    pair.both(events(pair.old, 10))
    pair.new.copy(f'SELECT NULL::VARCHAR AS id, {START} AS "at", 1 AS whole', "more.parquet")
    stores = {
        side: {"files": pair.old.settings | {"files": f"{pair.folder}/{side}/*.parquet"}} for side in ("old", "new")
    }
    path = configuration(pair.folder, **stores)
    answer = main(json.dumps({"do": "verify", "config": str(path), "from_ns": START, "to_ns": START + SECOND * 9}))
    assert answer["result"] == "inconclusive"
    assert answer["inconclusive"][0]["reason"].startswith("store files: ")


def test_rules_that_nothing_matches_are_told(pair: Pair) -> None:
    pair.both(events(pair.old, 10))
    stores = {
        side: {"files": pair.old.settings | {"files": f"{pair.folder}/{side}/*.parquet"}} for side in ("old", "new")
    }
    rules = [{"path": "/whole", "compare": "exact"}, {"path": "/hole", "compare": "exact"}]
    path = configuration(pair.folder, **stores, rules=rules, json_fields=["note", "bodi"])
    answer = main(json.dumps({"do": "verify", "config": str(path), "from_ns": START, "to_ns": START + SECOND * 10}))
    assert (answer["result"], answer["settled"]) == ("pass", 10)
    assert [each.split()[0] for each in answer["unused_rules"]] == ["/hole"]
    assert answer["unseen_json_fields"] == ["bodi"]


@pytest.mark.asyncio
async def test_a_comparison_is_given_up_when_it_is_cancelled(pair: Pair) -> None:
    pair.both(events(pair.old, 5))

    class Endless(Bulk):
        def compare(self) -> Compared:
            self._db.execute(
                "SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE hash(a.range, b.range) = 7"
            )
            raise AssertionError("it came to an end")

    settings = pair.check()
    stores = [FilesStore(side, getattr(settings, side).settings) for side in ("old", "new")]
    for store in stores:
        await store.open()
    engine = Endless(settings, *tables_of(*stores), Judge(Rules(()), Naming(), lambda _: False), EVER)
    task = asyncio.ensure_future(bulk.in_bulk(engine, Rules(())))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await task
    engine.close()
    for store in stores:
        await store.close()
    with pytest.raises(duckdb.Error):
        engine.compare()


@pytest.mark.asyncio
async def test_what_a_store_lacks_of_a_probe_is_no_finding(pair: Pair) -> None:
    rows = events(pair.old, 20)
    marked = rows[3]._replace(identity="crossfade-probe-0123")
    pair.both(rows)
    pair.old.put([marked])
    compared = await pair.compare()
    assert (told(compared), compared.counts.mismatches) == ({}, 0)
