"""verify on the command line: what it asks the checker, what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import verify
from proxy.cli.failure import Failure
from tests.cli.conftest import Ctl

SAID: dict[str, Any] = {
    "result": "pass",
    "routes": ["events"],
    "from": "2026-01-31T12:00:00Z",
    "to": "2026-01-31T13:00:00Z",
    "record": "three-way",
    "depth": "rows",
    "windows": {"judged": 60, "pending": 0, "inconclusive": 0},
    "classes": {"equal": 1000, "lost": 0},
    "settled": 1000,
    "mismatches": 0,
    "mismatch_rate": 0.0,
    "enriched_fields": 0,
    "fields": {"different": {}, "tolerated": {}},
    "unused_rules": [],
    "unseen_json_fields": [],
    "timeless_events": 0,
    "inconclusive": [],
    "findings": [],
    "findings_untold": 0,
    "timeline": [],
    "duration_s": 0.5,
}


class Checker:
    """Stands in for the process. said: its answer."""

    def __init__(self) -> None:
        self.said = dict(SAID)
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return self.said


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> Checker:
    made = Checker()
    monkeypatch.setattr(verify, "ask_checker", made)
    return made


@pytest.mark.parametrize(("result", "code"), [("pass", 0), ("nodata", 1), ("fail", 1), ("inconclusive", 1)])
def test_the_verdict_is_the_exit_code(ctl: Ctl, checker: Checker, result: str, code: int) -> None:
    checker.said["result"] = result
    done = ctl("verify")
    assert done.code == code
    assert done.out.startswith(f"{result}: 0 mismatches of 1,000 settled events (0 %) of route events")
    assert ctl("verify", "-o", "json").json == checker.said


def test_what_is_asked(ctl: Ctl, checker: Checker) -> None:
    ctl("verify", "--config", "a.yaml", "--route", "events", "--from", "2026-01-31T12:00:00Z", "--to", "1769864400.25")
    assert checker.asked[0] == {
        "do": "verify",
        "config": "a.yaml",
        "route": "events",
        "from_ns": 1_769_860_800_000_000_000,
        "to_ns": 1_769_864_400_250_000_000,
        "full": False,
        "repair": False,
        "dry_run": False,
        "two_way": False,
        "live": False,
        "top": 20,
    }
    ctl("verify", "--repair", "--dry-run", "--without-ledger", "--top", "3")
    asked = checker.asked[1]
    assert (asked["repair"], asked["dry_run"], asked["two_way"], asked["top"]) == (True, True, True, 3)
    assert (asked["from_ns"], asked["to_ns"]) == (None, None), "the checker knows its default"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "5"], "--to needs --from"),
        (["--dry-run"], "about --repair"),
        (["--without-ledger"], "about --repair"),
        (["--since", "1h", "--from", "5"], "not allowed with"),
        (["--from", "2026-02-31"], "is no time"),
        (["--top", "0"], "whole number from 1"),
        (["--live", "--repair"], "neither reads nor repairs"),
        (["--live", "--full"], "neither reads nor repairs"),
    ],
)
def test_usage(ctl: Ctl, checker: Checker, options: list[str], message: str) -> None:
    done = ctl("verify", *options)
    assert done.code == 2
    assert message in done.err
    assert checker.asked == []


def test_what_was_found_already_is_asked_for_and_dated(ctl: Ctl, checker: Checker) -> None:
    checker.said |= {"record": "as the live checker found it", "judged_until": "2026-01-31T12:59:00Z"}
    done = ctl("verify", "--live")
    assert checker.asked[0]["live"]
    assert "judged      until 2026-01-31T12:59:00Z" in done.out
    ctl("diff", "--live", "--class", "lost")
    assert (checker.asked[1]["live"], checker.asked[1]["class"]) == (True, "lost")
    done = ctl("diff", "--live", "--full")
    assert (done.code, len(checker.asked)) == (2, 2)


def test_what_was_too_young_is_told(ctl: Ctl, checker: Checker) -> None:
    checker.said |= {"left_out_s": 5.0}
    assert "left out    what is younger than 5 s: a store may not show it yet" in ctl("verify").out


def test_a_page_is_written_beside_what_is_printed(ctl: Ctl, checker: Checker, tmp_path: Path) -> None:
    done = ctl("verify", "--html", str(tmp_path / "report.html"))
    assert done.out.startswith("pass: 0 mismatches")
    assert "1,000 settled events" in (tmp_path / "report.html").read_text()
    done = ctl("verify", "--html", str(tmp_path / "none" / "report.html"))
    assert done.code == 1
    assert "report.html cannot be written: No such file or directory" in done.err
    assert done.out.startswith("pass: 0 mismatches"), "what was found is told all the same"


def test_the_real_process_says_what_is_wrong(ctl: Ctl, tmp_path: Path) -> None:
    done = ctl("verify", "--config", str(tmp_path / "none.yaml"))
    assert done.code == 2
    assert "none.yaml: cannot read it: No such file or directory" in done.err
    (tmp_path / "bad.yaml").write_text("version: 1\n")
    done = ctl("verify", "--config", str(tmp_path / "bad.yaml"), "-o", "json")
    assert (done.code, done.out) == (2, "")
    assert "bad.yaml has" in json.loads(done.err)["error"]["message"]


def test_a_checker_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Failure, match="ended with 1 and without an answer"):
        verify.ask_checker({})


DIFFERENT = {
    "identity": "e1\x1b[31m",
    "time": "2026-01-31T12:00:07Z",
    "class": "different",
    "by": [],
    "ids": ["e1"],
    "differences": [{"path": "/body/t", "reason": "value", "old": 1.5, "new": "x" * 100}],
}


def test_diff_shows_both_sides(ctl: Ctl, checker: Checker) -> None:
    assert ctl("diff").code == 0
    assert "nothing of the kind was found" in ctl("diff").out
    lost = DIFFERENT | {"identity": "e2", "class": "lost", "by": ["new"], "differences": []}
    checker.said |= {"result": "fail", "findings": [DIFFERENT, lost], "findings_untold": 7}
    done = ctl("diff", "--class", "different", "--field", "/body", "--top", "2")
    assert done.code == 1
    asked = checker.asked[-1]
    assert (asked["do"], asked["class"], asked["field"], asked["top"]) == ("diff", "different", "/body", 2)
    assert "repair" not in asked
    assert "field    old  new" in done.out
    assert "/body/t  1.5  '" in done.out
    assert "e2  2026-01-31T12:00:07Z  lost by new" in done.out
    assert "and 7 more: --top N" in done.out
    assert "\x1b" not in done.out


def test_a_field_is_a_pointer(ctl: Ctl, checker: Checker) -> None:
    done = ctl("diff", "--field", "body/temperature")
    assert done.code == 2
    assert "--field /body/temperature" in done.err
    assert checker.asked == []


def test_a_diff_that_could_not_read_all_is_1(ctl: Ctl, checker: Checker) -> None:
    checker.said |= {
        "inconclusive": [{"from": "2026-01-31T12:00:00Z", "windows": 1, "reason": "store old: gone"}],
        "suggestions": [],
    }
    done = ctl("diff")
    assert done.code == 1
    assert "store old: gone" in done.out
    assert ctl("suggest").code == 1


def test_suggest_gives_lines_to_copy(ctl: Ctl, checker: Checker) -> None:
    checker.said["suggestions"] = []
    done = ctl("suggest", "--since", "24h")
    assert done.code == 0
    assert "nothing that differs looks like noise" in done.out
    checker.said["suggestions"] = [
        {
            "rule": {"path": "/t", "compare": "tolerance", "rel": 1e-07},
            "yaml": "- {path: /t, compare: tolerance, rel: 1e-07}",
            "differ": 5,
            "settled": 1000,
            "why": "numbers that differ by 5e-08 of themselves at most",
        }
    ]
    done = ctl("suggest")
    assert done.code == 0
    assert "  - {path: /t, compare: tolerance, rel: 1e-07}\n      # 5 of 1,000 events: numbers that differ" in done.out
    assert "none of them is applied" in done.out
    assert ctl("suggest", "-o", "json").json == checker.said


@pytest.mark.parametrize("command", ["verify", "diff", "suggest"])
def test_the_span_of_each(ctl: Ctl, checker: Checker, command: str) -> None:
    assert ctl(command, "--to", "5").code == 2
    assert checker.asked == []
