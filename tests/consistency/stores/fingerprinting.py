"""The suite, part two: fingerprints of segments."""

from __future__ import annotations

import math
from typing import Any

import pytest

from consistency.rows import Row, Span
from consistency.stores.protocol import Fingerprint, Fingerprints, Segment
from tests.consistency.stores.stand import SECOND, START, Stand, Suite, events, opened, read

SPAN = Span(START, START + 60 * SECOND)
STEP = 10 * SECOND


def differing(old: Fingerprints, new: Fingerprints) -> set[Segment]:
    """Segments whose rows have to be fetched, but for those of series that are unread."""
    return {
        segment
        for segment in {*old.segments, *new.segments}
        if not _agree(old.segments.get(segment), new.segments.get(segment))
    }


def _agree(one: Fingerprint | None, other: Fingerprint | None) -> bool:
    if one is None or other is None or one.rows != other.rows or one.figures.keys() != other.figures.keys():
        return False
    return all(math.isclose(value, other.figures[name], rel_tol=1e-9) for name, value in one.figures.items())


async def of_both(stand: Stand, other: Stand, old: list[Row], new: list[Row]) -> tuple[Fingerprints, Fingerprints]:
    """Fingerprints of two stores with these rows."""
    first, second = await opened(stand, old), await opened(other, new)
    assert first.traits.fingerprint == second.traits.fingerprint
    return await first.fingerprints(SPAN, STEP), await second.fingerprints(SPAN, STEP)


@pytest.mark.asyncio
class Fingerprinting(Suite):
    """What every fingerprint shows: another number, a missing row, a row too many."""

    async def test_equal_rows_have_equal_fingerprints_whatever_order_they_came_in(
        self, stand: Stand, other: Stand
    ) -> None:
        rows = events(stand, 60)
        old, new = await of_both(stand, other, rows, rows[30:][::-1] + rows[:30])
        assert differing(old, new) == set()
        assert old.unread == new.unread
        assert old.segments

    async def test_segments_begin_with_the_span_and_hold_every_row_once(self, stand: Stand) -> None:
        rows = events(stand, 70, at=START - 5 * SECOND)
        store = await opened(stand, [*rows[:25], *rows[35:]])
        said = await store.fingerprints(SPAN, STEP)
        starts = {segment.start for segment in said.segments}
        assert starts == {START + number * STEP for number in (0, 1, 3, 4, 5)}, "a segment without rows is left out"
        assert all(figures.rows > 0 for figures in said.segments.values())
        span = Span(START + 3 * SECOND, START + 4 * SECOND)
        assert {each.start for each in (await store.fingerprints(span, STEP)).segments} == {span.start}
        assert (await store.fingerprints(Span(0, START - 60 * SECOND), 10**15)).segments == {}

    async def test_series_of_segments_are_series_of_rows(self, stand: Stand) -> None:
        store = await opened(stand, events(stand, 60))
        said = await store.fingerprints(SPAN, STEP)
        for series in {segment.series for segment in said.segments}:
            assert await read(store, SPAN, frozenset({series}))

    async def test_one_changed_number_shows_in_its_segment_alone(self, stand: Stand, other: Stand) -> None:
        rows = events(stand, 60)
        changed = rows.copy()
        changed[33] = changed[33]._replace(fields=changed[33].fields | {"whole": 34})
        old, new = await of_both(stand, other, rows, changed)
        assert {segment.start for segment in differing(old, new)} == {START + 3 * STEP}

    async def test_a_lost_row_and_two_for_two_others_show(self, stand: Stand, other: Stand) -> None:
        rows = events(stand, 60)
        twins = [rows[20]._replace(identity=stand.identity(name)) for name in ("twin one", "twin two")]
        others = [rows[21]._replace(identity=stand.identity(name)) for name in ("twin one", "twin two")]
        old, new = await of_both(stand, other, [*rows[:55], *rows[56:], *twins], [*rows, *others])
        assert {segment.start for segment in differing(old, new)} == {START + 2 * STEP, START + 5 * STEP}

    async def test_text_that_changed_is_read_or_shows(self, stand: Stand, other: Stand) -> None:
        rows = events(stand, 60)
        changed = rows.copy()
        changed[33] = changed[33]._replace(fields=changed[33].fields | {"note": "another note"})
        old, new = await of_both(stand, other, rows, changed)
        found = {START + 3 * STEP} <= {segment.start for segment in differing(old, new)}
        assert found or old.unread & new.unread


@pytest.mark.asyncio
class Hashing(Suite):
    """Where fingerprints are made of hashes of whole rows, every change shows and nothing is unread."""

    async def test_every_change_of_one_field_shows(self, stand: Stand, other: Stand) -> None:
        rows = events(stand, 6, step=STEP)
        changed = [
            rows[0]._replace(fields=rows[0].fields | {"note": "note 0 "}),
            rows[1]._replace(fields=rows[1].fields | {"note": ""}),
            rows[2]._replace(fields={"whole": 2, "ratio": 2 / 7}),
            rows[3]._replace(fields=rows[3].fields | {"ratio": math.nextafter(3 / 7, 1)}),
            rows[4]._replace(at=rows[4].at + stand.traits.precision),
            rows[5]._replace(identity=stand.identity("event 00000 5")),
        ]
        old, new = await of_both(stand, other, rows, changed)
        assert differing(old, new) == set(old.segments) == set(new.segments)
        assert old.unread == new.unread == frozenset()

    async def test_values_that_changed_places_show(self, stand: Stand, other: Stand) -> None:
        """Count, sum, least and greatest of every column are the same."""
        rows = events(stand, 60)
        moved = rows.copy()
        moved[42] = rows[42]._replace(fields=rows[43].fields)
        moved[43] = rows[43]._replace(fields=rows[42].fields)
        old, new = await of_both(stand, other, rows, moved)
        assert {segment.start for segment in differing(old, new)} == {START + 4 * STEP}

    async def test_a_row_twice_for_another_one_twice_shows(self, stand: Stand, other: Stand) -> None:
        """Hashes that were XORed would say nothing: each pair is zero."""
        rows = events(stand, 60)
        one, two = rows[20]._replace(fields={"whole": 1}), rows[20]._replace(fields={"whole": 2})
        old, new = await of_both(stand, other, [*rows, one, one], [*rows, two, two])
        assert {segment.start for segment in differing(old, new)} == {START + 2 * STEP}

    async def test_what_stands_where_in_a_row_shows(self, stand: Stand, other: Stand) -> None:
        """No two rows are the same text: absent and empty, and borders between values."""
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"note": ""}, {}),
            ({"note": "1"}, {"whole": 1}),
            ({"note": ",", "whole": 1}, {"note": "", "whole": 1}),
            ({"note": "null"}, {}),
            ({"note": '"'}, {"note": '""'}),
            ({"note": "\\"}, {"note": "\\\\"}),
        ]
        old, new = await of_both(
            stand,
            other,
            [Row(stand.identity("one"), START + n * STEP, one) for n, (one, _) in enumerate(pairs)],
            [Row(stand.identity("one"), START + n * STEP, two) for n, (_, two) in enumerate(pairs)],
        )
        assert len(differing(old, new)) == len(pairs)

    async def test_figures_are_whole_numbers_that_floats_hold(self, stand: Stand) -> None:
        store = await opened(stand, events(stand, 60))
        for fingerprint in (await store.fingerprints(SPAN, 60 * SECOND)).segments.values():
            assert fingerprint.rows == 60
            assert all(value == int(value) and abs(value) < 2**53 for value in fingerprint.figures.values())
