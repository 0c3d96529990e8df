"""The suite, part one: rows of a span, rows under keys."""

from __future__ import annotations

import asyncio

import pytest

from consistency.rows import Key, Row, Span
from consistency.stores.protocol import CHUNK
from tests.consistency.stores.stand import (
    EVER,
    NAMES,
    SECOND,
    START,
    Stand,
    Suite,
    events,
    opened,
    plain,
    read,
)


@pytest.mark.asyncio
class Reading(Suite):
    """What every store reads."""

    async def test_its_traits_are_those_that_its_tests_were_picked_by(self, stand: Stand) -> None:
        store = await opened(stand, events(stand, 1))
        said = store.traits
        assert said._replace(fingerprint="") == stand.traits._replace(fingerprint="")
        assert bool(said.fingerprint) == bool(stand.traits.fingerprint)
        suite = {each.__name__ for each in type(self).__mro__}
        assert ("Points" in suite, "RowsOfOneIdentity" in suite) == (said.is_keyed_by_time, not said.is_keyed_by_time)
        assert ("Fingerprinting" in suite) == bool(said.fingerprint)
        assert ("Writing" in suite) == said.is_writable

    async def test_rows_come_in_order_of_time(self, stand: Stand) -> None:
        rows = events(stand, 300)
        store = await opened(stand, rows[150:] + rows[:150][::-1])
        found = await read(store, Span(START, START + 300 * SECOND))
        assert [row.at for row in found] == [row.at for row in rows]
        assert plain(found) == plain(rows)

    async def test_a_span_is_half_open(self, stand: Stand) -> None:
        unit = stand.traits.precision
        rows = events(stand, 3, at=START - unit, step=unit)
        store = await opened(stand, rows)
        assert plain(await read(store, Span(START, START + unit))) == plain(rows[1:2])
        assert plain(await read(store, Span(START - unit, START))) == plain(rows[:1])
        assert plain(await read(store, Span(START - unit, START + unit))) == plain(rows[:2])
        assert plain(await read(store, Span(START, START + unit + 1))) == plain(rows[1:])

    async def test_bounds_that_are_no_multiple_of_the_precision_are_bounds_all_the_same(self, stand: Stand) -> None:
        unit = stand.traits.precision
        rows = events(stand, 2, step=unit)
        store = await opened(stand, rows)
        assert plain(await read(store, Span(START - 1, START + 1))) == plain(rows if unit == 1 else rows[:1])[:1]
        assert await read(store, Span(START - 1, START)) == []
        assert plain(await read(store, Span(START + 1, START + unit + 1))) == plain(rows[1:])

    async def test_spans_with_nothing_in_them(self, stand: Stand) -> None:
        store = await opened(stand, events(stand, 3))
        unit = stand.traits.precision
        assert await read(store, Span(START, START)) == []
        assert await read(store, Span(START + 10 * SECOND, START + 20 * SECOND)) == []
        assert await read(store, Span(0, START)) == []
        assert await read(store, Span(-(10**18), -(10**17))) == []
        assert await read(store, Span(START + 2 * SECOND + unit, 2**62)) == []

    async def test_chunks_are_bounded_and_nothing_is_lost_between_them(self, stand: Stand) -> None:
        rows = events(stand, 2 * CHUNK + 100, step=SECOND)
        store = await opened(stand, rows)
        chunks = [chunk async for chunk in store.rows(EVER)]
        assert all(0 < len(chunk) <= CHUNK for chunk in chunks)
        assert [row.at for chunk in chunks for row in chunk] == [row.at for row in rows]
        assert plain(row for chunk in chunks for row in chunk) == plain(rows)

    async def test_more_rows_at_one_instant_than_a_chunk_has(self, stand: Stand) -> None:
        many = events(stand, 2 * CHUNK, step=0)
        before, after = many[:30], many[-40:]
        rows = [
            *(row._replace(at=START - SECOND) for row in before),
            *many[30 : CHUNK + 100],
            *(row._replace(at=START + SECOND) for row in after),
        ]
        store = await opened(stand, rows)
        chunks = [chunk async for chunk in store.rows(EVER)]
        assert all(0 < len(chunk) <= CHUNK for chunk in chunks)
        assert plain(row for chunk in chunks for row in chunk) == plain(rows)

    async def test_values_come_as_they_are(self, stand: Stand) -> None:
        rows = [
            Row(stand.identity(f"value {number}"), START + number * SECOND, {name: value})
            for number, (name, value) in enumerate(stand.values)
        ]
        store = await opened(stand, rows)
        for found, row in zip(await read(store), rows, strict=True):
            assert plain([found]) == plain([row])
        assert plain(await store.fetch([row.key for row in rows])) == plain(rows)

    async def test_what_is_null_is_left_out(self, stand: Stand) -> None:
        rows = [
            Row(stand.identity("all"), START, {"whole": 1, "ratio": 1.5, "note": "text"}),
            Row(stand.identity("some"), START + SECOND, {"whole": 2}),
        ]
        store = await opened(stand, rows)
        assert plain(await read(store)) == plain(rows)
        assert plain(await store.fetch([rows[1].key])) == plain(rows[1:])

    async def test_rows_are_fetched_by_key(self, stand: Stand) -> None:
        rows = events(stand, 900)
        store = await opened(stand, rows)
        missing = [Key(stand.identity(f"nobody {number}"), START) for number in range(300)]
        keys = [key for row, other in zip(rows[:600:2], missing, strict=True) for key in (row.key, other)]
        assert plain(await store.fetch(keys)) == plain(rows[:600:2])
        assert plain(await store.fetch([rows[7].key, rows[7].key])) == plain([rows[7]])
        assert await store.fetch(missing[:1]) == []
        assert await store.fetch([]) == []

    async def test_identities_of_all_sorts(self, stand: Stand) -> None:
        rows = [
            Row(stand.identity(name), START + number * SECOND, {"whole": number}) for number, name in enumerate(NAMES)
        ]
        store = await opened(stand, rows)
        assert plain(await read(store)) == plain(rows)
        for row in rows:
            assert plain(await store.fetch([row.key])) == plain([row])

    async def test_rows_of_some_series_alone(self, stand: Stand) -> None:
        """What `fingerprints` names, `rows` knows; nothing comes of the others."""
        rows = events(stand, 20)
        store = await opened(stand, rows)
        assert await read(store, series=frozenset()) == []
        assert await read(store, series=frozenset({"no such series"})) == []
        if stand.traits.fingerprint:
            said = await store.fingerprints(Span(START, START + 20 * SECOND), SECOND)
            series = {segment.series for segment in said.segments} | said.unread
            parts = [row for each in sorted(series) for row in await read(store, series=frozenset({each}))]
        else:
            parts = await read(store, series=frozenset({""}))
        assert plain(parts) == plain(rows)

    async def test_what_is_written_meanwhile_disturbs_nothing(self, stand: Stand) -> None:
        """Rows are put in before, within and behind the place where the reader stands; none that was there is lost."""
        rows = events(stand, 2 * CHUNK)
        store = await opened(stand, rows)
        new = [
            row._replace(identity=stand.identity(f"new {number}"), at=row.at)
            for number, row in enumerate(rows[:: CHUNK // 100])
        ]
        found: list[Row] = []
        async for chunk in store.rows(EVER):
            found += chunk
            if len(found) <= CHUNK:
                async with asyncio.timeout(10):
                    await stand.fill(new)
        there = plain(found)
        assert len(there) == len({(identity, at) for identity, at, _fields in there}), "none comes twice"
        known = {row.identity for row in rows}
        assert plain(row for row in found if row.identity in known) == plain(rows)

    async def test_a_reader_may_stop_in_the_middle(self, stand: Stand) -> None:
        rows = events(stand, CHUNK + 10)
        store = await opened(stand, rows)
        reader = store.rows(EVER)
        assert len(await anext(reader)) <= CHUNK
        await reader.aclose()  # type: ignore[attr-defined] # every one of ours is a generator
        assert plain(await store.fetch([rows[3].key])) == plain([rows[3]])
        assert len(await read(store)) == len(rows)

    async def test_it_may_be_closed_twice_and_opened_again(self, stand: Stand) -> None:
        rows = events(stand, 2)
        store = await opened(stand, rows)
        await store.close()
        await store.close()
        await store.open()
        assert plain(await read(store)) == plain(rows)
        await stand.store().close()


@pytest.mark.asyncio
class RowsOfOneIdentity(Suite):
    """Where rows of one identity add up."""

    async def test_duplicates_are_rows_of_their_own(self, stand: Stand) -> None:
        row = events(stand, 1)[0]
        rows = [row, row, row._replace(at=START + SECOND), row._replace(fields={"whole": 77})]
        store = await opened(stand, rows)
        assert plain(await read(store)) == plain(rows)
        assert plain(await store.fetch([row.key])) == plain(rows)

    async def test_a_row_is_found_whatever_its_time_is(self, stand: Stand) -> None:
        row = events(stand, 1)[0]
        store = await opened(stand, [row])
        assert plain(await store.fetch([Key(row.identity, START + 3600 * SECOND)])) == plain([row])


@pytest.mark.asyncio
class Points(Suite):
    """Where the time is part of the name."""

    async def test_a_point_that_was_written_twice_is_one(self, stand: Stand) -> None:
        row = events(stand, 1)[0]
        await stand.fill([row])
        store = await opened(stand, [row._replace(fields={"whole": 77})])
        merged = row._replace(fields=row.fields | {"whole": 77})
        assert plain(await read(store)) == plain([merged])
        assert plain(await store.fetch([row.key])) == plain([merged])

    async def test_points_of_one_series_at_several_times(self, stand: Stand) -> None:
        first = events(stand, 1)[0]
        rows = [first._replace(at=START + number * SECOND, fields={"whole": number}) for number in range(50)]
        store = await opened(stand, rows)
        assert plain(await store.fetch([rows[7].key, rows[20].key])) == plain([rows[7], rows[20]])
        assert await store.fetch([Key(first.identity, START - SECOND)]) == []

    async def test_all_times_of_a_step_of_precision_are_given(self, stand: Stand) -> None:
        rows = events(stand, 2)
        store = await opened(stand, rows)
        at = START + stand.traits.precision - 1
        assert plain(await store.fetch([Key(rows[0].identity, at)])) == plain(rows[:1])

    async def test_all_times_of_a_coarser_step_are_given(self, stand: Stand) -> None:
        """As the other store keeps them."""
        unit = stand.traits.precision
        start = START // (10 * unit) * 10 * unit
        first = events(stand, 1)[0]
        rows = [first._replace(at=start + number * unit, fields={"whole": number}) for number in range(30)]
        store = await opened(stand, rows)
        key = Key(first.identity, start + 13 * unit)
        assert plain(await store.fetch([key], 10 * unit)) == plain(rows[10:20])
        assert plain(await store.fetch([key, rows[29].key], 10 * unit)) == plain(rows[10:])
        assert plain(await store.fetch([key])) == plain(rows[13:14])
