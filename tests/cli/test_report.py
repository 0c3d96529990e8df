"""report: what is gathered, what is told of it, and where it goes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from proxy.cli import report
from proxy.cli.incident import page_of
from proxy.report.page import Block, Chart, Facts, Page, Table, Text
from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin

Json = dict[str, Any]
SPAN = ("--from", "2026-01-31T12:00:00Z", "--to", "2026-01-31T12:10:00Z")
EVIL = "<script>alert(1)</script> | [x](javascript:y) `z` \x1b[31m\u202e\n# heading"


def dials(weight: float, *, stage: str = "live", latched: bool = False) -> Json:
    return {"weight": weight, "stage": stage, "copy": "durable", "latched": latched}


def entry(minute: int, action: str, **changes: Any) -> Json:
    made = {
        "at": f"2026-01-31T12:{minute:02}:00.000Z",
        "epoch": 6,
        "previous_epoch": 5,
        "actor": "ann",
        "route": "events",
    }
    return made | {"action": action, "before": {}, "after": {}, "reason": "", "evidence": {}} | changes


TURNED = entry(1, "set-weight", before=dials(0.0), after=dials(50.0), reason="first half")
REVERT = entry(
    5,
    "revert",
    epoch=7,
    previous_epoch=6,
    actor="crossfade",
    before=dials(50.0),
    after=dials(0.0, latched=True),
    reason="the breaker of new is open in worker 1",
    evidence={"trigger": "breaker", "workers": [1], "weight": 50.0, "seconds_to_detect": 1.5},
)
APPLIED = entry(5, "revert-applied", epoch=7, previous_epoch=7, evidence={"seconds_to_recover": 0.012, "workers": 2})
OTHER = entry(3, "stage", route="others", reason="of another route")
TOKEN = entry(2, "token-create", route="", evidence={"name": "ci"})
LATER = entry(11, "rearm", reason="after the span")


def side(**changes: Any) -> Json:
    latency = {"p50": 0.001, "p95": 0.002, "p99": 0.003}
    return {
        "answers": 100,
        "failed": 4,
        "error_rate": 0.04,
        **latency,
        "body_bytes": 29_000,
        "pending": 7,
        "oldest_age_s": 1.5,
    } | changes


def point(second: int, **changes: Any) -> Json:
    at = f"2026-01-31T12:{second // 60:02}:{second % 60:02}.000Z"
    made: Json = {"at": at, "seconds": 10.0, "epoch": 6, "weight_target": 50.0, "weight_observed": 49.1, "rate": 10.0}
    made |= {"verdict": "pass", "accepted": 100, "sides": {"old": side(), "new": side()}, "mismatches": {"lost": 1}}
    return made | {"sessions": 0} | changes


def figures(*seconds: int, **changes: Any) -> Json:
    points = [point(second) for second in seconds]
    total = point(0, seconds=10.0 * len(seconds), accepted=100 * len(seconds)) if seconds else None
    made = {"route": "events", "began": "2026-01-01T00:00:00.000Z", "step_s": 10, "points": points, "total": total}
    return made | changes


FINDING = {
    "identity": "light.1",
    "time": "2026-01-31T12:04:00Z",
    "class": "different",
    "by": [],
    "ids": ["event-1"],
    "differences": [{"path": "/state", "reason": "value", "old": "on", "new": "off"}],
}


@pytest.fixture
def incident(admin: FakeAdmin) -> FakeAdmin:
    """An instance at which something has happened; newest entries first."""
    admin.entries = [LATER, APPLIED, REVERT, OTHER, TOKEN, TURNED]
    admin.figures = figures(*range(0, 600, 10))
    admin.status |= {"consistency": [{"routes": ["events"]}]}
    admin.differences = {"findings": [FINDING], "findings_untold": 2, "inconclusive": []}
    return admin


def gathered(ctl: Ctl, *words: str) -> Json:
    found: Json = ctl("report", *SPAN, "-o", "json", *words).json
    return found


def section(page: Page, title: str) -> list[Block]:
    (found,) = [each for each in page.sections if each.title == title]
    return list(found.blocks)


def test_what_happened_is_told_in_a_paragraph(ctl: Ctl, incident: FakeAdmin) -> None:
    page = page_of(gathered(ctl))
    assert (page.verdict, page.is_good, page.said) == ("reverted", False, "reverted once by the proxy itself")
    (text,) = section(page, "What happened")
    assert isinstance(text, Text)
    for part in (
        "The weight of events was turned once, from 0 % to 50 %.",
        "the weight was moved from 50 % to 0 % by the proxy itself (epoch 6 to 7): the breaker of new is open",
        "It was detected after 1.50 s at most.",
        "Every worker had applied it 12.0 ms after the decision.",
        "It is at off 0 % now, and the verdict on new is pass.",
    ):
        assert part in text.text, part
    assert "The instance was started" in text.text


DRILL = entry(4, "drill", reason="monthly", evidence={"fault": "dead", "seconds": 60.0, "delay": 0.0})
DRILLED = REVERT | {"evidence": REVERT["evidence"] | {"drill": {"fault": "dead", "actor": "ann"}}}


def test_what_a_drill_reverted_is_no_incident(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.entries = [APPLIED, DRILLED, DRILL, TURNED]
    page = page_of(gathered(ctl))
    said = "nothing was reverted; reverts by drills: 1"
    assert (page.verdict, page.is_good, page.said) == ("no revert", True, said)
    (text,) = section(page, "What happened")
    assert isinstance(text, Text)
    assert "the weight was moved from 50 % to 0 % in a drill of ann (epoch 6 to 7)" in text.text
    assert "Nothing else was reverted." in text.text
    note = section(page, "Figures")[0]
    assert note == Text("These figures contain what drills failed, of which 1 began in this time.")


def test_drills_stand_apart_from_what_was_reverted_for_real(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.entries = [REVERT | {"epoch": 9, "previous_epoch": 8}, APPLIED, DRILLED, DRILL, TURNED]
    page = page_of(gathered(ctl))
    said = "reverted once by the proxy itself; reverts by drills: 1"
    assert (page.verdict, page.is_good, page.said) == ("reverted", False, said)


def test_the_timeline_is_of_this_route_and_time(ctl: Ctl, incident: FakeAdmin) -> None:
    (table,) = section(page_of(gathered(ctl)), "Timeline")
    assert isinstance(table, Table)
    assert [row[2] for row in table.rows] == ["set-weight", "token-create", "revert", "revert-applied"]
    assert table.rows[0] == (
        "2026-01-31T12:01:00.000Z",
        "ann",
        "set-weight",
        "live 0 % → live 50 %",
        "6",
        "first half",
    )


def test_each_revert_has_its_evidence(ctl: Ctl, incident: FakeAdmin) -> None:
    (facts,) = section(page_of(gathered(ctl)), "Revert at 2026-01-31T12:05:00.000Z")
    assert isinstance(facts, Facts)
    known = dict(facts.rows)
    assert known["trigger"] == "breaker, in worker 1"
    assert (known["detected after"], known["applied after"]) == ("1.50 s at most", "12.0 ms, by every worker")


def test_evidence_is_told_in_the_words_of_why(ctl: Ctl, incident: FakeAdmin) -> None:
    evidence = {
        "trigger": "gate",
        "step": 2,
        "of": 4,
        "gates": {"errors_new": {"answer": "no", "said": "0.04 is not below 0.01"}},
        "new": {"backend": "shop-b", "code_classes": {"2xx": 3, "5xx": 1}, "p99": 0.0056},
        "window_seconds": 10.0,
    }
    incident.entries = [REVERT | {"evidence": evidence}]
    (table,) = section(page_of(gathered(ctl)), "Revert at 2026-01-31T12:05:00.000Z")
    assert isinstance(table, Facts)
    known = dict(table.rows)
    assert known["gate errors_new"] == "no (0.04 is not below 0.01)"
    assert known["rollout"] == "at step 2 of 4"
    assert known["new (shop-b)"] == "4 answers in the 10 s before, 3 2xx, 1 5xx, p99 5.6 ms"
    assert "  gate errors_new: no (0.04 is not below 0.01)" in ctl("why").out.splitlines()


def test_a_revert_of_an_earlier_version_says_what_is_not_recorded(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.entries = [REVERT | {"evidence": {"trigger": "breaker"}}]
    (facts,) = section(page_of(gathered(ctl)), "Revert at 2026-01-31T12:05:00.000Z")
    assert isinstance(facts, Facts)
    assert dict(facts.rows)["detected after"] == "not recorded"


def test_the_figures_are_drawn(ctl: Ctl, incident: FakeAdmin) -> None:
    blocks = section(page_of(gathered(ctl)), "Figures")
    assert [type(each) for each in blocks] == [Text, Table, *[Chart] * 6]
    table = blocks[1]
    assert isinstance(table, Table)
    assert table.rows[0] == ("old", "100", "4", "4 %", "1.0 ms", "2.0 ms", "3.0 ms", "28.3 KiB", "7", "1.5 s")
    latency = next(each for each in blocks if isinstance(each, Chart) and each.title.startswith("Latency"))
    assert set(latency.series) == {f"{side} {name}" for side in ("old", "new") for name in ("p50", "p95", "p99")}
    assert len(latency.times) == 60
    query = next(target for _, target, _, _ in incident.requests if "/figures" in target)
    assert query.startswith("/api/v1/routes/events/figures?since=2026-01-31T12%3A00%3A00.000Z&until=")


def test_charts_say_what_the_whole_time_comes_to_and_not_its_last_second(ctl: Ctl, incident: FakeAdmin) -> None:
    idle = side(error_rate=None, p50=None, p95=None, p99=None, pending=0)
    incident.figures["points"][-1] |= {"rate": 0.0, "sides": {"old": idle, "new": idle}, "weight_target": 25.0}
    incident.figures["total"] |= {"rate": 9.8, "mismatches": {"lost": 59}}
    found = {each.title: each for each in section(page_of(gathered(ctl)), "Figures") if isinstance(each, Chart)}
    assert found["Events a second"].overall == {"accepted": 9.8}
    assert found["Answers that were failures, %"].overall == {"old": 4.0, "new": 4.0}
    assert found["Mismatches"].overall == {"lost": 59}
    text = ctl("report", *SPAN).out
    assert "| | least | most | overall | course |" in re.sub(r" +", " ", text)
    assert "| accepted | 0.0/s | 10.0/s | 9.8/s |" in text
    assert "| target | 25 % | 50 % | 25 % |" in text  # a weight is what it is at the end


def test_gaps_are_said_and_left_open(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.figures = figures(0, 10, 200)
    blocks = section(page_of(gathered(ctl)), "Figures")
    assert blocks[0] == Text(
        "Of 10m 0s there are figures of 30 s, in which the instance did not run. Gaps are left open below."
    )
    chart = next(each for each in blocks if isinstance(each, Chart))
    assert list(chart.series["accepted"]) == [10.0, 10.0, *[None] * 18, 10.0]


def test_a_history_that_began_later_says_so(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.figures = figures(300, 310, began="2026-01-31T12:05:00.000Z")
    (text, *_) = section(page_of(gathered(ctl)), "Figures")
    assert isinstance(text, Text)
    assert "for they are kept since 2026-01-31T12:05:00.000Z" in text.text
    incident.figures = figures(began="2026-01-31T13:05:00.000Z")
    (text,) = section(page_of(gathered(ctl)), "Figures")
    assert "they are kept since 2026-01-31T13:05:00.000Z" in str(text)
    incident.figures = figures(began=None)
    (text,) = section(page_of(gathered(ctl)), "Figures")
    assert "none was kept yet" in str(text)


def test_an_instance_that_knows_less_is_no_failure(ctl: Ctl, incident: FakeAdmin) -> None:
    def refuse(_method: str, path: str) -> tuple[int, Json] | None:
        if path.endswith(("figures", "diff")):
            return 409, {"status": 409, "detail": "a check is running already", "epoch": 6}
        return None

    incident.forced = refuse
    page = page_of(gathered(ctl))
    assert "a check is running already" in str(section(page, "Figures"))
    assert "a check is running already" in str(section(page, "Latest differences"))


def test_differences_that_the_live_checker_named(ctl: Ctl, incident: FakeAdmin) -> None:
    pair, more = section(page_of(gathered(ctl)), "Latest differences")
    assert "light.1" in str(pair)
    assert "And 2 more" in str(more)
    target = next(target for _, target, _, _ in incident.requests if "/diff" in target)
    assert "live=true" in target
    assert "limit=10" in target


def test_what_could_not_be_compared_is_said_in_plain_words(ctl: Ctl, incident: FakeAdmin) -> None:
    untold = {"from": "2026-01-31T12:02:00Z", "windows": 3, "reason": "old's store does not answer"}
    incident.differences |= {"inconclusive": [untold, untold | {"windows": 1}]}
    texts = [each.text for each in section(page_of(gathered(ctl)), "Latest differences") if isinstance(each, Text)]
    since = "from 2026-01-31T12:02:00Z: old's store does not answer"
    lacking = "Differences may be missing: the live checker could not compare"
    assert texts[:2] == [f"{lacking} 3 windows, the first {since}", f"{lacking} one window {since}"]


def test_without_a_live_check_no_store_is_asked(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.status |= {"consistency": [{"routes": ["others"]}]}
    assert "No live checker compares" in str(section(page_of(gathered(ctl)), "Latest differences"))
    assert not any("/diff" in target for _, target, _, _ in incident.requests)


def test_a_quiet_hour(ctl: Ctl, admin: FakeAdmin) -> None:
    page = page_of(gathered(ctl))
    assert (page.verdict, page.is_good) == ("no revert", True)
    assert "Nobody changed anything in this time." in str(section(page, "Timeline"))
    assert page.said == "nothing was reverted"
    assert "Nothing was reverted." in str(section(page, "What happened"))


def test_a_long_trail_is_read_to_its_end(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.entries = [LATER] * 500 + [OTHER] * 2500 + [APPLIED, REVERT] + [entry(0, "stage")] * 10
    told = gathered(ctl)
    assert (told["entries_cut"], len(told["entries"])) == (False, 12)
    assert page_of(told).verdict == "reverted"
    asked = [target for _, target, _, _ in incident.requests if "/history" in target]
    assert [target.rsplit("=", 1)[1] for target in asked] == ["0", "1000", "2000"]


@pytest.mark.parametrize("is_reverted", [False, True])
def test_a_trail_that_is_too_long_is_not_known(
    ctl: Ctl, incident: FakeAdmin, monkeypatch: pytest.MonkeyPatch, is_reverted: bool
) -> None:
    monkeypatch.setattr(report, "MOST_PAGES", 2)
    noise = [OTHER | {"at": "2026-01-31T12:07:00.000Z"}] * 1999
    incident.entries = [REVERT | {"at": "2026-01-31T12:08:00.000Z"}] * is_reverted + noise + [OTHER, REVERT, TURNED]
    told = gathered(ctl)
    page = page_of(told)
    assert "There are older entries" in str(section(page, "Timeline"))
    assert "What happened before 2026-01-31T12:0" in str(section(page, "What happened"))
    assert "Nothing was reverted" not in str(page)
    if is_reverted:
        assert (page.verdict, page.is_good, page.said) == (
            "reverted",
            False,
            "reverted at least once by the proxy itself",
        )
    else:
        assert (page.verdict, page.is_good) == ("not known", False)
        assert "Nobody changed anything since 2026-01-31T12:03" in str(section(page, "Timeline"))
        assert page.said == "nothing was reverted since 2026-01-31T12:03:00.000Z; what was before is not known"


NOT_APPLIED = entry(5, "not-applied", epoch=6, previous_epoch=6, actor="crossfade", evidence={"action": "revert"})


def test_a_revert_that_had_no_effect_is_none(ctl: Ctl, incident: FakeAdmin) -> None:
    other = NOT_APPLIED | {"route": "others"}
    incident.entries = [other, NOT_APPLIED, REVERT, NOT_APPLIED, REVERT]
    page = page_of(gathered(ctl))
    assert (page.verdict, page.said) == ("no revert", "nothing was reverted")
    assert not any(each.title.startswith("Revert at") for each in page.sections)
    timeline = section(page, "Timeline")[0]
    assert isinstance(timeline, Table)
    assert [row[2] for row in timeline.rows] == ["revert", "not-applied"] * 2, "and it is told"
    incident.entries = [APPLIED, REVERT, NOT_APPLIED, REVERT]
    assert page_of(gathered(ctl)).said == "reverted once by the proxy itself"
    incident.entries = [NOT_APPLIED | {"evidence": {"action": "set-weight"}}, REVERT]
    assert page_of(gathered(ctl)).said == "reverted once by the proxy itself"


@pytest.mark.parametrize(
    ("actor", "trigger", "by"),
    [
        ("crossfade", "breaker", "by the proxy itself"),
        ("crossfade", "gate", "by a gate of the rollout"),
        ("token am", "alert", "by an alert (token am)"),
        ("token ci", "webhook", "by a webhook (token ci)"),
        ("ann", None, "by ann"),
    ],
)
def test_who_reverted_is_said(ctl: Ctl, incident: FakeAdmin, actor: str, trigger: str | None, by: str) -> None:
    one = REVERT | {"actor": actor, "evidence": {"trigger": trigger}}
    incident.entries = [one]
    page = page_of(gathered(ctl))
    assert page.said == f"reverted once {by}"
    assert f"the weight was moved from 50 % to 0 % {by} (epoch" in str(section(page, "What happened"))
    incident.entries = [one, one]
    assert page_of(gathered(ctl)).said == f"reverted 2 times {by}"


def test_several_who_reverted_are_told_apart(ctl: Ctl, incident: FakeAdmin) -> None:
    hook = REVERT | {"actor": "token ci", "evidence": {"trigger": "webhook"}}
    incident.entries = [REVERT, hook, REVERT]
    said = page_of(gathered(ctl)).said
    assert said == "reverted 3 times: 2 times by the proxy itself, once by a webhook (token ci)"


@pytest.mark.parametrize("busy", [2, 100])
def test_figures_that_somebody_else_reads_are_waited_for(
    ctl: Ctl, incident: FakeAdmin, monkeypatch: pytest.MonkeyPatch, busy: int
) -> None:
    left = busy

    def refuse(_method: str, path: str) -> tuple[int, Json] | None:
        nonlocal left
        if path.endswith("figures") and left:
            left -= 1
            return 429, {"status": 429, "detail": "somebody else reads past figures: one at a time"}
        return None

    monkeypatch.setattr(report, "BUSY_WAIT", 0.0)
    incident.forced = refuse
    told = gathered(ctl)
    if busy == 2:
        assert told["figures"]["points"]
    else:
        assert (told["figures"], busy - left) == (None, report.BUSY_TRIES)
        assert "somebody else reads" in told["figures_error"]


def test_markdown_to_stdout(ctl: Ctl, incident: FakeAdmin) -> None:
    done = ctl("report", *SPAN)
    assert done.code == 0
    assert done.out.startswith("# Route events, 2026-01-31T12:00:00.000Z to 2026-01-31T12:10:00.000Z\n\n**reverted**")
    assert "▁" in done.out or "█" in done.out


def test_yaml_says_what_json_says(ctl: Ctl, incident: FakeAdmin) -> None:
    told = [yaml.safe_load(ctl("report", *SPAN, "-o", form).out) for form in ("yaml", "json")]
    for each in told:
        assert each.pop("made_at")
    assert told[0] == told[1]
    assert ctl("report", "--nonsense", "-o", "yaml").err.startswith("---\nerror:")


@pytest.mark.parametrize("option", ["-o", "-f", "--file", "--output"])
@pytest.mark.parametrize("kind", ["md", "html"])
def test_into_a_file(ctl: Ctl, incident: FakeAdmin, tmp_path: Path, option: str, kind: str) -> None:
    file = tmp_path / f"incident.{kind}"
    done = ctl("report", *SPAN, option, str(file))
    assert (done.code, done.out) == (0, f"written to {file}\n")
    assert file.read_text().startswith("# Route events" if kind == "md" else "<!doctype html>")


def test_a_file_and_json_say_both(ctl: Ctl, incident: FakeAdmin, tmp_path: Path) -> None:
    done = ctl("report", *SPAN, "-o", "json", "-f", str(tmp_path / "x.md"))
    assert done.json["file"] == str(tmp_path / "x.md")


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "incident.pdf"],
        ["-f", "incident.txt"],
        ["-o", "a.md", "-f", "b.md"],
        ["--to", "2026-01-31"],
        ["--from", "2026-01-31T12:00:00Z", "--to", "2026-01-31T11:00:00Z"],
        ["--since", "1h", "--from", "2026-01-31"],
        ["--from", "2999-01-01"],
        ["--admin", "http://a:1", "--admin", "http://b:1"],
    ],
)
def test_what_is_no_report(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    done = ctl("report", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("proxyctl: ")


def test_a_file_that_cannot_be_written(ctl: Ctl, incident: FakeAdmin, tmp_path: Path) -> None:
    done = ctl("report", *SPAN, "-f", str(tmp_path / "none" / "x.md"))
    assert done.code == 1
    assert "x.md cannot be written: No such file or directory" in done.err


def test_an_answer_that_cannot_be_understood_is_a_failure(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.figures = figures(0) | {"points": [{"at": "soon\x1b[31m"}]}
    done = ctl("report", *SPAN)
    assert (done.code, done.out) == (1, "")
    assert "cannot be understood (ValueError: Invalid isoformat string: 'soon\\x1b[31m')" in done.err
    assert ctl("report", *SPAN, "-o", "json").json["figures"]["points"] == [{"at": "soon\x1b[31m"}]


def test_which_route(ctl: Ctl, incident: FakeAdmin) -> None:
    incident.dials["others"] = incident.dials["events"]
    done = ctl("report")
    assert (done.code, "which route? one of events, others" in done.err) == (2, True)
    done = ctl("report", "--route", "none")
    assert (done.code, "there is no route none; routes are events, others" in done.err) == (1, True)
    assert ctl("report", "--route", "others", "-o", "json").json["route"] == "others"


def test_the_last_hour_is_meant_without_a_word(ctl: Ctl, admin: FakeAdmin) -> None:
    answer = ctl("report", "-o", "json").json
    since, until = (datetime.fromisoformat(answer[name]) for name in ("since", "until"))
    assert (until - since).total_seconds() == pytest.approx(3600, abs=0.01)
    assert abs((datetime.now(UTC) - until).total_seconds()) < 60


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def hostile(admin: FakeAdmin) -> None:
    """All text that others can write is evil."""
    revert = REVERT | {"reason": EVIL, "actor": EVIL, "evidence": {EVIL: EVIL, "trigger": EVIL}}
    revert |= {"before": dials(50.0, stage=EVIL)}
    admin.entries = [revert, TURNED | {"reason": EVIL, "action": EVIL, "actor": EVIL, "after": {EVIL: EVIL}}]
    admin.figures = figures(0, 10)
    admin.figures["points"][0]["mismatches"] = {EVIL: 3}
    admin.figures["total"]["mismatches"] = {EVIL: 3}
    difference = {"path": EVIL, "reason": EVIL, "old": EVIL, "new": {EVIL: EVIL}}
    finding = FINDING | {"identity": EVIL, "ids": [EVIL], "class": EVIL, "differences": [difference]}
    unknown = {"windows": 1, "from": EVIL, "reason": EVIL}
    admin.differences = {"findings": [finding], "findings_untold": 0, "inconclusive": [unknown]}
    admin.status |= {"warnings": [EVIL], "consistency": [{"routes": ["events"]}]}
    admin.verdict = {"name": EVIL, "reasons": [EVIL], "samples": 1}


def test_nothing_that_others_wrote_does_anything_in_html(ctl: Ctl, admin: FakeAdmin, tmp_path: Path) -> None:
    hostile(admin)
    assert ctl("report", *SPAN, "-f", str(tmp_path / "x.html")).code == 0
    text = (tmp_path / "x.html").read_text()
    tags = Tags(text).found
    assert not {"script", "iframe", "object", "embed", "link", "a", "form"} & {tag for tag, _ in tags}
    for _, attributes in tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:image/svg+xml").startswith("data:image/svg+xml")
    assert all(each.isprintable() for each in text.split("\n"))
    assert text.count("&lt;script&gt;alert(1)") > 10
    assert "default-src 'none'" in text


def test_nothing_that_others_wrote_does_anything_in_markdown(ctl: Ctl, admin: FakeAdmin) -> None:
    hostile(admin)
    out = ctl("report", *SPAN).out
    assert all(each.isprintable() for each in out.split("\n"))
    html = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(out)
    tags = {tag for tag, _ in Tags(html).found}
    assert not {"script", "img", "a", "code", "pre", "em", "li"} & tags
    assert html.count("&lt;script&gt;alert(1)") > 10
    headings = re.findall(r"<h2>(.*)</h2>", html)
    assert headings[:2] == ["What happened", "Timeline"]
    assert headings[-1] == "Now"
