"""The whole run: its files, and the command line."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.__main__ import parse_arguments
from benchmarks.bench import FULL, QUICK, SMOKE
from benchmarks.cases import CASES
from benchmarks.plots import Bar
from benchmarks.report import Part, Plot, Report, Table, Target


def report() -> Report:
    table = Table("A table", ["proxy", "CPU"], [["nginx", "10.0"], ["crossfade", "11.0"]], note="A note.")
    targets = [Target("ratio", "1.10", "≤ 1.10", met=True), Target("p99", "3 ms", "≤ 2 ms", met=False)]
    bars = [Bar("nginx <1>", 10.0, 9.0, 11.0), Bar("crossfade", 11.0, 10.5, 12.0)]
    part = Part(
        {"cpu": [10.0, 11.0]}, [table], targets, [Plot("cost", "What it costs", "µs", bars)], {"flame": b"<svg/>"}
    )
    return Report(
        {"CPU": "one"}, rounds=5, seconds=6, parts={"split": part, "none": Part(None)}, failed={"dead": "waited"}
    )


def test_all_forms_say_the_same(tmp_path: Path) -> None:
    path = report().write(tmp_path / "results", "now")
    plain = json.loads(path.read_text())
    assert (plain["machine"], plain["split"], plain["none"]) == ({"CPU": "one"}, {"cpu": [10.0, 11.0]}, None)
    assert [target["met"] for target in plain["targets"]] == [True, False]
    written = path.with_suffix(".md").read_text()
    assert "| crossfade | 11.0 |" in written
    assert "A note." in written
    assert "**FAILED** dead: waited" in written
    assert "| ratio | 1.10 | ≤ 1.10 | met |" in written
    assert "| p99 | 3 ms | ≤ 2 ms | **MISSED** |" in written


def test_a_plot_is_a_picture_by_itself_with_everybody_and_without_script(tmp_path: Path) -> None:
    report().write(tmp_path, "now")
    drawn = (tmp_path / "now-cost.svg").read_text()
    words = "".join(ET.fromstring(drawn).itertext())
    for expected in ("nginx <1>", "crossfade", "10.0 (9.0-11.0)", "11.0 (10.5-12.0)", "What it costs"):
        assert expected in words
    assert "http://kozea.github.com" not in drawn
    assert ".js" not in drawn


def test_pictures_are_kept_beside_the_plots(tmp_path: Path) -> None:
    report().write(tmp_path, "now")
    assert (tmp_path / "now-flame.svg").read_bytes() == b"<svg/>"


def test_arguments() -> None:
    usual = parse_arguments([])
    assert (usual.amounts, usual.only, usual.strict) == (FULL, list(CASES), False)
    quick = parse_arguments(["--quick", "--rounds", "1", "--only", "dead", "--strict"])
    assert (quick.amounts, quick.only, quick.strict) == (QUICK._replace(rounds=1), ["dead"], True)
    assert set(parse_arguments(["--quick"]).only) < CASES.keys()
    assert (parse_arguments(["--smoke"]).amounts, parse_arguments(["--smoke"]).only) == (SMOKE, list(CASES))


def test_quick_and_smoke_are_two_things(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--quick", "--smoke"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_whole_run_has_five_rounds() -> None:
    assert FULL.rounds >= 5
