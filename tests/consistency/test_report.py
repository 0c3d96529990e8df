"""What a report says, and that it stays small."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from config.rules import FieldRule
from consistency.classes import MISMATCHES, Class
from consistency.compare import Finding
from consistency.judge import Judged
from consistency.report import MOST_REASONS, Report, iso
from consistency.rows import Key, Span
from consistency.rules import Difference
from consistency.shown import KEPT, VALUE_LENGTH, shown
from proxy.cli import verify_view

SPAN = Span(1_769_860_800_000_000_000, 1_769_864_400_000_000_000)
STARTS = count(SPAN.start, 60)
"""Of windows, one after another."""


def report(*judged: Judged) -> Report:
    made = Report(["events", "stream"], SPAN, "three-way")
    for each in judged:
        made.add(each)
    return made


def judged(*findings: Finding, equal: int = 0, pending: int = 0) -> Judged:
    made = Judged(Span(start := next(STARTS), start + 60))
    for finding in findings:
        made.counts.add(finding)
        made.findings.append(finding)
    made.counts.classes[Class.EQUAL] += equal
    made.counts.classes[Class.PENDING] += pending
    return made


def finding(kind: Class, name: str = "a", *differences: Difference) -> Finding:
    return Finding(Key(name, SPAN.start + 5), kind, ("new",), differences, ids=(f"id-{name}",))


@pytest.mark.parametrize(
    ("windows", "verdict"),
    [
        ([], "nodata"),
        ([judged()], "nodata"),
        ([judged(equal=3)], "pass"),
        ([judged(finding(Class.REFUSED), equal=3)], "pass"),
        ([judged(equal=3, pending=1)], "inconclusive"),
        ([judged(equal=3), Judged(SPAN, inconclusive="why")], "inconclusive"),
        ([judged(finding(Class.LOST), equal=3, pending=1), Judged(SPAN, inconclusive="why")], "fail"),
        ([judged(finding(Class.DIFFERENT))], "fail"),
        ([judged(finding(Class.FOREIGN))], "inconclusive"),
        ([judged(finding(Class.FOREIGN), equal=1)], "pass"),
    ],
)
def test_verdicts(windows: list[Judged], verdict: str) -> None:
    assert report(*windows).verdict == verdict


def test_the_whole_as_json() -> None:
    made = report(
        judged(finding(Class.DIFFERENT, "b", Difference("/t/3", "value", 1, 2)), equal=8),
        judged(finding(Class.LOST), finding(Class.DEAD, "d")),
        Judged(Span(SPAN.end - 60, SPAN.end), inconclusive="store old: not there"),
    )
    told = made.as_dict([FieldRule(path="/x", compare="ignore")], top=2)
    assert json.loads(json.dumps(told)) == told
    assert told == {
        "result": "fail",
        "routes": ["events", "stream"],
        "from": "2026-01-31T12:00:00Z",
        "to": "2026-01-31T13:00:00Z",
        "record": "three-way",
        "depth": "rows",
        "windows": {"judged": 2, "pending": 0, "inconclusive": 1},
        "classes": {"equal": 8, "different": 1, "duplicate": 0, "lost": 1, "unrecorded": 0, "dead": 1},
        "settled": 11,
        "mismatches": 2,
        "mismatch_rate": 2 / 11,
        "enriched_fields": 0,
        "fields": {"different": {"/t/*": 1}, "tolerated": {}},
        "unused_rules": ["/x ignore"],
        "unseen_json_fields": [],
        "timeless_events": 0,
        "timeline": [
            {
                "from": "2026-01-31T12:00:00.00000054Z",
                "to": "2026-01-31T12:00:00.00000066Z",
                "settled": 11,
                "classes": {"equal": 8, "different": 1, "lost": 1, "dead": 1},
                "latest_s": 0.0,
            }
        ],
        "inconclusive": [{"from": "2026-01-31T12:59:59.99999994Z", "windows": 1, "reason": "store old: not there"}],
        "findings": [
            {
                "identity": "b",
                "time": "2026-01-31T12:00:00.000000005Z",
                "class": "different",
                "by": ["new"],
                "ids": ["id-b"],
                "differences": [{"path": "/t/3", "reason": "value", "old": 1, "new": 2}],
            },
            {
                "identity": "a",
                "time": "2026-01-31T12:00:00.000000005Z",
                "class": "lost",
                "by": ["new"],
                "ids": ["id-a"],
                "differences": [],
            },
        ],
        "findings_untold": 1,
    }


def test_a_window_that_is_judged_again_takes_the_place_of_what_it_was() -> None:
    first = judged(finding(Class.LOST), equal=3)
    second = Judged(first.window)
    second.counts.classes[Class.EQUAL] = 4
    made = report(first, judged(equal=2), second)
    assert (made.verdict, made.counts.classes[Class.EQUAL], made.counts.mismatches) == ("pass", 6, 0)
    made.add(Judged(first.window, inconclusive="gone away"))
    assert (made.verdict, made.counts.classes[Class.EQUAL]) == ("inconclusive", 2)


def test_it_stays_small_and_counts_all() -> None:
    made = report(judged(*[finding(Class.LOST, str(number)) for number in range(KEPT + 50)]))
    for number in range(MOST_REASONS + 5):
        made.add(Judged(Span(number, number + 1), inconclusive=f"why {number}"))
        made.add(Judged(Span(-number - 1, -number), inconclusive="the same"))
    told = made.as_dict([], top=10**6)
    assert (told["classes"]["lost"], len(told["findings"])) == (KEPT + 50, KEPT)
    made.add(judged(finding(Class.LOST)))
    assert len(made.findings()) == KEPT, "over all windows"
    assert (told["windows"]["inconclusive"], len(told["inconclusive"])) == (2 * MOST_REASONS + 10, MOST_REASONS)
    assert told["inconclusive"][0] == {
        "from": iso(-MOST_REASONS - 5),
        "windows": MOST_REASONS + 5,
        "reason": "the same",
    }


@pytest.mark.parametrize(
    ("value", "as_json"),
    [
        ("x" * (VALUE_LENGTH + 1), "x" * (VALUE_LENGTH - 3) + "..."),
        (b"\x00\xff", "00ff"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**53, "9007199254740992"),
        (2**53 - 1, 2**53 - 1),
        (True, True),
        (None, None),
        ({"a": [1, b"x", {"b": float("inf")}]}, {"a": [1, "78", {"b": "inf"}]}),
    ],
)
def test_values_as_json_has_them(value: Any, as_json: Any) -> None:
    assert shown(value) == as_json
    assert json.loads(json.dumps(shown(value), allow_nan=False)) == as_json


def test_long_values_are_cut_whatever_they_are() -> None:
    for value in ([1] * 1000, {"a": "x" * 1000}, b"x" * 1000):
        assert len(str(shown(value))) == VALUE_LENGTH


def test_times() -> None:
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert iso(-1) == "1969-12-31T23:59:59.999999999Z"
    assert iso(2**80) == f"{2**80} ns"


def test_the_text_says_the_verdict_first_and_names_what_is_wrong() -> None:
    made = report(
        judged(finding(Class.DIFFERENT, "b\x1b[2J", Difference("/t", "value", "x" * 90, None)), equal=999),
        Judged(SPAN, inconclusive="store old: not there"),
    )
    text = verify_view.render_verify(
        made.as_dict([FieldRule(path="/x", compare="ignore")], 20)
        | {
            "repair": {
                "dry_run": True,
                "written": {"old": 0, "new": 3},
                "in_no_store": 2,
                "broke_off": "",
                "not_looked_at": 5,
            }
        }
    )
    assert text.splitlines()[0] == "fail: 1 mismatches of 1,000 settled events (0.1 %) of routes events, stream"
    for part in (
        "three-way",
        "different   1",
        "rule that matched nothing: /x ignore",
        "store old: not there",
        "0 to old, 3 to new: would be written",
        "2 are in no store: proxyctl ledger replay",
        "5 more were not looked at",
        "/t: value, 'xxxx",
    ):
        assert part in text
    assert "\x1b" not in text


def test_both_ends_of_the_pipe_call_the_same_things_mismatches() -> None:
    assert set(verify_view.MISMATCHES) == {str(kind) for kind in MISMATCHES}
