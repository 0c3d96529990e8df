"""Which version reads what another one wrote."""

from __future__ import annotations

import pytest

from proxy.core.versions import can_read


@pytest.mark.parametrize(
    ("schema", "readable_from", "readers"),
    [(1, 1, [1, 2]), (2, 1, [1, 2, 3]), (3, 2, [2, 3, 4]), (3, 3, [3, 4])],
)
def test_a_version_reads_the_one_before_and_what_a_later_one_means_for_it(
    schema: int, readable_from: int, readers: list[int]
) -> None:
    found = [ours for ours in range(1, 6) if can_read(schema, readable_from, ours=ours, oldest=max(1, ours - 1))]
    assert found == readers
