"""The guard's benchmarks in short: they measure what they say, draws are those of the share, a miss is called one."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks import guard
from benchmarks.live import carry, figures, noise, reverts, rollback, run
from benchmarks.live.breaks import Faulty
from benchmarks.live.figures import Carried, Revert, Reverts, Turned
from benchmarks.live.noise import Healthy
from benchmarks.live.reverts import Traffic
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Target
from proxy.demo.record import Promise, Record


def test_it_measures_and_keeps_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.main(["--runs", "3", "--events", "3000", "--results", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "guard.json").read_text())
    assert kept["false"]["0.5%"]["guard"] == 0
    assert kept["false"]["0.5%"]["last 100"] == 3
    assert kept["events_to_detect"]["100%"] == 4
    assert kept["false_of_mismatches"] == {"0.02%": 0, "0.05%": 0, "0.08%": 0}
    said = " ".join(capsys.readouterr().out.split())
    assert "false reverts at 0.5%, 3 runs of 3,000 0 (3 by the last 100, " in said


def test_the_checker_is_seen_above_the_limit() -> None:
    assert guard.checker_sees(0.01, 0, 3000)
    assert not guard.checker_sees(0.0005, 0, 3000)


def test_a_missed_target_is_an_error_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SLOWER", 0.1)
    asked = ["--runs", "1", "--events", "100", "--results", str(tmp_path)]
    assert guard.main(asked) == 0
    assert guard.main([*asked, "--strict"]) == 1


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_as_many_fail_as_the_share_says(share: float) -> None:
    found = list(guard.failures(share, random.Random(1), 100_000))
    assert len(found) == pytest.approx(share * 100_000, rel=0.05)
    assert found == sorted(set(found))
    assert found[-1] < 100_000


def test_the_naive_rule_is_a_sliding_window() -> None:
    assert guard.rule_sees(1.0, 0, 1000, 100) == 100
    assert guard.rule_sees(0.0001, 0, 50, 100) is None


def revert(seconds: float, trigger: str = "breaker", **test: float) -> Revert:
    return Revert(seconds, trigger, "why", {"trigger": trigger} | ({"test": test} if test else {}))


def judged(bound: float, quantile: float | None, *found: Revert | None) -> Target:
    return figures.reverted("dead", Reverts(list(found), 100, 1), bound, quantile)


def test_the_worst_of_the_reverts_is_held_against_the_bound() -> None:
    target = judged(1.0, None, revert(0.2), revert(0.3), revert(0.9, "error-rate"))
    assert target.line() == (
        "dead  median 0.30 s, worst 0.90 s of 3 (breaker 2, error-rate 1); 1 client errors  (target <= 1 s: met)"
    )
    assert not judged(1.0, None, revert(0.2), revert(1.1)).met


def test_one_that_did_not_come_is_a_miss_however_soon_the_others_came() -> None:
    target = judged(1.0, None, revert(0.2), None)
    assert (target.measured, target.met) == ("not reverted in 1 of 2 runs", False)


def test_another_quantile_than_the_one_that_has_to_see_it_is_a_miss() -> None:
    by_tail, by_median = (revert(9.0, "slower", quantile=each) for each in (0.95, 0.5))
    assert judged(30.0, 0.95, by_tail).met
    target = judged(30.0, 0.95, by_tail, by_median)
    assert (target.met, target.bound) == (False, "<= 30 s by p95")
    assert target.measured.endswith("(slower p95 1, slower p50 1); 1 client errors")
    assert not judged(30.0, 0.95, revert(1.0)).met


def test_a_revert_of_a_healthy_side_is_a_miss_and_says_why() -> None:
    assert (
        figures.undisturbed("healthy", 60.2, "7 pauses", None)
        .line()
        .endswith("none in 60 s with 7 pauses  (target no revert: met)")
    )
    target = figures.undisturbed("healthy", 12.3, "7 pauses", revert(12.3))
    assert (target.measured, target.met) == ("reverted after 12.3 s: why", False)


TURNED = Turned(100_000, 5_010.0, 5_000.0, 4_980.0, [0.02, 0.05], errors=0, lost=0, misordered=0)


def test_a_rollback_is_judged_by_its_rate_and_by_what_clients_and_stores_saw() -> None:
    assert [target.met for target in figures.rolled_back(TURNED)] == [True, True]
    slow = figures.rolled_back(TURNED._replace(reached=3_000.0, asked=2_100.0, answered=2_095.0))
    assert slow[0].line().endswith("2,095/s of 2,100/s, at most 3,000/s  (target 5,000/s: MISSED)")
    assert slow[1].met
    for bad in (TURNED._replace(errors=1), TURNED._replace(lost=1), TURNED._replace(misordered=1)):
        assert [target.met for target in figures.rolled_back(bad)] == [True, False]


CARRIED = Carried(10_100, 2.0, missing=0, misordered=0, live=100, errors=0)


def test_a_carry_over_is_judged_by_both_stores_and_its_size() -> None:
    target = figures.carried(CARRIED, 10_000)
    assert target.met
    assert "0, 0, 0; 5,050/s for 2.0 s, beside 100 live events" in target.line()
    assert not figures.carried(CARRIED, 10_200).met
    for bad in ({"missing": 1}, {"misordered": 1}, {"errors": 1}):
        assert not figures.carried(CARRIED._replace(**bad), 10_000).met


def test_what_clients_were_promised_is_counted_while_they_sent() -> None:
    """Two a second for ten seconds; what was answered after the last one was sent is of no second."""
    sent = [each / 2 for each in range(20)]
    promises = [Promise(str(at), "k", "", 201, at, at + 0.1) for at in sent]
    assert rollback.answered(Record(promises), 4.0) == 2.0
    with pytest.raises(BenchmarkFailed, match="not one event"):
        rollback.answered(Record(), 4.0)


def measured(value: object) -> Callable[..., Awaitable[object]]:
    async def measure(*_: object) -> object:
        return value

    return measure


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be measured, without processes."""
    monkeypatch.setattr(reverts, "measure", measured(Reverts([revert(0.2), None], 5, 1)))
    monkeypatch.setattr(noise, "measure", measured(Healthy(60.0, Counter(pauses=3), 9, 0, None)))
    monkeypatch.setattr(rollback, "measure", measured(TURNED))
    monkeypatch.setattr(carry, "measure", measured(CARRIED))


@pytest.mark.usefixtures("fakes")
def test_live_figures_are_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--live", "--quick", "--plain", "--results", str(tmp_path)]
    assert guard.main(asked) == 0
    kept = json.loads((tmp_path / "guard-live.json").read_text())
    assert (kept["is_quick"], kept["is_compiled"], set(kept["cases"])) == (True, False, set(run.CASES))
    assert kept["cases"]["dead"]["found"] == [revert(0.2)._asdict(), None]
    assert kept["cases"]["dead"]["errors"] == 1
    assert kept["cases"]["noise"]["revert"] is None
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(run.CASES) + 1  # two of a rollback
    assert sum("MISSED" in line for line in printed) == len(run.FAILURES)
    assert guard.main([*asked, "--strict"]) == 1
    assert guard.main([*asked, "--strict", "--only", "noise", "carry-over"]) == 0


@pytest.mark.usefixtures("fakes")
def test_a_live_run_that_fails_says_why_and_keeps_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_events: int) -> Carried:
        raise BenchmarkFailed("the disk is full")

    monkeypatch.setattr(carry, "measure", fail)
    assert guard.main(["--live", "--plain", "--only", "rollback", "carry-over", "--results", str(tmp_path)]) == 1
    assert "FAILED: the disk is full" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "guard-live.json").read_text())["cases"]) == ["rollback"]


@pytest.mark.parametrize("option", [["--quick"], ["--plain"], ["--only", "noise"], ["--live", "--only", "nonsense"]])
def test_options_of_live_figures_are_refused_without_them(option: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        guard.main(option)
    assert ended.value.code == 2


@pytest.mark.asyncio
async def test_a_real_failure_is_reverted_and_measured() -> None:
    found = await reverts.measure(Faulty("errors"), Traffic(100.0, 60), 20.0, rounds=2)
    assert [each is not None and each.trigger in ("breaker", "error-rate") for each in found.found] == [True, True]
    assert found.events > 120


@pytest.mark.asyncio
async def test_a_real_carry_over_is_complete() -> None:
    found = await carry.measure(300)
    assert found.events >= 300
    assert (found.missing, found.misordered, found.errors) == (0, 0, 0)
    assert found.rate > 0
