"""`make test` runs every test once, in one of two processes, and fails when either does."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import whole

ROOT = Path(__file__).parents[2]


def test_what_runs_beside_is_there() -> None:
    for path in whole.BESIDE:
        assert (ROOT / path).is_file() or list((ROOT / path).rglob("test_*.py")), path


def test_figures_of_both_are_added() -> None:
    one = ["tests/a.py ...\n", "=== 2 failed, 5,120 passed in 3.20s ===\n".replace(",120", "120")]
    other = ["===== 70 passed, 1 error in 61.00s (0:01:01) =====\n", "\n"]
    assert whole.counted(one) + whole.counted(other) == Counter(failed=2, passed=5190, error=1)
    assert whole.counted(["no summary\n"]) == Counter()


@pytest.mark.parametrize(("codes", "code"), [((0, 0), 0), ((1, 0), 1), ((0, 1), 1), ((5, 1), 5), ((2, 0), 2)])
@pytest.mark.parametrize("has_network", [True, False])
def test_either_failure_is_a_failure(
    codes: tuple[int, int],
    code: int,
    has_network: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In both orders; what each said is shown, and the last line has the sum."""
    script = (
        "import sys; beside = not any('--ignore' in each for each in sys.argv); "
        f"print('=== 3 passed in 1.00s ===' if beside else '=== 4 passed in 1.00s ==='); sys.exit({codes}[beside])"
    )
    monkeypatch.setattr(whole, "PYTEST", (sys.executable, "-c", script))
    monkeypatch.setattr(whole, "own_network", lambda: ["env"] if has_network else [])
    monkeypatch.setattr(whole, "prepare", lambda: None)
    assert whole.main([]) == code
    out = capfd.readouterr().out
    assert "=== 4 passed" in out
    assert "=== 3 passed" in out
    assert "==== both: 7 passed in 0s ====" in out.splitlines()[-1].replace(" 1s", " 0s")


def test_arguments_are_pytests(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(whole, "PYTEST", (sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(4)"))
    assert whole.main(["tests/core", "-x"]) == 4
    assert capfd.readouterr().out == "['tests/core', '-x']\n"
