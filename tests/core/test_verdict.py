"""One word for what was found, the worst first."""

from __future__ import annotations

import pytest

from proxy.core.verdict import FAIL, INCONCLUSIVE, NODATA, PASS, Verdict, verdict


@pytest.mark.parametrize(
    ("failed", "alerts", "doubts", "samples", "expected"),
    [
        ([], [], [], 0, Verdict(NODATA)),
        ([], [], [], 5, Verdict(PASS, (), 5)),
        ([], [], ["d"], 5, Verdict(INCONCLUSIVE, ("d",), 5)),
        ([], ["a"], ["d"], 5, Verdict(INCONCLUSIVE, ("a", "d"), 5, ("a",))),
        (["f"], ["a"], ["d"], 5, Verdict(FAIL, ("f",), 5, ("a",))),
        (["f"], [], [], 0, Verdict(FAIL, ("f",), 0)),
    ],
)
def test_the_worst_is_the_word(
    failed: list[str], alerts: list[str], doubts: list[str], samples: int, expected: Verdict
) -> None:
    assert verdict(failed, alerts, doubts, samples) == expected
