"""What a check found, as a page."""

from __future__ import annotations

from typing import Any

from proxy.report.check import page_of
from proxy.report.page import Facts, Page, Pair, Plot, Table, Text, html


def answer(**changes: Any) -> dict[str, Any]:
    """Of a check in which two events are wrong."""
    return {
        "result": "fail",
        "routes": ["events"],
        "from": "2026-01-31T12:00:00Z",
        "to": "2026-01-31T12:02:00Z",
        "record": "three-way",
        "depth": "rows",
        "windows": {"judged": 2, "pending": 0, "inconclusive": 0},
        "classes": {"equal": 997, "lost": 1, "different": 1, "late": 1},
        "settled": 1000,
        "mismatches": 2,
        "mismatch_rate": 0.002,
        "enriched_fields": 0,
        "fields": {"different": {"/body/t": 1}, "tolerated": {"/body/u": 500}},
        "unused_rules": [],
        "unseen_json_fields": [],
        "timeless_events": 0,
        "inconclusive": [],
        "findings": [
            {
                "identity": "e1",
                "time": "2026-01-31T12:00:01Z",
                "class": "lost",
                "by": ["new"],
                "ids": ["id-1"],
                "differences": [],
            },
            {
                "identity": "e2",
                "time": "2026-01-31T12:01:01Z",
                "class": "different",
                "by": [],
                "ids": [],
                "differences": [{"path": "/body/t", "reason": "value", "old": "a", "new": None}],
            },
        ],
        "findings_untold": 3,
        "timeline": [
            {
                "from": "2026-01-31T12:00:00Z",
                "to": "2026-01-31T12:01:00Z",
                "settled": 500,
                "classes": {"equal": 499, "lost": 1},
                "latest_s": 0.0,
            },
            {
                "from": "2026-01-31T12:01:00Z",
                "to": "2026-01-31T12:02:00Z",
                "settled": 500,
                "classes": {"equal": 498, "different": 1, "late": 1},
                "latest_s": 3.0,
            },
        ],
        "duration_s": 1.25,
    } | changes


def blocks(page: Page, title: str) -> list[Any]:
    (section,) = [each for each in page.sections if each.title == title]
    return list(section.blocks)


def titles(page: Page) -> list[str]:
    return [section.title for section in page.sections]


def test_a_page_of_a_failed_check() -> None:
    page = page_of(answer())
    assert (page.title, page.verdict, page.is_good) == ("What both stores hold of route events", "fail", False)
    assert page.said == "2 mismatches of 1,000 settled events (0.2 %)"
    assert titles(page) == ["What was compared", "Classes", "Over time", "Lateness", "Fields", "Events"]
    (classes,) = blocks(page, "Classes")
    assert ("lost", "1", "0.1 %", "mismatch") in classes.rows
    assert ("equal", "997", "99.7 %", "") in classes.rows
    assert [type(each) for each in blocks(page, "Over time")] == [Plot]
    assert [type(each) for each in blocks(page, "Lateness")] == [Plot, Plot]
    assert [type(each) for each in blocks(page, "Fields")] == [Plot, Table, Plot, Table]
    lost, different, more = blocks(page, "Events")
    assert lost == Pair("e1", "lost by new; 2026-01-31T12:00:01Z; id id-1", [])
    assert different.rows == [("/body/t", '"a"', "nothing", "value")]
    assert more == Text("And 3 more, which are not listed.")
    assert "e1" in html(page)


def test_a_page_of_a_check_in_which_all_is_well_says_so() -> None:
    quiet = {"from": "2026-01-31T12:00:00Z", "settled": 9, "classes": {"equal": 9}, "latest_s": 0.0}
    page = page_of(
        answer(
            result="pass",
            classes={"equal": 9, "lost": 0},
            fields={"different": {}, "tolerated": {}},
            findings=[],
            findings_untold=0,
            timeline=[quiet],
        )
    )
    assert page.is_good
    for title in ("Over time", "Lateness", "Fields", "Events"):
        assert [type(each) for each in blocks(page, title)] == [Text], title


def test_nothing_settled_divides_by_nothing() -> None:
    page = page_of(
        answer(result="nodata", classes={"equal": 0}, settled=0, mismatches=0, mismatch_rate=None, timeline=[])
    )
    assert page.said == "0 mismatches of 0 settled events (-)"
    assert html(page)


def test_what_is_not_known_stands_before_the_figures() -> None:
    reason = {"from": "2026-01-31T12:00:00Z", "windows": 2, "reason": "store new: it does not answer"}
    page = page_of(
        answer(
            inconclusive=[reason],
            unused_rules=["/x ignore"],
            unseen_json_fields=["body"],
            timeless_events=4,
            repair=None,
        )
        | {
            "repair": {
                "dry_run": False,
                "written": {"old": 0, "new": 12},
                "in_no_store": 2,
                "broke_off": "store new: it is read only",
                "not_looked_at": 0,
            },
            "judged_until": "2026-01-31T12:02:00Z",
        }
    )
    assert titles(page)[:2] == ["What was compared", "What is not known"]
    table, *others = blocks(page, "What is not known")
    assert table.rows == [("2026-01-31T12:00:00Z", "2", "store new: it does not answer")]
    assert [each.text for each in others] == [
        "A rule that matched nothing: /x ignore",
        "A field of documents that no row has: body",
        "4 events have no time of their own to be believed.",
    ]
    assert blocks(page, "Repair") == [
        Facts(
            [
                ("written to old", "0 rows"),
                ("written to new", "12 rows"),
                ("in no store", "2 events: proxyctl ledger replay"),
                ("broke off", "store new: it is read only"),
            ]
        )
    ]
    assert ("judged until", "2026-01-31T12:02:00Z") in blocks(page, "What was compared")[0].rows
