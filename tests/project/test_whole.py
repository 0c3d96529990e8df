"""`make test` runs every test once, in one of its processes, and fails when any of them does."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import whole

ROOT = Path(__file__).parents[2]


PATHS = [path for paths in whole.BESIDE for path in paths]


def test_what_runs_beside_is_there_and_runs_once() -> None:
    assert len(PATHS) == len(set(PATHS))
    for path in PATHS:
        assert (ROOT / path).is_file() or list((ROOT / path).rglob("test_*.py")), path


def test_what_runs_beside_finds_installed_what_it_wants() -> None:
    """There is no way out of its network. Shells are named by a parameter."""
    wanted = set()
    for path in (*PATHS, "tests/harness", "deploy"):
        files = [ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py")
        for file in files:
            wanted |= set(re.findall(r'\b(?:program|library)\("([\w-]+)", "[\w-]+"\)', file.read_text()))
    assert {"fish", "influxd", "influxdb"} <= wanted
    assert wanted | {"zsh"} == whole.PROGRAMS.keys() | whole.LIBRARIES.keys()


def test_figures_of_both_are_added() -> None:
    one = ["tests/a.py ...\n", "=== 2 failed, 5,120 passed in 3.20s ===\n".replace(",120", "120")]
    other = ["===== 70 passed, 1 error in 61.00s (0:01:01) =====\n", "\n"]
    assert whole.counted(one) + whole.counted(other) == Counter(failed=2, passed=5190, error=1)
    assert whole.counted(["no summary\n"]) == Counter()


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0, 0), 0), ((1, 0, 0), 1), ((0, 1, 0), 1), ((0, 0, 3), 3), ((5, 1, 0), 5), ((0, 2, 1), 2)]
)
@pytest.mark.parametrize("has_network", [True, False])
def test_every_failure_is_a_failure(
    codes: tuple[int, int, int],
    code: int,
    has_network: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Of whichever process; what each said is shown, and the last line has the sum."""
    script = (
        "import sys; lane = sys.argv[-1] in ('one', 'other') and 1 + (sys.argv[-1] == 'other'); "
        f"print(f'=== {{4 - lane}} passed in 1.00s ==='); sys.exit({codes}[lane])"
    )
    monkeypatch.setattr(whole, "BESIDE", (("one",), ("other",)))
    monkeypatch.setattr(whole, "PYTEST", (sys.executable, "-c", script))
    monkeypatch.setattr(whole, "own_network", lambda: ["env"] if has_network else [])
    monkeypatch.setattr(whole, "prepare", lambda: None)
    assert whole.main([]) == code
    out = capfd.readouterr().out
    assert "=== 4 passed" in out
    assert "=== 3 passed" in out
    assert "=== 2 passed" in out
    assert "==== all: 9 passed in 0s ====" in out.splitlines()[-1].replace(" 1s", " 0s")


def test_arguments_are_pytests(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(whole, "PYTEST", (sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(4)"))
    assert whole.main(["tests/core", "-x"]) == 4
    assert capfd.readouterr().out == "['tests/core', '-x']\n"
