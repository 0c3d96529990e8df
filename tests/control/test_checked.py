"""What the live checker reports: the revert for it, the status, the metrics; and an instance without a checker."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.control.link import AnsweredPairs, CheckerStats
from proxy.core.answers import Answered, AnsweredPair, AnswerStats, FieldFigures
from proxy.core.checked import ProbeStats
from tests.control.conftest import MakePlane
from tests.control.fakes import FakeChecker, Plane
from tests.control.helpers import CHECK, eventually
from tests.control.test_guard import say, weight

pytestmark = pytest.mark.asyncio

TRIGGER = {"lost": 2, "mismatch_rate": "1%", "mismatch_samples": 100}


async def opened(make_plane: MakePlane, **trigger: object) -> tuple[Plane, FakeChecker]:
    route = {"name": "events", "match": {"path": "/api/v1/events"}, "trigger": TRIGGER | trigger}
    plane = make_plane(routes=[route], consistency=[CHECK])
    await plane.start()
    assert plane.checker is not None
    return plane, plane.checker


async def live(plane: Plane, checker: FakeChecker, percent: float = 25) -> None:
    """At this weight, and the checker knows."""
    epoch = (await plane.change("stage", stage="live", weight=percent))["epoch"]
    await eventually(lambda: checker.epoch == epoch, "the checker's routing")


async def find(plane: Plane, checker: FakeChecker, settled: int, mismatches: int = 0, lost: int = 0, **of: Any) -> None:
    """The checker reports, it has arrived, and what comes of it is done."""
    before = plane.supervisor.instance.tally.checks
    checker.find(settled, mismatches, lost, **of)
    await eventually(lambda: plane.supervisor.instance.tally.checks is not before, "the report")
    await plane.supervisor._guard.settle()


async def test_without_a_judgement_of_this_weight_there_is_no_pass(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)

    async def verdict() -> dict[str, Any]:
        found: dict[str, Any] = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]
        return found

    await live(plane, checker)
    await find(plane, checker, 0)
    assert (await verdict())["reasons"] == ["the checker has judged nothing of this weight yet"]
    await find(plane, checker, 100)
    assert (await verdict())["reasons"] == []
    await find(plane, checker, 10_000, 6)
    assert (await verdict())["reasons"] == [
        "6 of 10000 events differ at new, says the checker (0.06%, and 0.05% holds)"
    ]
    await find(plane, checker, 20_000, 6)
    assert (await verdict())["reasons"] == [], "one that differs holds nothing up for ever"
    await find(plane, checker, 20_000, 6, late=2, trouble="store old: gone")
    assert (await verdict())["reasons"] == ["the checker could not judge 2 windows: store old: gone"]
    await find(plane, checker, 20_000, 6)
    plane.clock.now += 20
    await say(plane)
    assert (await verdict())["reasons"] == ["the checker has said nothing for 20 s"]


async def test_what_differs_at_a_second_look_before_anything_else_is_judged(make_plane: MakePlane) -> None:
    """A window of before that is judged once more adds a mismatch, and no event."""
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    await find(plane, checker, 0, 1)
    verdict = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]
    assert verdict["name"] == "inconclusive"
    assert "1 of 0 events differ at new, says the checker (100.00%, and 0.05% holds)" in verdict["reasons"]


async def test_confirmed_losses_revert_and_say_which(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    await find(plane, checker, 10, 1, 1)
    assert weight(plane) == 25, "one is below the limit"
    await find(plane, checker, 20, 2, 2)
    assert weight(plane) == 0
    why = await plane.get("/api/v1/why")
    assert why["latched"] is True
    assert "2 events that new acknowledged are not in its store" in why["text"]
    evidence = why["entry"]["evidence"]
    assert (evidence["trigger"], evidence["lost"], evidence["checked"]) == ("lost", 2, 20)
    assert evidence["samples"] == [{"identity": "e1", "class": "lost"}]
    assert 'crossfade_reverts_total{reason="lost"} 1.0' in await plane.get("/metrics")


async def test_the_mismatch_rate_reverts_with_enough_samples(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    await find(plane, checker, 10, 10)
    plane.clock.now += 3
    await find(plane, checker, 99, 50)
    assert weight(plane) == 25, "too few to judge"
    plane.clock.now += 3
    await find(plane, checker, 200, 100)
    assert weight(plane) == 0
    entry = (await plane.get("/api/v1/why"))["entry"]
    assert entry["evidence"]["trigger"] == "mismatch-rate"
    assert entry["reason"] == "100 of 200 settled events differ at new in 6.0 s (50.00%, limit 1.00%)"
    assert entry["evidence"]["test"]["value"] >= entry["evidence"]["test"]["alarm_from"] == 4e6


async def test_a_share_below_the_limit_reverts_nothing_however_it_comes(make_plane: MakePlane) -> None:
    """A share in any window is above the limit now and then."""
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    settled = mismatches = 0
    for number in range(60):
        settled, mismatches = settled + 100, mismatches + (4 if number % 5 == 0 else 0)
        plane.clock.now += 1
        await find(plane, checker, settled, mismatches)
    assert weight(plane) == 25


async def test_a_long_good_time_does_not_hide_a_bad_minute(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    for minute in range(10):
        await find(plane, checker, 100_000 * (minute + 1))
        plane.clock.now += 60
    await find(plane, checker, 1_000_100, 60)
    plane.clock.now += 3
    await find(plane, checker, 1_000_200, 120)
    assert weight(plane) == 0


async def test_what_an_earlier_weight_did_counts_no_more(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    earlier = checker.epoch
    await live(plane, checker, 50)
    await find(plane, checker, 100, 100, 100, epoch=earlier)
    assert weight(plane) == 50, "these figures are of 25 %"
    await find(plane, checker, 100, 100, 100)
    assert weight(plane) == 0


async def test_at_weight_0_nothing_is_reverted(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)
    await plane.change("stage", stage="dualwrite")
    await eventually(lambda: checker.epoch == 2, "the routing")
    await find(plane, checker, 100, 100, 100)
    state = plane.supervisor.instance.state
    assert state is not None
    assert not state.routes["events"].latched


async def test_limits_that_are_off(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane, lost=0, mismatch_rate="100%")
    await live(plane, checker)
    await find(plane, checker, 1000, 1000, 1000)
    assert weight(plane) == 25


async def test_probes_that_new_fails_revert(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane, probe_failures=2)
    await live(plane, checker)
    failed = ProbeStats(1_700_000_000 * 10**9, "events", "new: not there within 30 s", failures=5, against_new=1)
    await find(plane, checker, 0, probe=failed)
    assert weight(plane) == 25, "one is below the limit, and what both sides failed does not count"
    await find(plane, checker, 0, probe=msgspec.structs.replace(failed, against_new=2, route="other"))
    assert weight(plane) == 25, "it went by another route"
    await find(plane, checker, 0, probe=msgspec.structs.replace(failed, against_new=2))
    assert weight(plane) == 0
    entry = (await plane.get("/api/v1/why"))["entry"]
    assert entry["evidence"]["trigger"] == "probe"
    assert entry["reason"].startswith("2 probes in a row failed at new and not at old, the last one at new: not there")
    assert 'crossfade_reverts_total{reason="probe"} 1.0' in await plane.get("/metrics")


async def test_what_probes_say_is_shown(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane, probe_failures=0)
    await live(plane, checker)
    await find(plane, checker, 0, probe=ProbeStats())
    status = await plane.get("/api/v1/status")
    assert status["consistency"][0]["probe"] == {
        "sent": "", "passed": None, "error": None, "failures": 0, "visible": {},
    }  # fmt: skip
    assert "crossfade_probe_passed{" not in await plane.get("/metrics")
    await find(
        plane,
        checker,
        0,
        probe=ProbeStats(1_700_000_000 * 10**9, "events", "new: late", 9, 9, {"old": 0.25, "new": 12.5}),
    )
    assert weight(plane) == 25, "it is off"
    status = await plane.get("/api/v1/status")
    (check,) = status["consistency"]
    assert (check["probe"]["passed"], check["probe"]["sent"]) == (False, "2023-11-14T22:13:20.000Z")
    assert "consistency of events: 9 probes in a row failed, the last one at new: late" in status["warnings"]
    metrics = await plane.get("/metrics")
    assert 'crossfade_probe_passed{routes="events"} 0.0' in metrics
    assert 'crossfade_probe_visible_seconds{routes="events",side="new"} 12.5' in metrics


async def test_a_new_supervisor_goes_on_with_what_was_found(make_plane: MakePlane) -> None:
    """The checker keeps its counts: what it confirmed while nobody listened reverts as well."""
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    await plane.restart()
    await plane.until_ready()
    await find(plane, checker, 20, 2, 2)
    assert weight(plane) == 0


async def test_what_a_new_supervisor_finds_there_may_be_of_weeks(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    await plane.restart()
    await plane.until_ready()
    began = checker.epoch
    await find(plane, checker, 1200, 30, trial_epoch=began - 1)
    assert weight(plane) == 25, "mismatches of long ago"
    await find(plane, checker, 1300, 80, trial_epoch=began - 1)
    plane.clock.now += 3
    await find(plane, checker, 1400, 130, trial_epoch=began - 1)
    assert weight(plane) == 0, "100 of 200 since then"


async def test_what_was_found_at_0_is_forgiven_by_who_begins_anew(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)
    await live(plane, checker)
    await find(plane, checker, 20, 2, 2)
    assert weight(plane) == 0
    reverted = await plane.change("stage", stage="dualwrite")
    await eventually(lambda: checker.epoch == reverted["epoch"], "the routing")
    of_zero = checker.epoch
    await find(plane, checker, 50, 3, 3, trial_epoch=of_zero)

    async def named() -> str:
        found: str = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]["name"]
        return found

    assert await named() == "fail", "copies are judged at 0, too"
    epoch = (await plane.change("rearm"))["epoch"]
    await eventually(lambda: checker.epoch == epoch, "the routing")
    await find(plane, checker, 60, 3, 3, trial_epoch=of_zero)
    assert await named() != "fail", "it was known when the route was re-armed"
    await find(plane, checker, 70, 5, 5, trial_epoch=of_zero)
    assert await named() == "fail", "two more"


async def test_status_and_metrics(make_plane: MakePlane) -> None:
    plane, checker = await opened(make_plane)
    (nothing_yet,) = (await plane.get("/api/v1/status"))["consistency"]
    assert (nothing_yet["alive"], nothing_yet["checked"], nothing_yet["checked_until"]) == (True, 0, "")
    now = 1_700_000_000 + plane.clock.now
    checker.find(
        7, 2, 1, checked=7, classes={"equal": 5, "lost": 1, "different": 1, "foreign": 3},
        judged_until=round((now - 8) * 1e9), settle=5.0, pending=1, late=2, trouble="store old: gone",
        unused_rules=["/tempratrue ignore"],
    )  # fmt: skip
    await eventually(lambda: plane.supervisor.instance.tally.checks, "the report")
    status = await plane.get("/api/v1/status")
    (check,) = status["consistency"]
    assert (check["checked"], check["mismatches"], check["behind_s"], check["settle_s"]) == (7, 2, 8.0, 5.0)
    assert (check["pending"], check["late"], check["trouble"]) == (1, 2, "store old: gone")
    assert check["since_change"]["lost"] == 1
    assert check["since_change"]["rate"] == pytest.approx(2 / 7)
    said = [text for text in status["warnings"] if text.startswith("consistency of events")]
    assert any("store old: gone" in text for text in said)
    assert any("2 windows are late" in text for text in said)
    assert any("rule /tempratrue ignore has matched nothing" in text for text in said)
    assert check["unused_rules"] == ["/tempratrue ignore"]
    assert any("2 mismatches (1 lost) at new since the weight was changed" in text for text in said)
    metrics = await plane.get("/metrics")
    for line in (
        'crossfade_mismatches_total{class="lost",routes="events"} 1.0',
        'crossfade_mismatches_total{class="duplicate",routes="events"} 0.0',
        'crossfade_checked_events_total{routes="events"} 7.0',
        'crossfade_judged_events_total{class="foreign",routes="events"} 3.0',
        'crossfade_check_late_windows{routes="events"} 2.0',
        'crossfade_check_behind_seconds{routes="events"} 8.0',
        "crossfade_checker_up 1.0",
    ):
        assert line in metrics
    await checker.link.close()
    await eventually(lambda: plane.supervisor.instance.peers.checker is None, "its end")
    status = await plane.get("/api/v1/status")
    assert status["consistency"][0]["alive"] is False
    assert status["consistency"][0]["checked"] == 7, "what it said last"
    assert "consistency of events: the checker is down; the launcher starts it again" in status["warnings"]
    assert status["ready"] is True, "traffic needs no checker"
    assert "crossfade_checker_up 0.0" in await plane.get("/metrics")


async def test_an_instance_without_checks_says_nothing_of_them(plane: Plane) -> None:
    assert (await plane.get("/api/v1/status"))["consistency"] == []
    assert "crossfade_checked_events" not in await plane.get("/metrics")


async def test_answers_go_to_the_checker_and_come_back_as_figures(make_plane: MakePlane) -> None:
    route = {"name": "events", "match": {"path": "/api/v1/events"}, "stage": "shadow"}
    plane = make_plane(routes=[route], consistency=[CHECK])
    await plane.start()
    assert plane.checker is not None
    (nothing_yet,) = (await plane.get("/api/v1/status"))["answers"]
    assert (nothing_yet["comparing"], nothing_yet["compared"], nothing_yet["fields"]) == (True, 0, {})
    assert "crossfade_answers_compared" not in await plane.get("/metrics")
    pair = AnsweredPair(
        "events", "e1", b"POST / HTTP/1.1\r\n", b"in", Answered(200, b"", b"1"), Answered(201, b"", b"2")
    )
    assert plane.workers[0].link.send(AnsweredPairs([pair]))
    await eventually(lambda: plane.checker is not None and plane.checker.pairs, "the pair")
    assert plane.checker.pairs == [pair]
    stats = AnswerStats("events", 200, 3, 20, 5, 100, {"/body/t": FieldFigures(20, 15, 10)}, [{"id": "e1"}], "")
    assert plane.checker.link.send(CheckerStats([], [stats]))
    await eventually(lambda: plane.supervisor.instance.tally.answers, "the figures")
    (answers,) = (await plane.get("/api/v1/consistency"))["answers"]
    assert answers["fields"] == {"/body/t": {"different": 0.1, "different_twice": 0.15, "noise": 0.1}}
    assert (answers["compared"], answers["beyond_noise"], answers["samples"]) == (200, 5, [{"id": "e1"}])
    assert answers["unread"] == 3
    metrics = await plane.get("/metrics")
    assert 'crossfade_answers_compared{route="events"} 200.0' in metrics
    assert 'crossfade_answers_different_ratio{route="events"} 0.025' in metrics
    await plane.change("stage", stage="dualwrite")
    assert (await plane.get("/api/v1/status"))["answers"][0]["comparing"] is False


async def test_a_checker_for_answers_alone_is_missed(make_plane: MakePlane) -> None:
    route = {"name": "events", "match": {"path": "/api/v1/events"}, "compare_answers": {"when": "always"}}
    plane = make_plane(routes=[route])
    await plane.start()
    status = await plane.get("/api/v1/status")
    assert "the checker, which compares answers, is down; the launcher starts it again" in status["warnings"]
    assert "crossfade_checker_up 0.0" in await plane.get("/metrics")
