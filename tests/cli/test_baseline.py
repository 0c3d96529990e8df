"""record-baseline: what it asks for, and how it waits."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.cli import baseline
from proxy.cli.client import Admin
from proxy.cli.failure import UNREACHABLE, Failure
from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin

KEPT = {
    "recorded_at": "2026-01-31T12:05:00.000Z", "seconds": 300.0, "answers": 36_000, "rate": 120.0, "error_rate": 0.0001,
    "p50": 0.0012, "p95": 0.0034, "p99": 0.0056,
}  # fmt: skip


def view(**values: Any) -> dict[str, Any]:
    return {"route": "events", "left_s": None, "baseline": None, "trouble": None} | values


@pytest.fixture
def answers(admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What it answers, one after another; the last one again and again."""
    monkeypatch.setattr(baseline, "LOOK", 0.001)
    said: list[dict[str, Any]] = []
    admin.forced = lambda method, path: (202 if method == "POST" else 200, said.pop(0) if len(said) > 1 else said[0])
    return said


def test_it_begins_and_goes_on_by_itself(ctl: Ctl, admin: FakeAdmin, answers: list[dict[str, Any]]) -> None:
    answers.append(view(left_s=60.0))
    done = ctl("record-baseline", "--for", "1m", "--reason", "before")
    assert (done.code, done.out.strip()) == (
        0, "events: recording for another 1m 0s; see proxyctl record-baseline --show",
    )  # fmt: skip
    method, target, _, body = admin.requests[-1]
    assert (method, target, body) == ("POST", "/api/v1/routes/-/baseline", {"seconds": 60.0, "reason": "before"})


def test_it_waits_until_it_is_kept(ctl: Ctl, answers: list[dict[str, Any]]) -> None:
    answers += [view(left_s=0.002), view(left_s=0.001), view(baseline=KEPT)]
    done = ctl("record-baseline", "--wait")
    assert done.code == 0
    assert done.out.splitlines() == [
        "events: old's answers over 5m 0s until 2026-01-31T12:05:00.000Z",
        "  36,000 answers, 120/s, errors 0.01 %, p50 1.2 ms, p95 3.4 ms, p99 5.6 ms",
    ]


@pytest.mark.parametrize(("trouble", "said"), [("19 answers\x1b", r"19 answers\x1b"), (None, "restarted meanwhile")])
def test_what_was_not_kept_is_a_failure(
    trouble: str | None, said: str, ctl: Ctl, answers: list[dict[str, Any]]
) -> None:
    answers += [view(left_s=0.001), view(trouble=trouble)]
    done = ctl("record-baseline", "--wait")
    assert (done.code, said in done.err) == (1, True)


def test_an_older_one_is_not_what_was_recorded(ctl: Ctl, answers: list[dict[str, Any]]) -> None:
    answers += [view(left_s=0.001, baseline=KEPT), view(baseline=KEPT)]
    done = ctl("record-baseline", "--wait")
    assert (done.code, "restarted meanwhile" in done.err) == (1, True)
    answers[:] = [view(left_s=0.001, baseline=KEPT), view(baseline=KEPT | {"recorded_at": "later"})]
    assert ctl("record-baseline", "--wait").code == 0


def test_a_supervisor_that_is_away_for_a_moment_is_waited_for(
    ctl: Ctl, answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers += [view(left_s=0.001), view(baseline=KEPT)]
    real, away = Admin.get, [True]

    def get(self: Admin, path: str) -> Any:
        if away:
            away.clear()
            raise Failure(UNREACHABLE, "away")
        return real(self, path)

    monkeypatch.setattr(Admin, "get", get)
    assert ctl("record-baseline", "--wait").code == 0
    answers[:] = [view(left_s=60.0)]
    assert ctl("record-baseline", "--for", "10ms", "--wait", "--timeout", "20ms").code == 4


def test_the_last_one_is_shown(ctl: Ctl, admin: FakeAdmin, answers: list[dict[str, Any]]) -> None:
    answers.append(view())
    assert ctl("record-baseline", "--show").out.strip() == "events: no baseline was recorded"
    answers[:] = [view(baseline=KEPT, trouble="too few")]
    assert ctl("record-baseline", "--show", "-o", "json").json["baseline"] == KEPT
    assert "the last recording kept nothing: too few" in ctl("record-baseline", "--show").out
    assert {method for method, *_ in admin.requests} == {"GET"}


def test_what_the_services_took_is_shown_with_it(ctl: Ctl, answers: list[dict[str, Any]]) -> None:
    known = {"gate": "hour", "name": "old-cpu", "query": "cpu", "value": 0.12345678, "trouble": ""}
    unknown = known | {"name": "new-cpu", "value": None, "trouble": "the query gives nothing"}
    answers.append(view(baseline=KEPT | {"resources": [known, unknown]}))
    assert ctl("record-baseline", "--show").out.splitlines()[2:] == [
        "  old-cpu of gate hour: 0.123457",
        "  new-cpu of gate hour: not known: the query gives nothing",
    ]
