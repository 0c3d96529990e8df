"""Exported files: the suite over Parquet with times of all sorts, other formats and types, and what goes wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from config.stores import FilesStore as Settings
from consistency.rows import Key, Row, Span
from consistency.stores.errors import StoreGarbage, StoreMissing, StoreRefused, StoreUnreachable
from consistency.stores.files import FilesStore
from tests.consistency.stores.failing import Failing
from tests.consistency.stores.files_stand import NAME, FilesStand, MakeFiles
from tests.consistency.stores.reading import Reading, RowsOfOneIdentity
from tests.consistency.stores.stand import EVER, SECOND, START, Damage, events, opened, plain, read


def _renamed(before: str, after: str) -> Callable[[FilesStand], Awaitable[None]]:
    async def rename(stand: FilesStand) -> None:
        for file in list(stand.folder.glob(f"*.{before}")):
            file.rename(file.with_suffix(f".{after}"))

    return rename


def _more(query: str) -> Callable[[FilesStand], Awaitable[None]]:
    """One file more, of these columns."""

    async def add(stand: FilesStand) -> None:
        stand.copy(query, "more.parquet")

    return add


async def _no_more(stand: FilesStand) -> None:
    (stand.folder / "more.parquet").unlink()


async def _garbage(stand: FilesStand) -> None:
    (stand.folder / "more.parquet").write_bytes(b"no parquet at all" * 100)


_ALL: Final = ("open", "rows", "fetch")
_ROW: Final = "1 AS whole, 1.0::DOUBLE AS ratio, true AS flag, 'x' AS note"


class FailingFiles(Failing):
    """Everything that goes wrong with files."""

    DAMAGES: Final = {
        "no files": Damage(
            StoreMissing, ("there are no such files",), _renamed("parquet", "away"), _renamed("away", "parquet"), _ALL
        ),
        "garbage": Damage(StoreGarbage, ("more.parquet",), _garbage, _no_more, ("rows", "fetch")),
        "no time": Damage(
            StoreGarbage, ("no time",), _more(f"SELECT 'bad' AS id, NULL::BIGINT AS \"at\", {_ROW}"), _no_more, ()
        ),
        "no identity": Damage(
            StoreGarbage,
            ("names the event",),
            _more(f'SELECT NULL::VARCHAR AS id, {START} AS "at", {_ROW}'),
            _no_more,
            ("rows",),
        ),
        "other columns": Damage(
            StoreGarbage,
            ("names the event",),
            _more(f"SELECT 'x' AS name, {START} AS \"at\", {_ROW}"),
            _no_more,
            ("rows",),
        ),
    }


class TestParquet(Reading, RowsOfOneIdentity, FailingFiles):
    @pytest.fixture
    def make_stand(self, make_files: MakeFiles) -> MakeFiles:
        return make_files


TIMES: Final = {
    "whole nanoseconds": ("ns", 1, "ns"),
    "milliseconds": ("ns // 1000000", 10**6, "ms"),
    "seconds as floats": ("ns / 1e9", 1000, "s"),
    "seconds as decimals": ("(ns::DECIMAL(30, 0) / 1000000000)::DECIMAL(20, 6)", 1000, "s"),
    "timestamps": ("make_timestamp_ns(ns)", 1, "s"),
    "timestamps of microseconds": ("make_timestamp(ns // 1000)", 1000, "s"),
    "timestamps with a zone": ("make_timestamp(ns // 1000)::TIMESTAMPTZ", 1000, "s"),
    "text": ("strftime(make_timestamp(ns // 1000), '%Y-%m-%dT%H:%M:%S.%fZ')", 1000, "s"),
    "text with an offset": ("strftime(make_timestamp(ns // 1000 + 7200000000), '%Y-%m-%d %H:%M:%S.%f+02')", 1000, "s"),
}
"""What stands in the column, in SQL; precision in nanoseconds; `time_unit`."""


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", TIMES)
async def test_times_of_all_sorts(kind: str, make_files: MakeFiles) -> None:
    stored, precision, unit = TIMES[kind]
    stand = await make_files(stored, time_unit=unit)
    rows = events(stand, 40, step=precision)
    store = await opened(stand, rows[::-1])
    assert store.traits.precision == precision
    assert [row.at for row in await read(store)] == [row.at for row in rows]
    assert plain(await read(store, Span(START + 3 * precision, START + 9 * precision))) == plain(rows[3:9])
    assert plain(await store.fetch([rows[7].key])) == plain([rows[7]])


FORMS: Final = {
    "parquet": "FORMAT parquet",
    "csv": "FORMAT csv, HEADER",
    "ndjson": "FORMAT json",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("form", FORMS)
async def test_formats_hold_the_same(form: str, make_files: MakeFiles, tmp_path: Path) -> None:
    stand = await make_files()
    rows = events(stand, 50)
    await stand.fill(rows)
    stand.copy(f"SELECT * EXCLUDE flag FROM '{stand.folder}/*.parquet') TO '{tmp_path}/out' ({FORMS[form]}); --", "x")
    store = FilesStore(
        NAME,
        Settings.model_validate(
            {"files": str(tmp_path / "out"), "format": form, "identity": ("id",), "time": "at", "time_unit": "ns"}
        ),
    )
    try:
        await store.open()
        assert plain(await read(store)) == plain(rows)
    finally:
        await store.close()


@pytest.mark.asyncio
async def test_types_that_rows_do_not_have_become_text_or_documents(make_files: MakeFiles) -> None:
    stand = await make_files()
    (stand.folder / "part-1.parquet").unlink()
    stand.copy(
        f"SELECT 'a' AS id, {START} AS \"at\", 12.50::DECIMAL(10, 2) AS price, DATE '2026-01-31' AS day, "
        "TIMESTAMP '2026-01-31 12:00:00.5' AS moment, {'x': 1, 'y': [true, NULL]} AS shape, [1, 2] AS list, "
        "'6f1b3f5e-0000-4000-8000-000000000001'::UUID AS uuid, '\\xFF'::BLOB AS octets, "
        "NULL::INTEGER AS none, 1.5::FLOAT AS single",
        "a.parquet",
    )
    (row,) = await read(await opened(stand))
    assert row.fields == {
        "price": "12.50",
        "day": "2026-01-31",
        "moment": "2026-01-31 12:00:00.5",
        "shape": {"x": 1, "y": [True, None]},
        "list": [1, 2],
        "uuid": "6f1b3f5e-0000-4000-8000-000000000001",
        "octets": b"\xff",
        "single": 1.5,
    }


@pytest.mark.asyncio
async def test_several_columns_and_numbers_name_an_event(make_files: MakeFiles) -> None:
    stand = await make_files(identity=("note", "whole"))
    await stand.fill(
        [Row("unused", START, {"note": "light.desk", "whole": 7}), Row("unused", START, {"note": "x"})][:1]
    )
    store = await opened(stand)
    (row,) = await read(store)
    assert row.identity == '["light.desk","7"]'
    assert plain(await store.fetch([row.key, Key('["light.desk","8"]', 0), Key("no names of two", 0)])) == plain([row])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"identity": ("ratio",)}, StoreGarbage, "names no event"),
        ({"time": "flag"}, StoreGarbage, "which is no time"),
        ({"time": "when"}, StoreMissing, "has no column when; it has id, at"),
        ({"columns": ("whole", "colour")}, StoreMissing, "has no column colour"),
    ],
)
async def test_columns_that_cannot_be_used(
    settings: dict[str, Any], error: type[Exception], words: str, make_files: MakeFiles
) -> None:
    stand = await make_files(**settings)
    with pytest.raises(error, match=words):
        await stand.store().open()


@pytest.mark.asyncio
async def test_files_are_not_written_to(make_files: MakeFiles) -> None:
    stand = await make_files()
    store = await opened(stand, events(stand, 2))
    with pytest.raises(StoreRefused, match="mend the database that they came from"):
        await store.write(events(stand, 3))
    with pytest.raises(NotImplementedError):
        await store.fingerprints(EVER, SECOND)


@pytest.mark.asyncio
async def test_a_question_that_takes_too_long_is_given_up(make_files: MakeFiles) -> None:
    stand = await make_files()
    await stand.fill(events(stand, 5000))
    store = stand.store()
    await store.open()
    store.settings = store.settings.model_copy(update={"timeout": 0.0001})
    with pytest.raises(StoreUnreachable, match="no answer within"):
        await read(store)
    store.settings = store.settings.model_copy(update={"timeout": 5.0})
    assert len(await read(store)) == 5000
