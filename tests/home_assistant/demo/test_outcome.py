"""The demo succeeds only when every one of its promises was kept."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from deploy.home_assistant.demo.compared import Comparison
from deploy.home_assistant.demo.latency import Latency
from deploy.home_assistant.demo.outcome import Outcome
from deploy.home_assistant.demo.run import report
from proxy.demo.admin import LedgerStatus, RouteStatus, Side, SideLedger, SourceStatus, Status
from proxy.demo.view import View

COMPLETE = Comparison(stored=1012, lost=(), different=(), superseded=(("sensor.a", 7),), unrecorded=13)
BALANCED = SideLedger(10, 0, 0, 10, 0, 0, 0, 0, 0)


def status(ledger: SideLedger = BALANCED, *, weight: float = 100.0, balanced: bool = True, **source: int) -> Status:
    sides = {"old": Side("closed", 0.0, 0.0, None, BALANCED), "new": Side("closed", 0.0, 0.0, None, ledger)}
    route = RouteStatus("events", "rampdown", weight, None, False, None, 10, sides)
    counted: dict[str, Any] = {"unaccepted": 0, "accepted": 1025, "recovered": 118, "refused": 0, "retried": 0}
    found = SourceStatus("home", "connecting", None, 0.0, **(counted | {"gaps": 1, "unreadable": 0} | source))
    return Status(9, True, [route], [], LedgerStatus(True, balanced, ledger.pending, 0, 0), sources=[found])


VERIFIED = {"result": "pass", "record": "two-way", "classes": {"equal": 1012}, "findings": [], "inconclusive": []}
GOOD = Outcome(
    recorded=1000,
    stores={"old": COMPLETE, "new": COMPLETE},
    gaps=1,
    weights=[0, 10, 50, 0, 50, 100],
    reverts=1,
    time_to_revert=0.4321,
    latency=Latency(600, 203.4, 0.0061, 0.0092, 0.0028, 0.0041),
    status=status(),
    verification=VERIFIED,
    duration=50.04,
)


def test_good() -> None:
    assert GOOD.is_ok
    assert GOOD.summary() == (
        "ok: lost 0 of 1,000 state changes that Home Assistant recorded (1 of them told as the later state at the end "
        "of a gap); old stored 1,012, new stored 1,012; source gaps 1, recovered 118, refused 0; reverts 1 (after "
        "0.4 s); ledger pending 0, balanced; verify pass: 1,012 equal; p95 from source to store 9.2 ms, 6.1 ms without "
        "a proxy; added by it p50 2.8 ms, p95 4.1 ms (600 changes at 203/s); 50 s"
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (replace(GOOD, recorded=0), "Home Assistant recorded nothing"),
        (replace(GOOD, stores={"old": COMPLETE._replace(lost=(("sensor.a", 1),))}), "old: 1 lost: sensor.a at 1"),
        (
            replace(GOOD, stores={"new": COMPLETE._replace(different=(("light.b", 2),))}),
            "new: 1 different: light.b at 2",
        ),
        (replace(GOOD, gaps=0), "Home Assistant was never away, or nothing was recovered"),
        (replace(GOOD, status=status(recovered=0)), "Home Assistant was never away, or nothing was recovered"),
        (replace(GOOD, status=status(refused=2)), "2 events of Home Assistant were refused"),
        (replace(GOOD, reverts=0), "nothing was reverted"),
        (
            replace(GOOD, latency=Latency(600, 203.4, 0.0061, 0.0292, 0.0028, 0.0211)),
            "the proxy adds p95 21.1 ms to the way to a store, not less than 20.0",
        ),
        (replace(GOOD, latency=None), "the way without the proxy was not measured"),
        (replace(GOOD, weights=[0, 10, 50]), "the weight is 50 % at the end"),
        (replace(GOOD, status=status(weight=0.0)), "the weight is 0 % at the end"),
        (replace(GOOD, status=status(SideLedger(10, 1, 0, 9, 0, 0, 0, 0, 0))), "ledger: 1 pending, balanced: True"),
        (replace(GOOD, status=status(SideLedger(10, 0, 0, 9, 0, 1, 0, 0, 0))), "ledger: 0 pending, balanced: False"),
        (replace(GOOD, status=status(SideLedger(10, 0, 0, 9, 0, 0, 0, 0, 0))), "ledger: 0 pending, balanced: False"),
        (replace(GOOD, status=status(balanced=False)), "ledger: 0 pending, balanced: False"),
        (
            replace(GOOD, verification=VERIFIED | {"result": "inconclusive"}),
            "verify inconclusive (two-way): 1,012 equal",
        ),
    ],
)
def test_one_broken_promise_fails_it(bad: Outcome, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bad.problems() == [said]
    assert bad.as_dict()["result"] == "failed"
    assert report(bad, View(sys.stdout), "text") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"  {said}"
    assert lines[-1].startswith("FAILED: lost ")


def test_on_a_machine_that_does_other_things_as_well_times_are_told_and_not_judged() -> None:
    slow = replace(GOOD, latency=Latency(600, 203.4, 0.0061, 0.0292, 0.0028, 0.0211), is_timed=False)
    assert slow.problems() == []
    assert "added by it p50 2.8 ms, p95 21.1 ms" in slow.summary()


def test_the_object_has_the_documented_form() -> None:
    store = {"stored": 1012, "lost": 0, "different": 0, "superseded": 1, "unrecorded": 13}
    assert GOOD.as_dict() == {
        "result": "ok",
        "recorded": 1000,
        "lost": 0,
        "old": store,
        "new": store,
        "source": {"gaps": 1, "recovered": 118, "refused": 0},
        "weights": [0, 10, 50, 0, 50, 100],
        "reverts": 1,
        "time_to_revert_s": 0.432,
        "ledger": {"pending": 0, "balanced": True},
        "latency": {
            "changes": 600,
            "rate": 203.4,
            "direct_p95_ms": 6.1,
            "proxied_p95_ms": 9.2,
            "added_p50_ms": 2.8,
            "added_p95_ms": 4.1,
        },
        "verify": {"result": "pass", "record": "two-way", "classes": {"equal": 1012}, "findings": []},
        "duration_s": 50.0,
    }
