"""backfill on the command line: what it asks the checker, what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.cli import backfill
from tests.cli.conftest import Ctl
from tests.consistency.test_verify import BEGIN, configuration, event, put

SAID: dict[str, Any] = {
    "result": "done", "routes": ["events"], "source": "old", "target": "new", "from": "2026-01-31T12:00:00Z",
    "to": "2026-01-31T13:00:00Z", "done_until": "2026-01-31T12:30:00Z", "record": "three-way", "read": 1000,
    "written": 12, "waiting": 0, "dry_run": False, "resumed_at": None, "error": "",
}  # fmt: skip
WHAT = ["--from", "old", "--to", "new", "--since", "1769860800"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked; the answer is SAID, which a test may change."""
    found: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        found.append(request)
        return SAID | changes

    monkeypatch.setattr(backfill, "ask_checker", answer)
    changes.clear()
    return found


changes: dict[str, Any] = {}


def test_it_asks_and_tells(ctl: Ctl, asked: list[dict[str, Any]]) -> None:
    done = ctl("backfill", *WHAT, "--until", "1769864400", "--rate", "50", "--config", "a.yaml", "--route", "events")
    assert done.code == 0
    assert done.out.startswith("done: 12 of 1,000 rows written from old to new")
    assert asked == [
        {
            "do": "backfill", "config": "a.yaml", "route": "events", "source": "old", "target": "new",
            "from_ns": 1_769_860_800 * 10**9, "to_ns": 1_769_864_400 * 10**9, "rate": 50.0, "restart": False,
            "dry_run": False,
        }
    ]  # fmt: skip
    assert ctl("backfill", *WHAT, "-o", "json").json == SAID


def test_what_is_not_at_its_end_is_1(ctl: Ctl, asked: list[dict[str, Any]]) -> None:
    changes.update(result="incomplete", error="store new: gone", resumed_at="2026-01-31T12:10:00Z", waiting=7)
    done = ctl("backfill", *WHAT, "--restart")
    assert done.code == 1
    assert asked[0]["restart"] is True
    for line in (
        "store new: gone",
        "the same command goes on from there",
        "at 2026-01-31T12:10:00Z",
        "7 rows are left",
    ):
        assert line in done.out


def test_a_dry_run_says_would(ctl: Ctl, asked: list[dict[str, Any]]) -> None:
    changes.update(dry_run=True)
    assert "12 of 1,000 rows would be written" in ctl("backfill", *WHAT, "--dry-run").out
    assert asked[0]["dry_run"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "old", "--since", "1h"], "--to"),
        (["--from", "old", "--to", "old", "--since", "1h"], "both old"),
        (["--from", "old", "--to", "new"], "--since"),
        ([*WHAT, "--rate", "-1"], "rows per second"),
        ([*WHAT, "--rate", "many"], "rows per second"),
    ],
)
def test_usage(ctl: Ctl, asked: list[dict[str, Any]], words: list[str], message: str) -> None:
    done = ctl("backfill", *words)
    assert done.code == 2
    assert message in done.err
    assert asked == []


def test_the_real_process(ctl: Ctl, tmp_path: Path) -> None:
    put(tmp_path, "old", event(1), event(2))
    put(tmp_path, "new", event(1))
    words = ["--config", str(configuration(tmp_path)), "--from", "old", "--to", "new", "--since", str(BEGIN)]
    done = ctl("backfill", *words)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("done: 1 of 2 rows written from old to new")


def test_what_is_too_young_is_said_to_be_left_out(ctl: Ctl, asked: list[dict[str, Any]]) -> None:
    assert "left out" not in ctl("backfill", *WHAT).out
    changes.update(left_out_s=5.0)
    assert "left out    what is younger than 5 s; the same command gets it later" in ctl("backfill", *WHAT).out
