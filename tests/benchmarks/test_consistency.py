"""The checker's benchmark on little data: it measures what it says, and fails when the checker finds something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks.consistency import __main__ as benchmark
from benchmarks.consistency import children, inputs
from benchmarks.consistency.children import Took
from benchmarks.consistency.inputs import Inputs

QUICK = ["--quick", "--rows", "40000", "--rounds", "1"]


def test_it_measures_and_keeps_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main([*QUICK, "--only", "bulk", "windows", "spill", "--results", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "consistency.json").read_text())
    assert kept["bulk"]["rows"] == 4000
    assert kept["bulk"]["rss_mebibytes"] > 10
    assert kept["windows"]["events"] == 10_000
    assert kept["spill"]["rows"] == 400
    printed = capsys.readouterr().out
    assert "rows/s per side  (target >= 2 M: " in printed
    assert "one lost of 4,000" in printed


def test_another_finding_is_a_failed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(made: Inputs) -> Took:
        return Took(1.0, 1.0, 1, {"findings": [{"identity": made.lost, "class": "unrecorded"}]})

    monkeypatch.setattr(children, "checker", blind)
    assert benchmark.main([*QUICK, "--only", "bulk", "--results", str(tmp_path)]) == 1
    assert "FAILED: the checker found something else" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missed_target_is_1_when_it_is_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*QUICK, "--only", "bulk", "--results", str(tmp_path)]
    monkeypatch.setattr(benchmark, "BULK_BOUND", 1e12)
    assert benchmark.main(arguments) == 0
    assert benchmark.main([*arguments, "--strict"]) == 1


def test_inputs_differ_where_it_is_said(tmp_path: Path) -> None:
    made = inputs.make(tmp_path / "in", 1000)

    def query(text: str) -> Any:
        return duckdb.execute(
            text.format(old=f"'{made.folder}/old.parquet'", new=f"'{made.folder}/new.parquet'")
        ).fetchall()

    assert query("SELECT id FROM {old} EXCEPT SELECT id FROM {new}") == [(made.lost,)]
    changed = query("SELECT o.id FROM {old} o JOIN {new} n USING (id) WHERE o.temperature <> n.temperature")
    assert {name for (name,) in changed} == made.different
    assert len(made.different) == inputs.DIFFERENT
