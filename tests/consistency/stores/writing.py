"""The suite, part three: rows that are written, and rows that stay as they are."""

from __future__ import annotations

import pytest

from consistency.rows import Row
from consistency.stores.protocol import CHUNK
from tests.consistency.stores.stand import NAMES, SECOND, START, Stand, Suite, events, opened, plain, read


@pytest.mark.asyncio
class Writing(Suite):
    """Repair and backfill."""

    async def test_what_is_missing_is_written_exactly_and_counted(self, stand: Stand) -> None:
        rows = events(stand, 30)
        store = await opened(stand, rows[::3])
        assert await store.write(rows) == 20
        assert plain(await read(store)) == plain(rows)

    async def test_twice_changes_nothing(self, stand: Stand) -> None:
        rows = events(stand, 30)
        store = await opened(stand)
        assert await store.write(rows) == 30
        assert await store.write(rows) == 0
        assert await store.write([]) == 0
        assert plain(await read(store)) == plain(rows)

    async def test_a_row_that_is_given_twice_is_written_once(self, stand: Stand) -> None:
        row = events(stand, 1)[0]
        store = await opened(stand)
        assert await store.write([row, row, row._replace(fields={"whole": 5})]) == 1
        assert plain(await read(store)) == plain([row])

    async def test_what_is_there_stays_as_it_is(self, stand: Stand) -> None:
        """Also where its content is another one: somebody wrote it later than what is repaired."""
        rows = events(stand, 3)
        store = await opened(stand, rows)
        others = [row._replace(fields={"whole": 99, "note": "older"}) for row in rows]
        new = Row(stand.identity("new"), START + 9 * SECOND, {"whole": 3})
        assert await store.write([*others, new]) == 1
        assert plain(await read(store)) == plain([*rows, new])

    async def test_values_and_identities_are_written_as_they_are(self, stand: Stand) -> None:
        rows = [
            Row(stand.identity(f"value {number}"), START + number * SECOND, {name: value})
            for number, (name, value) in enumerate(stand.values)
        ]
        rows += [
            Row(stand.identity(name), START + (1000 + number) * SECOND, {"whole": number})
            for number, name in enumerate(NAMES)
        ]
        store = await opened(stand)
        assert await store.write(rows) == len(rows)
        for found, row in zip(await read(store), rows, strict=True):
            assert plain([found]) == plain([row])

    async def test_what_was_read_can_be_written_elsewhere(self, stand: Stand, other: Stand) -> None:
        rows = events(stand, 50, step=stand.traits.precision)
        store, second = await opened(stand, rows), await opened(other)
        assert await second.write(await read(store)) == 50
        assert plain(await read(second)) == plain(rows)

    async def test_more_than_a_chunk_is_written(self, stand: Stand) -> None:
        rows = events(stand, CHUNK + 200)
        store = await opened(stand, rows[:100])
        assert await store.write(rows) == CHUNK + 100
        assert plain(await read(store)) == plain(rows)
