"""What the live checker found, told from its journal while it writes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consistency.classes import Class
from consistency.compare import Counts, Finding
from consistency.judge import Judged
from consistency.live.journal import Journal
from consistency.live.recorded import NothingRecorded, Recorded, recorded
from consistency.report import Report
from consistency.rows import Key, Span
from consistency.rules import Difference

SIZE = 60 * 10**9
BEGIN = 1_769_860_800 * 10**9
"""2026-01-31T12:00:00Z."""


def journal(folder: Path, windows: int = 5) -> Journal:
    """Each window has ten equal events, one that differs and one that is lost; in some something was late."""
    kept = Journal(folder / "events.db", size=SIZE, begin=BEGIN, horizon=10 * SIZE)
    for number in range(windows):
        window = Span(BEGIN + number * SIZE, BEGIN + (number + 1) * SIZE)
        findings = [
            Finding(Key(f"lost-{number}", window.start + 2), Class.LOST, ("new",), ids=(f"id-{number}",)),
            Finding(
                Key(f"other-{number}", window.start + 1), Class.DIFFERENT, (), (Difference("/t/1", "value", 1, 2),)
            ),
        ]
        counts = Counts()
        counts.classes.update({Class.EQUAL: 10, Class.LATE: number % 2})
        for each in findings:
            counts.add(each)
        kept.windows.take(window)
        kept.keep(Judged(window, counts, findings, latest=1.5 * (number % 2)), window.end)
    return kept


def read(folder: Path, span: Span, limit: int = 100, **wanted: Any) -> tuple[Report, Recorded]:
    report = Report(["events"], span, "as the live checker found it")
    return report, recorded(folder / "events.db", report, limit=limit, **wanted)


def test_counts_findings_and_a_line_of_time(tmp_path: Path) -> None:
    kept = journal(tmp_path)  # which goes on writing
    report, found = read(tmp_path, Span(BEGIN, BEGIN + 5 * SIZE))
    assert report.verdict == "fail"
    assert report.counts.classes == {Class.EQUAL: 50, Class.LATE: 2, Class.LOST: 5, Class.DIFFERENT: 5}
    assert report.counts.fields == {"/t/*": 5}
    assert [each["identity"] for each in found.findings] == [
        *(f"other-{number}" for number in range(5)),
        *(f"lost-{number}" for number in range(5)),
    ]
    assert found.findings[5]["ids"] == ["id-0"]
    assert (found.untold, found.judged_until) == (0, BEGIN + 5 * SIZE)
    timeline = report.as_dict((), 0)["timeline"]
    assert [(each["from"], each["settled"], each["latest_s"]) for each in timeline] == [
        (f"2026-01-31T12:0{number}:00Z", 12 + number % 2, 1.5 * (number % 2)) for number in range(5)
    ]
    kept.close()


def test_of_a_span_the_windows_that_it_touches(tmp_path: Path) -> None:
    journal(tmp_path).close()
    report, found = read(tmp_path, Span(BEGIN + SIZE + 1, BEGIN + 3 * SIZE))
    assert report.counts.classes[Class.LOST] == 2
    assert [each["identity"] for each in found.findings] == ["other-1", "other-2", "lost-1", "lost-2"]


def reasons(report: Report) -> list[str]:
    return [each["reason"] for each in report.as_dict((), 0)["inconclusive"]]


def test_what_nobody_judged_is_not_known(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    report, found = read(tmp_path, Span(BEGIN + 9 * SIZE, BEGIN + 10 * SIZE))
    assert (report.verdict, found.findings) == ("inconclusive", [])
    assert reasons(report) == ["judged until 2026-01-31T12:05:00Z alone"]
    report, _ = read(tmp_path, Span(BEGIN, BEGIN + 8 * SIZE))
    assert reasons(report) == [], "that is how far behind a check may be"
    report, _ = read(tmp_path, Span(BEGIN - SIZE, BEGIN + 5 * SIZE))
    assert reasons(report) == ["the live checker began at 2026-01-31T12:00:00Z"]
    with kept.db:
        kept.note([BEGIN + SIZE + 7], BEGIN + 6 * SIZE)
    report, _ = read(tmp_path, Span(BEGIN, BEGIN + 5 * SIZE))
    assert reasons(report) == ["an event of it came later: it is to be judged once more"]
    assert report.counts.classes[Class.LOST] == 5, "and what was found before is told"
    kept.close()


def test_some_findings_are_told_and_the_others_counted(tmp_path: Path) -> None:
    journal(tmp_path).close()
    _, found = read(tmp_path, Span(BEGIN, BEGIN + 5 * SIZE), 2, is_wanted=lambda told: told["class"] == "lost")
    assert ([each["identity"] for each in found.findings], found.untold) == (["lost-0", "lost-1"], 3)


def test_a_line_of_time_has_no_more_than_so_many_parts(tmp_path: Path) -> None:
    journal(tmp_path, windows=300).close()
    report, _ = read(tmp_path, Span(BEGIN, BEGIN + 300 * SIZE))
    timeline = report.as_dict((), 0)["timeline"]
    assert 100 <= len(timeline) <= 120
    assert sum(each["classes"]["lost"] for each in timeline) == 300
    ends = [each["to"] for each in timeline]
    assert [each["from"] for each in timeline][1:] == ends[:-1], "without a gap"


def test_where_nothing_is_recorded_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NothingRecorded, match=r"there is no .*events\.db"):
        read(tmp_path, Span(0, 1))
    (tmp_path / "events.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(NothingRecorded, match="not a database"):
        read(tmp_path, Span(0, 1))
