"""The file of a staged plan: what it says, and what is wrong with it, with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigErrors
from config.plan import ANALYSIS, HOLD, KEEP_OLD, WEIGHTS
from config.rollout import load_plan

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "rollout.yaml"


def plan(folder: Path, text: str) -> dict[str, object]:
    path = folder / "plan.yaml"
    path.write_text(text)
    return load_plan(str(path)).plan.as_request()


def test_the_example_is_a_plan() -> None:
    request = load_plan(str(EXAMPLE)).plan.as_request()
    assert request["steps"] == [
        {"weight": 1.0, "hold": 600.0, "samples": 500},
        {"weight": 10.0, "hold": 300.0, "samples": 500},
        {"weight": 25.0, "hold": 300.0, "samples": 500},
        {"weight": 50.0, "hold": 300.0, "samples": 500},
        {"weight": 100.0, "hold": 1800.0, "samples": 500},
    ]
    assert request["auto_promote"] is True


def test_a_plan_that_says_nothing_has_the_usual_steps(tmp_path: Path) -> None:
    request = plan(tmp_path, "version: 1\nauto_promote: false\n")
    assert request["steps"] == [{"weight": weight, "hold": HOLD, "samples": 0} for weight in WEIGHTS]
    assert request["auto_promote"] is False


def test_gates_are_those_of_the_plan_unless_a_step_has_its_own(tmp_path: Path) -> None:
    request = plan(
        tmp_path,
        "version: 1\nbefore: [warm]\ngates: [smoke]\non_revert: [page]\n"
        "steps:\n  - {weight: 10}\n  - {weight: 50, gates: [smoke, approve], before: [], after: [tell]}\n",
    )
    steps = request["steps"]
    assert isinstance(steps, list)
    first, second = steps
    assert (first["before"], first["gates"], "after" in first) == (("warm",), ("smoke",), False)
    assert (second["gates"], second["after"], "before" in second) == (("smoke", "approve"), ("tell",), False)
    assert request["on_revert"] == ("page",)


def test_strategies_become_steps(tmp_path: Path) -> None:
    def stops(text: str) -> list[tuple[float, float]]:
        steps = plan(tmp_path, f"version: 1\n{text}")["steps"]
        assert isinstance(steps, list)
        return [(step["weight"], step["hold"]) for step in steps]

    assert stops("strategy: blue-green\n") == [(0, ANALYSIS), (100, KEEP_OLD)]
    assert stops("strategy: blue-green\nanalysis: 1m\nkeep_old: 2h\n") == [(0, 60), (100, 7200)]
    assert stops("analysis: 1m\nsteps: [{weight: 50}]\n") == [(0, 60), (50, HOLD)]


def test_limits_of_latency(tmp_path: Path) -> None:
    assert plan(tmp_path, "version: 1\nlatency: {p95: 500ms}\n")["latency"] == {"p95": 0.5}
    assert plan(tmp_path, "version: 1\nimprovement: {p50: 10%}\n")["improvement"] == {"p50": 0.1}
    assert plan(tmp_path, "version: 1\n").keys() == {"steps", "auto_promote"}


def test_steps_that_a_strategy_adds_have_no_place_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("version: 1\nanalysis: 1m\nbefore: [warm]\nsteps:\n  - {weight: 50, before: [cold]}\n")
    read = load_plan(str(path))
    assert read.wrong_at(("steps", 0, "before", 0), "no gate").place == (3, 10)
    assert read.wrong_at(("steps", 1, "before", 0), "no gate").place == (5, 27)


def test_what_is_found_wrong_later_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("version: 1\ngates: [smoke]\nsteps:\n  - {weight: 10}\n  - {weight: 50, gates: [smoke, smok]}\n")
    read = load_plan(str(path))
    assert read.wrong_at(("steps", 1, "gates", 1), "no gate").place == (5, 33)
    assert read.wrong_at(("steps", 0, "gates", 0), "no gate").place == (2, 9), "the plan's own"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "version: 1\nsteps:\n  - {weight: 50}\n  - {weight: 25}\n",
            ":4:14: 25 % does not rise above the 50 %",
        ),
        ("version: 1\nhold: 0s\n", ":2:7: must be more than 0"),
        ("version: 1\nhold: 0\n", ":2:7: must be more than 0"),
        ("version: 1\nlatency: {p95: 500}\n", "a unit, not 500 (did you mean '500ms'?)"),
        ("version: 1\nsteps:\n  - {weight: 10, hold: 0s}\n", ":3:24: must be more than 0"),
        ("version: 1\nsteps:\n  - {weight: 0}\n", ":3:14: 0 % is no step: `analysis`"),
        ("version: 1\nstrategy: blue-green\nsteps: [{weight: 5}]\n", ":3:1: blue-green has no steps"),
        ("version: 1\nkeep_old: 1h\n", ":2:1: belongs to blue-green"),
        ("version: 1\nlatency: {p50: 1s}\nimprovement: {p50: 1%}\n", ":3:1: latency and improvement are two ways"),
        ("version: 1\nstrategy: green\n", ":2:11: expected one of canary, blue-green"),
        ("version: 1\nsteps:\n  - {weight: 101}\n", ":3:14: "),
        ("version: 1\nsteps:\n  - {weight: 10, gate: loki}\n", ":3:18: unknown key 'gate'"),
        ("version: 1\nsteps:\n  - {weight: 10, samples: -1}\n", ":3:27: "),
        ("version: 1\nsteps: []\n", ":2:8: "),
        ("version: 1\nstep: []\n", ":2:1: unknown key 'step' (did you mean 'steps'?)"),
        ("steps:\n  - {weight: 10}\n", "missing key 'version'"),
        ("version: 2\n", ":1:10: "),
        ("- 10\n- 20\n", "expected keys such as `steps:`"),
        ("version: 1\nsteps: [\n", ":3:1: "),
        ("version: 1\nhold: ${NOWHERE}\n", "NOWHERE"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        plan(tmp_path, text)
    assert said in str(caught.value)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"version: \xff\xfe\n")
    with pytest.raises(ConfigErrors):
        load_plan(str(tmp_path / "plan.yaml"))
