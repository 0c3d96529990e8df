"""The guard's benchmark in short: it measures what it says, and its draws are those of the share."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks import guard


def test_it_measures_and_keeps_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.main(["--runs", "3", "--events", "3000", "--results", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "guard.json").read_text())
    assert kept["false"]["0.5%"]["guard"] == 0
    assert kept["false"]["0.5%"]["last 100"] == 3
    assert kept["events_to_detect"]["100%"] == 4
    assert "false reverts at 0.5%, 3 runs of 3,000  0 (3 by the last 100, " in capsys.readouterr().out


def test_a_missed_target_is_an_error_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SLOWER", 0.1)
    asked = ["--runs", "1", "--events", "100", "--results", str(tmp_path)]
    assert guard.main(asked) == 0
    assert guard.main([*asked, "--strict"]) == 1


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_as_many_fail_as_the_share_says(share: float) -> None:
    found = list(guard.failures(share, random.Random(1), 100_000))
    assert len(found) == pytest.approx(share * 100_000, rel=0.05)
    assert found == sorted(set(found))
    assert found[-1] < 100_000


def test_the_naive_rule_is_a_sliding_window() -> None:
    assert guard.rule_sees(1.0, 0, 1000, 100) == 100
    assert guard.rule_sees(0.0001, 0, 50, 100) is None
