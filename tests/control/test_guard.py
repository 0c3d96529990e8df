"""The guard, with a real supervisor and fake workers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from proxy.control import file_store
from proxy.control.probes import Dependency, Standing
from proxy.core.breaker import BreakerTrouble
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats, requests
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
OPEN = {"old": "closed", "new": "open"}


def weight(plane: Plane) -> float:
    state = plane.supervisor.instance.state
    assert state is not None
    return state.routes["events"].weight


async def say(plane: Plane, index: int = 0, **figures: Any) -> None:
    """One worker reports, and it has arrived."""
    before = plane.supervisor.instance.tally.slot(index)
    latest = before.latest if before is not None else None
    plane.workers[index].say(**figures)

    def arrived() -> bool:
        slot = plane.supervisor.instance.tally.slot(index)
        return slot is not None and slot.latest is not latest

    await plane.heard(arrived)


async def test_an_open_breaker_reverts_and_latches(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, 1, breakers=OPEN, requests=[requests(ok=3, error=5)])
    await eventually(lambda: weight(plane) == 0, "the revert")
    await eventually(lambda: {worker.epoch for worker in plane.workers} == {3}, "its arrival")
    route = (await plane.get("/api/v1/status"))["routes"][0]
    assert (route["stage"], route["latched"]) == ("dualwrite", True)
    assert route["latch_reason"] == "the breaker of new is open in worker 1"
    why = await plane.get("/api/v1/why")
    assert why["latched"] is True
    assert why["entry"]["actor"] == "crossfade"
    assert why["entry"]["evidence"]["trigger"] == "breaker"
    assert why["entry"]["evidence"]["workers"] == [1]
    assert "from 25 % to 0 %" in why["text"]
    assert "proxyctl rearm --route events" in why["text"]
    await plane.supervisor._guard.settle()
    assert 'crossfade_reverts_total{reason="breaker"} 1.0' in await plane.get("/metrics")


async def test_a_breaker_says_why_it_is_open_and_since_when(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, 0)
    plane.clock.now += 60
    await say(plane, 0, breakers=OPEN, breaker_troubles={"new": BreakerTrouble("no answer within 10 s", 5, 10.2)})
    await eventually(lambda: weight(plane) == 0, "the revert")
    route = (await plane.get("/api/v1/status"))["routes"][0]
    assert route["latch_reason"] == "the breaker of new is open in worker 0: no answer within 10 s"
    why = await plane.get("/api/v1/why")
    evidence = why["entry"]["evidence"]
    assert (evidence["last_failure"], evidence["in_a_row"], evidence["lasts"]) == ("no answer within 10 s", 5, 10.2)
    assert why["seconds_to_detect"] == 10.2


async def test_of_several_open_breakers_the_one_that_fails_longest_says_why(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    for index, trouble in enumerate((BreakerTrouble("status 503", 5, 1.0), BreakerTrouble("status 500", 9, 2.0))):
        await say(plane, index, breakers=OPEN, breaker_troubles={"new": trouble})
    assert (await verdict(plane))["reasons"] == ["the breaker of new is open in worker 0, 1: status 500"]


async def test_how_long_a_revert_took_is_recorded(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, 1, requests=[requests(ok=3)])
    plane.clock.now += 10
    await say(plane, 1, requests=[requests(ok=3, error=2)])
    plane.clock.now += 1.5
    await say(plane, 1, breakers=OPEN, requests=[requests(ok=3, error=5)])
    await eventually(lambda: weight(plane) == 0, "the revert")
    await plane.supervisor._guard.settle()
    applied, revert = (await plane.get("/api/v1/history?limit=2"))["entries"]
    assert (revert["action"], revert["evidence"]["seconds_to_detect"]) == ("revert", 1.75)
    assert (applied["action"], applied["epoch"], applied["actor"]) == ("revert-applied", revert["epoch"], "crossfade")
    assert applied["evidence"] == {"seconds_to_recover": 0.0, "workers": 2, "of": 2}
    why = await plane.get("/api/v1/why")
    assert (why["seconds_to_detect"], why["seconds_to_recover"]) == (1.75, 0.0)
    assert why["entry"]["action"] == "revert"


async def test_a_revert_that_not_all_have_applied_has_not_recovered(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.change("stage", stage="live", weight=25)
    monkeypatch.setattr("proxy.control.changes.APPLY_WAIT", 0.05)
    plane.workers[0].applies = False
    await say(plane, 1, breakers=OPEN)
    await eventually(lambda: weight(plane) == 0, "the revert")
    await plane.supervisor._guard.settle()
    why = await plane.get("/api/v1/why")
    assert (why["seconds_to_detect"], why["seconds_to_recover"]) == (None, None)
    (applied,) = (await plane.get("/api/v1/history?limit=1"))["entries"]
    assert applied["evidence"] == {"seconds_to_recover": None, "workers": 1, "of": 2}


async def test_a_revert_stands_when_its_time_cannot_be_recorded(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    await plane.change("stage", stage="live", weight=25)
    monkeypatch.setattr("proxy.control.changes.Changes.note", full)
    await say(plane, 1, breakers=OPEN)
    await eventually(lambda: weight(plane) == 0, "the revert")
    await plane.supervisor._guard.settle()
    status = await plane.get("/api/v1/status")
    assert status["counters"]["control_reverts_not_timed"] == 1
    assert status["routes"][0]["latched"] is True


async def test_where_old_is_open_as_well_going_back_is_no_help(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=50)
    await say(plane, 1, breakers={"old": "open", "new": "open"})
    await plane.supervisor._guard.settle()
    route = (await plane.get("/api/v1/status"))["routes"][0]
    assert (route["weight_target"], route["verdict"]["name"]) == (50, "inconclusive")
    said = "the breaker of new is open in worker 1; one of old as well, so nothing is reverted"
    assert f"events: {said}" in (await plane.get("/api/v1/status"))["warnings"]
    await say(plane, 1, breakers={"old": "closed", "new": "open"})
    await eventually(lambda: weight(plane) == 0, "the revert, once old is well")


async def ledger_says(plane: Plane, *, is_failing: bool, pending: int = 1) -> None:
    """New's breaker is open in the ledger, and the gate of its deliveries shut. is_failing: not by one event alone."""
    assert plane.ledger is not None
    troubles = {"new": BreakerTrouble("connection refused", 7, 3.0)}
    stats = ledger_stats(new=balance(pending=pending), breakers=OPEN, breaker_troubles=troubles)
    stats.sides[1].is_open = False
    stats.sides[1].is_failing = is_failing
    plane.ledger.tell(stats)
    await eventually(lambda: plane.supervisor.instance.tally.ledger is not None, "the ledger's figures")


async def test_one_event_that_new_never_takes_reverts_nothing(plane: Plane) -> None:
    """The ledger tries it again and again, and its breaker hears of nothing else; workers get others through."""
    await plane.change("stage", stage="live", weight=25)
    await ledger_says(plane, is_failing=False, pending=2)
    await say(plane, requests=[requests(ok=1000, failed=1)])
    await plane.supervisor._guard.settle()
    assert weight(plane) == 25


@pytest.mark.parametrize(("is_failing", "pending"), [(True, 1), (False, 3)], ids=["several failed", "others wait"])
async def test_a_breaker_that_only_the_ledger_sees_open_reverts_too(
    plane: Plane, is_failing: bool, pending: int
) -> None:
    await plane.change("stage", stage="live", weight=25)
    await ledger_says(plane, is_failing=is_failing, pending=pending)
    await say(plane)
    await eventually(lambda: weight(plane) == 0, "the revert")
    route = (await plane.get("/api/v1/status"))["routes"][0]
    assert route["latch_reason"] == "the breaker of new is open in the ledger: connection refused"
    assert route["sides"]["new"]["breaker"] == "open"


async def test_a_latch_holds_until_it_is_rearmed(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, breakers=OPEN)
    await eventually(lambda: weight(plane) == 0, "the revert")
    await say(plane)  # the breaker closed again
    for what, body in (("weight", {"weight": 5}), ("stage", {"stage": "live", "weight": 5})):
        status, problem = await plane.ask("PUT", f"/api/v1/routes/-/{what}", body)
        assert status == 423
        assert "re-arm" in problem["detail"]
    why = await plane.get("/api/v1/why?route=events")
    assert why["now"].startswith("weight 0 %, copy durable, latched; the verdict on new is ")
    assert why["next"].startswith("nothing raises the weight by itself; new still gets copies")
    assert (await plane.change("rollback"))["changed"] is False
    assert (await plane.change("stage", stage="dualwrite"))["changed"] is False
    rearmed = await plane.change("rearm", reason="mended")
    assert rearmed["next"] == "proxyctl set-weight 5 --route events --wait"
    assert rearmed["after"]["latched"] is False
    assert (await plane.change("weight", weight=5))["after"]["weight"] == 5.0
    why = await plane.get("/api/v1/why?route=events")
    assert why["latched"] is False
    assert why["text"].endswith("It was re-armed since.")
    told = [(entry["action"], entry["epoch"] > why["entry"]["epoch"]) for entry in why["changes"]]
    assert told == [("set-weight", True), ("rearm", True), ("stage", False)]
    assert why["now"].startswith("weight 5 %, copy durable; the verdict on new is ")
    assert why["next"] == "the guard goes on; proxyctl history --route events has every change"


@pytest.mark.parametrize("act", ["alert", "pause"])
async def test_what_is_no_revert_by_the_configuration_is_told_to_a_person(make_plane: MakePlane, act: str) -> None:
    route = {"name": "events", "match": {"path": "/api/v1/events"}, "trigger": {"on_fail": {"breaker": act}}}
    plane = make_plane(routes=[route])
    await plane.start()
    await plane.change("stage", stage="live", weight=25)
    await say(plane, breakers=OPEN)
    await plane.supervisor._guard.settle()
    assert weight(plane) == 25
    status = await plane.get("/api/v1/status")
    assert status["routes"][0]["verdict"]["name"] == {"alert": "inconclusive", "pause": "fail"}[act]
    assert any("the breaker of new is open" in warning for warning in status["warnings"])


async def test_a_step_back_without_a_rollout_reverts(make_plane: MakePlane) -> None:
    route = {"name": "events", "match": {"path": "/api/v1/events"}, "trigger": {"on_fail": {"breaker": "step-back"}}}
    plane = make_plane(routes=[route])
    await plane.start()
    await plane.change("stage", stage="live", weight=25)
    await say(plane, breakers=OPEN)
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_more_failures_than_the_limit_revert(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, requests=[requests(ok=1000, failed=500)])  # before: not of this weight
    plane.clock.now += 1
    await say(plane, requests=[requests(ok=1040, failed=505)])  # 5 of 45, within one moment
    assert weight(plane) == 25
    plane.clock.now += 3
    await say(plane, requests=[requests(ok=1090, failed=505, error=20)])  # 25 of 115
    await eventually(lambda: weight(plane) == 0, "the revert")
    why = await plane.get("/api/v1/why")
    evidence = why["entry"]["evidence"]
    assert evidence["trigger"] == "error-rate"
    assert why["entry"]["reason"] == "25 of 115 events failed at new in 3.0 s (21.74%, limit 1.00%)"
    assert evidence["new"]["code_classes"]["error"] == 20
    value = evidence["test"].pop("value")
    assert evidence["test"] == {
        "total": 115, "failed": 25, "seconds": 3.0, "limit": 0.01, "alarm_from": 2e6,
    }  # fmt: skip
    assert value >= 1e6


@pytest.mark.parametrize(
    ("stage", "apart"), [("live", 60 / 17), ("split", 4 * 60 / 17)], ids=["with copies", "a quarter in split"]
)
@pytest.mark.parametrize("good", [0, 1, 3000])
async def test_at_17_events_a_minute_new_that_fails_is_reverted_within_90_seconds(
    plane: Plane, stage: str, apart: float, good: int
) -> None:
    """By failures alone: two workers share them, so that no breaker opens. apart: seconds between two events at new."""
    await plane.change("stage", stage=stage, weight=25)
    await say(plane, requests=[requests(ok=0)])
    for number in range(1, good + 1, 100):
        plane.clock.now += 100 * apart
        await say(plane, requests=[requests(ok=number)])
    assert weight(plane) == 25
    began = plane.clock.now
    for failed in range(1, 100):
        plane.clock.now += apart
        await say(plane, requests=[requests(ok=good, failed=failed)])
        await plane.supervisor._guard.settle()
        if weight(plane) == 0:
            break
    assert weight(plane) == 0
    assert plane.clock.now - began <= 90


@pytest.mark.parametrize("left_out", [0, 495])
async def test_failures_that_are_left_out_do_not_revert(plane: Plane, left_out: int) -> None:
    """They are one connection's, and count among new's failures all the same: the verdict is no `pass`."""
    await plane.change("stage", stage="live", weight=25)
    await say(plane, requests=[requests(ok=100)])
    plane.clock.now += 1
    out = {"events": ((0, 0), (left_out, left_out))}
    await say(plane, requests=[requests(ok=1000, failed=499)], left_out=out)
    plane.clock.now += 3
    await say(plane, requests=[requests(ok=1000, failed=500)], left_out=out)
    await plane.supervisor._guard.settle()
    assert weight(plane) == (25 if left_out else 0)
    if left_out:
        verdict = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]
        assert (verdict["name"], verdict["samples"], verdict["failed"]) == ("inconclusive", 1400, 500)


async def test_a_share_at_the_limit_never_reverts(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    for number in range(1, 400):
        plane.clock.now += 1
        await say(plane, requests=[requests(ok=99 * number, failed=number)])
    assert weight(plane) == 25


async def test_where_old_fails_as_well_nothing_is_reverted_and_it_is_said(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    for number in range(5):
        plane.clock.now += 1
        both = [requests(ok=100, failed=20 * number), requests(side=0, ok=300, failed=50 * number)]
        await say(plane, requests=both)
    assert weight(plane) == 25
    (said,) = [each for each in (await plane.get("/api/v1/status"))["warnings"] if "old fails as well" in each]
    assert said.startswith("events: 80 of 80 events failed at new in ")
    for number in range(1, 200):  # old is well again, new is not
        plane.clock.now += 1
        await say(
            plane, requests=[requests(ok=100, failed=80 + number), requests(side=0, ok=300 + 300 * number, failed=200)]
        )
        if weight(plane) == 0:
            break
    await eventually(lambda: weight(plane) == 0, "the revert")
    assert not any("old fails" in each for each in (await plane.get("/api/v1/status"))["warnings"])


async def answers(plane: Plane, sent: Counter[tuple[int, float]], seconds: int, old: float, new: float) -> None:
    """So long, a hundred answers of either side a second, each after these seconds. It ends with a revert. sent: all
    that were before.
    """
    for _ in range(seconds):
        plane.clock.now += 1
        for each in ((0, old), (1, new)):
            sent[each] += 100
        await say(plane, requests=[requests(side, latency=took, ok=n) for (side, took), n in sent.items()])
        if weight(plane) == 0:
            return


async def test_a_slower_new_is_an_alert_and_a_much_slower_one_is_reverted(plane: Plane) -> None:
    sent: Counter[tuple[int, float]] = Counter()
    await plane.change("stage", stage="live", weight=25)
    await answers(plane, sent, 60, 0.100, 0.100)
    assert not [each for each in (await plane.get("/api/v1/status"))["warnings"] if "slower" in each]
    await answers(plane, sent, 60, 0.100, 0.115)
    (said,) = [each for each in (await plane.get("/api/v1/status"))["warnings"] if "slower" in each]
    assert said.startswith("events: new is slower: ")
    assert said.endswith(" answers took longer than 111 ms (old's p50 and 10%, which 50% may)")
    assert weight(plane) == 25
    await answers(plane, sent, 60, 0.100, 0.300)
    await eventually(lambda: weight(plane) == 0, "the revert")
    evidence = (await plane.get("/api/v1/why"))["entry"]["evidence"]
    assert (evidence["trigger"], evidence["test"]["quantile"], evidence["test"]["limit"]) == ("slower", 0.5, 0.5)
    assert evidence["test"]["seconds_allowed"] == pytest.approx(0.121, abs=0.003)
    assert evidence["new"]["p99"] > 2 * evidence["old"]["p99"]
    (said,) = [each for each in (await plane.get("/api/v1/status"))["warnings"] if "slower" in each]
    assert said.startswith("events is latched: new is slower: ")


async def test_both_slower_is_nobodys_doing(plane: Plane) -> None:
    sent: Counter[tuple[int, float]] = Counter()
    await plane.change("stage", stage="live", weight=25)
    await answers(plane, sent, 60, 0.100, 0.100)
    await answers(plane, sent, 120, 0.400, 0.400)
    assert weight(plane) == 25


async def test_latency_is_not_looked_at_where_that_is_said(make_plane: MakePlane) -> None:
    plane = make_plane(routes=[{"name": "events", "match": {"path": "/e"}, "trigger": {"slower": "0%"}}])
    await plane.start()
    await plane.change("stage", stage="live", weight=25)
    await answers(plane, Counter(), 60, 0.100, 9.0)
    assert weight(plane) == 25


@pytest.mark.parametrize("share", [0.2, 0.33, 0.5, 0.9])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.75])
async def test_both_that_begin_to_fail_at_once_are_an_alert(plane: Plane, share: float, phase: float) -> None:
    """Also when old was looked at a while before: what was good until then must not make it look better than new."""
    await plane.change("stage", stage="live", weight=25)
    plane.clock.now += phase
    ok = failed = 0
    for number in range(60):
        plane.clock.now += 0.25
        bad = round(100 * share) if number >= 20 else 0
        ok, failed = ok + 100 - bad, failed + bad
        await say(plane, requests=[requests(side, ok=ok, failed=failed) for side in (0, 1)])
    assert weight(plane) == 25
    assert any("old fails as well" in each for each in (await plane.get("/api/v1/status"))["warnings"])


async def test_old_that_fails_a_little_does_not_excuse_a_new_that_fails_much(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    old_failed = 0
    for number in range(1, 60):
        plane.clock.now += 1
        old_failed += 2
        both = [requests(ok=100 * number), requests(side=0, ok=98 * number, failed=old_failed)]
        await say(plane, requests=both)
    for number in range(1, 20):
        plane.clock.now += 1
        old_failed += 2
        both = [
            requests(ok=6000 + 60 * number, failed=40 * number),
            requests(side=0, ok=6000 + 98 * number, failed=old_failed),
        ]
        await say(plane, requests=both)
        if weight(plane) == 0:
            break
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_old_that_failed_long_ago_excuses_nothing(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    for number in range(1, 5):
        plane.clock.now += 1
        await say(plane, requests=[requests(ok=100), requests(side=0, failed=5 * number)])
    plane.clock.now += 3600
    await say(plane, requests=[requests(ok=100), requests(side=0, failed=20)])
    for number in range(1, 5):
        plane.clock.now += 1
        await say(plane, requests=[requests(ok=100, failed=5 * number), requests(side=0, failed=20)])
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_without_answers_for_a_while_there_is_no_pass(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, requests=[requests(ok=0)])
    plane.clock.now += 1
    await say(plane, requests=[requests(ok=50)])
    assert (await verdict(plane))["name"] == "pass"
    plane.clock.now += 90
    await say(plane, requests=[requests(ok=50)])
    assert (await verdict(plane))["reasons"] == ["new has answered nothing for 90 s"]


async def test_what_workers_counted_before_they_were_heard_is_not_of_now(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, 0, requests=[requests(ok=100_000)])
    await say(plane, 1, requests=[requests(ok=50_000, failed=50_000)])
    assert await verdict(plane) == {"name": "nodata", "reasons": [], "samples": 0, "failed": 0}
    assert weight(plane) == 25


async def test_copies_count_too_and_refusals_do_not(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, requests=[requests(ok=0)])
    plane.clock.now += 1
    await say(plane, requests=[requests(ok=100, refused=900)])
    assert weight(plane) == 25
    await say(plane, 1, requests=[requests(role="copy", ok=0)])
    plane.clock.now += 1
    await say(plane, 1, requests=[requests(role="copy", failed=100)])
    plane.clock.now += 3
    await say(plane, 1, requests=[requests(role="copy", failed=100)])
    assert weight(plane) == 25, "a hundred at once are one moment's trouble"
    await say(plane, 1, requests=[requests(role="copy", failed=105)])
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_old_is_not_judged(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, requests=[requests(side=0, ok=1)], breakers={"old": "open", "new": "closed"})
    plane.clock.now += 1
    await say(plane, requests=[requests(side=0, error=1000)], breakers={"old": "open", "new": "closed"})
    assert weight(plane) == 25


async def test_at_weight_zero_nothing_is_reverted(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    await say(plane, breakers=OPEN, requests=[requests(role="copy", ok=1)])
    plane.clock.now += 1
    await say(plane, breakers=OPEN, requests=[requests(role="copy", error=1000)])
    assert (await plane.get("/api/v1/status"))["epoch"] == 2
    assert (await plane.get("/api/v1/why"))["text"] == "No revert of events is recorded."


async def verdict(plane: Plane) -> dict[str, Any]:
    found: dict[str, Any] = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]
    return found


async def test_without_traffic_at_new_there_is_no_verdict(plane: Plane) -> None:
    await say(plane, requests=[requests(ok=0)], breakers=OPEN)
    assert await verdict(plane) == {"name": "nodata", "reasons": [], "samples": 0, "failed": 0}
    await plane.change("stage", stage="dualwrite")
    await say(plane, requests=[requests(ok=0)])
    assert await verdict(plane) == {"name": "nodata", "reasons": [], "samples": 0, "failed": 0}


async def test_a_new_that_fails_at_copies_is_known_before_the_first_percent(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    await say(plane, requests=[requests(role="copy", ok=50)])
    plane.clock.now += 1
    await say(plane, requests=[requests(role="copy", ok=150)])
    assert await verdict(plane) == {"name": "pass", "reasons": [], "samples": 100, "failed": 0}
    for number in range(1, 5):
        plane.clock.now += 1
        await say(plane, requests=[requests(role="copy", ok=150, failed=10 * number)])
    found = await verdict(plane)
    assert (found["name"], found["samples"]) == ("fail", 140)
    assert found["reasons"][0].startswith("40 of 40 events failed at new in ")
    metrics = await plane.get("/metrics")
    assert 'crossfade_verdict{route="events",verdict="fail"} 1.0' in metrics
    assert 'crossfade_verdict{route="events",verdict="pass"} 0.0' in metrics
    assert (await plane.get("/api/v1/why"))["text"] == "No revert of events is recorded."
    await plane.change("stage", stage="live", weight=10)
    await say(plane, requests=[requests(role="copy", ok=250, failed=40)])
    plane.clock.now += 1
    await say(plane, requests=[requests(role="copy", ok=350, failed=40)])
    assert await verdict(plane) == {"name": "pass", "reasons": [], "samples": 100, "failed": 0}
    assert weight(plane) == 10


async def test_a_few_failures_hold_and_do_not_revert(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane, requests=[requests(ok=0)])
    plane.clock.now += 1
    await say(plane, requests=[requests(ok=496, failed=4)])
    held = await verdict(plane)
    assert held == {
        "name": "inconclusive",
        "reasons": ["4 of 500 events failed at new since the weight was changed (0.80%, and 0.10% holds)"],
        "samples": 500,
        "failed": 4,
    }
    plane.clock.now += 1
    await say(plane, requests=[requests(ok=5000, failed=4)])
    assert (await verdict(plane))["name"] == "pass"
    await say(plane, requests=[requests(ok=5000, failed=4)], breakers={"old": "closed", "new": "half-open"})
    assert (await verdict(plane))["reasons"] == ["the breaker of new is half-open"]


async def test_a_change_of_weight_starts_the_window_anew(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    await say(plane, requests=[requests(role="copy", ok=0)])
    await say(plane, requests=[requests(role="copy", error=1000)])
    await plane.change("weight", weight=25)
    await say(plane, requests=[requests(role="copy", error=1000)])
    plane.clock.now += 1
    await say(plane, requests=[requests(role="copy", ok=100, error=1000)])
    assert weight(plane) == 25


async def test_there_and_back_between_two_reports_starts_anew_as_well(plane: Plane) -> None:
    """A revert that was re-armed at once would be followed by another one for the same failures."""
    await plane.change("stage", stage="live", weight=50)
    await say(plane, requests=[requests(ok=1000)])
    plane.clock.now += 1
    await say(plane, requests=[requests(ok=1040, failed=5)])
    plane.clock.now += 3
    for weight_then in (0, 50):
        await plane.change("weight", weight=weight_then)
    await say(plane, requests=[requests(ok=1090, failed=25)])
    await plane.supervisor._guard.settle()
    assert weight(plane) == 50


async def test_a_worker_that_is_gone_is_not_judged_by_its_breaker(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.control.changes.APPLY_WAIT", 0.01)
    await plane.change("stage", stage="dualwrite")
    await say(plane, 1, breakers=OPEN)
    await plane.workers[1].link.close()
    await eventually(lambda: 1 not in plane.supervisor.instance.peers.workers)
    await plane.change("weight", weight=25)
    await say(plane, 0)
    assert weight(plane) == 25
    await say(plane, 0, breakers=OPEN)
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_breaker_and_probe_can_be_left_out(make_plane: MakePlane) -> None:
    route = {"name": "events", "match": {"path": "/e"}, "trigger": {"on_breaker": False, "on_health": False}}
    plane = make_plane(routes=[route])
    await plane.start()
    await plane.change("stage", stage="live", weight=25)
    health(plane, new=False)
    await say(plane, breakers=OPEN)
    assert weight(plane) == 25


def health(plane: Plane, **healthy: bool) -> None:
    for name, is_healthy in healthy.items():
        standing = Standing(1, 1)
        standing.take(is_healthy, "status 503 after 5 ms", plane.clock.now)
        plane.supervisor.instance.probes.standings[name] = {"127.0.0.1:9": standing}


async def test_a_failed_health_probe_reverts(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    health(plane, old=True, new=True)
    await say(plane)
    assert weight(plane) == 25
    plane.clock.now += 60
    health(plane, new=False)
    plane.clock.now += 4
    await say(plane)
    await eventually(lambda: weight(plane) == 0, "the revert")
    why = await plane.get("/api/v1/why")
    evidence = why["entry"]["evidence"]
    assert why["entry"]["reason"] == "the health probe of new fails: status 503 after 5 ms (1 in a row, for 4.0 s)"
    assert (evidence["trigger"], evidence["last_failure"]) == ("health", "status 503 after 5 ms")
    assert (evidence["in_a_row"], evidence["lasts"], why["seconds_to_detect"]) == (1, 4.0, 4.0)


async def test_where_old_is_unhealthy_as_well_it_is_an_alert(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    health(plane, old=False, new=False)
    await say(plane)
    assert weight(plane) == 25
    said = "the health probe of new fails: status 503 after 5 ms (1 in a row, for 0.0 s)"
    assert (await verdict(plane))["reasons"] == [f"{said}; that of old as well, so nothing is reverted"]


async def test_what_new_depends_on_is_a_doubt(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    depends(plane, "new", failures=2)
    await say(plane)
    assert (await verdict(plane))["name"] == "inconclusive"
    assert (await verdict(plane))["reasons"] == ["db behind new is not well: refused"]
    assert weight(plane) == 25


def depends(plane: Plane, *backends: str, failures: int) -> None:
    """A dependency of these backends has failed so often in a row."""
    found = [Dependency(name, "db", "tcp://db:1", Standing(2, 3), False, "refused") for name in backends]
    for each in found:
        for number in range(failures):
            each.standing.take(False, "refused", plane.clock.now + number)
    plane.supervisor.instance.probes.dependencies[:] = found


async def test_what_new_depends_on_and_is_down_reverts(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await say(plane)
    depends(plane, "new", failures=3)
    plane.clock.now += 4
    await say(plane)
    await eventually(lambda: weight(plane) == 0, "the revert")
    why = await plane.get("/api/v1/why")
    assert why["entry"]["reason"] == "db behind new is down: refused (3 in a row, for 4.0 s)"
    assert (why["entry"]["evidence"]["trigger"], why["seconds_to_detect"]) == ("dependency", 4.0)


async def test_what_both_depend_on_and_is_down_is_an_alert(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    depends(plane, "old", "new", failures=3)
    await say(plane)
    assert weight(plane) == 25
    assert (await verdict(plane))["reasons"][0].endswith("it is no better behind old, so nothing is reverted")


@pytest.mark.parametrize("is_new_alone", [False, True], ids=["old is down", "old needs something else"])
async def test_a_dependency_of_new_and_what_is_wrong_at_old(plane: Plane, is_new_alone: bool) -> None:
    await plane.change("stage", stage="live", weight=25)
    depends(plane, "old", "new", failures=3)
    of_old = plane.supervisor.instance.probes.dependencies[0]
    of_old.name, of_old.address = "mail", "tcp://mail:25"
    if not is_new_alone:
        health(plane, old=False, new=True)
    await say(plane)
    await plane.supervisor._guard.settle()
    assert weight(plane) == (0 if is_new_alone else 25)


async def test_a_route_that_cannot_be_judged_takes_no_other_along(
    make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    routes = [{"name": name, "match": {"path": f"/{name}"}, "stage": "live", "weight": 10} for name in ("one", "two")]
    plane = make_plane(routes=routes)
    await plane.start()

    def mistaken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(plane.supervisor._guard._watched[0].watches, "judge", mistaken)
    await say(plane, breakers=OPEN)
    state = plane.supervisor.instance.state
    assert state is not None
    await eventually(lambda: weights_of(plane) == [10, 0], "the revert of the other")
    first = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]
    assert (first["name"], first["reasons"]) == ("inconclusive", ["it could not be judged: ZeroDivisionError"])
    await say(plane, breakers=OPEN)
    assert plane.supervisor.instance.tally.own["routes_not_judged"] > 1
    assert caplog.text.count("the route could not be judged") == 1, "not with every report"


def weights_of(plane: Plane) -> list[float]:
    state = plane.supervisor.instance.state
    assert state is not None
    return [each.weight for each in state.routes.values()]


async def test_a_revert_that_cannot_be_written_is_tried_again(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await plane.change("stage", stage="live", weight=25)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_store, "write_whole", full)
    await say(plane, breakers=OPEN)
    await eventually(lambda: plane.supervisor.instance.tally.own["reverts_failed"] == 1, "the failure")
    assert weight(plane) == 25
    monkeypatch.undo()
    await plane.supervisor._guard.settle()
    await say(plane, breakers=OPEN)
    await eventually(lambda: weight(plane) == 0, "the revert")
    await plane.supervisor._guard.settle()
    assert plane.supervisor.instance.tally.own["reverts:breaker"] == 1


async def test_routes_are_judged_one_by_one(make_plane: MakePlane) -> None:
    backends = {name: {"url": "http://127.0.0.1:9"} for name in ("old", "new", "newer")}
    routes = [
        {"name": "one", "match": {"path": "/1"}, "stage": "live", "weight": 10},
        {"name": "two", "match": {"path": "/2"}, "new": "newer", "stage": "live", "weight": 10},
    ]
    plane = make_plane(backends=backends, routes=routes)
    await plane.start()
    await say(plane, breakers={"old": "closed", "new": "closed", "newer": "open"})
    await eventually(lambda: len(plane.workers[0].routings) == 2, "the revert")
    assert [(each["name"], each["latched"]) for each in (await plane.get("/api/v1/status"))["routes"]] == [
        ("one", False),
        ("two", True),
    ]


async def test_what_a_worker_had_said_to_the_last_supervisor_reverts_nothing(plane: Plane) -> None:
    """Its breaker was open when that saved what it knew, and is closed now; it has not said so to this one yet."""
    await say(plane, 0, breakers=OPEN)
    path = plane.supervisor._tally._path
    plane.supervisor._tally.save()
    saved = path.read_bytes()
    await say(plane, 0)
    await plane.change("stage", stage="live", weight=25)
    await plane.restart(between=lambda: path.write_bytes(saved))
    await plane.until_ready()
    await say(plane, 1)
    assert weight(plane) == 25
    await say(plane, 0, breakers=OPEN)
    await eventually(lambda: weight(plane) == 0, "what it says now counts")
