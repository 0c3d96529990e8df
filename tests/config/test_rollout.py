"""The file of a staged plan: what it says, and what is wrong with it, with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigErrors
from config.rollout import HOLD, WEIGHTS, load_plan

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "rollout.yaml"


def plan(folder: Path, text: str) -> dict[str, object]:
    path = folder / "plan.yaml"
    path.write_text(text)
    return load_plan(str(path)).as_request()


def test_the_example_is_a_plan() -> None:
    request = load_plan(str(EXAMPLE)).as_request()
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "version: 1\nsteps:\n  - {weight: 50}\n  - {weight: 25}\n",
            ":4:14: 25 % does not rise above the 50 %",
        ),
        ("version: 1\nhold: 0s\n", ":2:7: must be more than 0"),
        ("version: 1\nsteps:\n  - {weight: 10, hold: 0s}\n", ":3:24: must be more than 0"),
        ("version: 1\nsteps:\n  - {weight: 0}\n", ":3:14: "),
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
