"""Targets, tables and files of a run."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.__main__ import CASES, parse_arguments
from benchmarks.admin import Admin
from benchmarks.attacked import Measured
from benchmarks.attacked import Round as AttackedRound
from benchmarks.commands import WeightResult
from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed, Started
from benchmarks.report import KIB, MIB, Report
from benchmarks.rounds import Round, Summary, check, settle, summarise
from benchmarks.stalled import StalledResult, logged_ids
from benchmarks.websocket.idle import IdleResult


def one_round(proxy: str, cpu_us: float, *, errors: int = 0, share_new: float = 0.25, copied: float = 0.0) -> Round:
    return Round(proxy, 1000, cpu_us, 20_000.0, 0.001, 0.002, errors, share_new, copied, {"worker": cpu_us})


def summary(proxy: str, cpu_us: float, *, errors: int = 0) -> Summary:
    return summarise([one_round(proxy, cpu_us, errors=errors)])


def report(**parts: object) -> Report:
    made = Report({"CPU": "one"}, rounds=5, seconds=6)
    for name, value in parts.items():
        setattr(made, name, value)
    return made


def stalled(**changes: object) -> StalledResult:
    cpu = ({"worker": 40.0}, {"ledger": 50.0})
    memory = (100 * MIB, 140 * MIB)
    good = StalledResult(9000.0, 90_000, 0.001, 0.004, 0.002, 0.018, *cpu, *memory, failed=0, lost=0, duplicates=3)
    return good._replace(**changes)  # type: ignore[arg-type]


def idle(**changes: object) -> IdleResult:
    memory = (200 * MIB, 200 * MIB + 16 * KIB * 5000)
    good = IdleResult(5000, 2000.0, 5, 0.001, 0.003, 0.001, 0.004, *memory, failed=0)
    return good._replace(**changes)  # type: ignore[arg-type]


def proxy(*, share_new: float = 25.0, copies: bool = False) -> Proxy:
    return Proxy("p", Started.__new__(Started), 1, share_new=share_new, copies=copies)


def met(made: Report) -> list[bool]:
    return [target.met for target in made.targets()]


def test_rounds_are_summed_up_by_their_median() -> None:
    made = summarise([one_round("a", cpu) for cpu in (30.0, 10.0, 20.0)])
    assert (made.rounds, made.cpu_us, made.cpu_us_min, made.cpu_us_max) == (3, 20.0, 10.0, 30.0)


@pytest.mark.parametrize(("cpu_us", "errors", "is_met"), [(16.0, 0, True), (16.1, 0, False), (10.0, 1, False)])
def test_the_split_target(cpu_us: float, errors: int, is_met: bool) -> None:
    assert met(report(split=[summary("nginx", 10), summary("crossfade", cpu_us, errors=errors)])) == [is_met]


@pytest.mark.parametrize(("cpu_us", "is_met"), [(8.0, True), (8.1, False)])
def test_the_dual_target(cpu_us: float, is_met: bool) -> None:
    assert met(report(dual=[summary("nginx", 10), summary("crossfade", cpu_us), summary("nginx 204", 1)])) == [is_met]


def test_nginx_alone_is_not_judged() -> None:
    assert report(dual=[summary("nginx mirror", 10), summary("nginx mirror 204", 3)]).targets() == []


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (stalled(), [True, True, True]),
        (stalled(stalled_p99=0.0191), [False, True, True]),
        (stalled(lost=1), [True, False, True]),
        (stalled(failed=1), [True, False, True]),
        (stalled(rss_stalled=229 * MIB), [True, True, False]),
    ],
)
def test_the_stalled_targets(result: StalledResult, expected: list[bool]) -> None:
    assert met(report(stalled=result)) == expected


@pytest.mark.parametrize(("window", "cpu_us", "is_met"), [(32, 25.0, True), (32, 25.1, False), (1, 35.0, True)])
def test_the_cost_of_a_message(window: int, cpu_us: float, is_met: bool) -> None:
    assert met(report(websocket={window: [summary("nginx", 10), summary("crossfade", cpu_us)]})) == [is_met]


@pytest.mark.parametrize(("rate", "is_met"), [(30_000.0, True), (29_900.0, False)])
def test_throughput_is_judged_where_many_are_on_their_way(rate: float, is_met: bool) -> None:
    peer = summary("websockets", 80)._replace(rate=10_000.0)
    summaries = [summary("nginx", 10), summary("crossfade", 20)._replace(rate=rate), peer]
    assert met(report(websocket={32: summaries, 1: summaries})) == [True, is_met, True]


def test_what_the_ledger_had_to_deliver_is_printed() -> None:
    ours = summary("crossfade", 20)._replace(copied=1.0, handed=0.25)
    assert "| 100.0% copied, 25.0% by the ledger |" in report(websocket={32: [ours]}).as_markdown()


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (idle(), [True, True]),
        (idle(rss_with=200 * MIB + 16 * KIB * 5000 + 1), [False, True]),
        (idle(p99_with=0.0041), [True, False]),
        (idle(failed=1), [True, False]),
    ],
)
def test_the_idle_targets(result: IdleResult, expected: list[bool]) -> None:
    assert met(report(idle=result)) == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [(stalled(), [True, True, True]), (stalled(stalled_p99=0.0191, lost=1), [False, False, True])],
)
def test_a_copy_that_stops_reading_is_judged_as_one_that_stalls(result: StalledResult, expected: list[bool]) -> None:
    assert met(report(unread=result)) == expected


@pytest.mark.parametrize(("worst", "errors", "is_met"), [(0.049, 0, True), (0.05, 0, False), (0.01, 1, False)])
def test_the_weight_target(worst: float, errors: int, is_met: bool) -> None:
    assert met(report(weight=WeightResult(50, 90_000, 0.002, worst, errors))) == [is_met]


@pytest.mark.parametrize(("seconds", "is_met"), [(0.099, True), (0.1, False)])
def test_the_help_target(seconds: float, is_met: bool) -> None:
    assert met(report(help_seconds=seconds)) == [is_met]


def of_attacked(ours: float, nginx: float) -> dict[str, dict[str, Measured]]:
    p99, cpu = (0.012, 0.010), (0.18, 0.08)
    return {"slow reading": {"crossfade": Measured(p99, cpu, ours), "nginx": Measured(p99, cpu, nginx)}}


@pytest.mark.parametrize(
    ("ours", "nginx", "is_met"), [(1.2, 1.0, True), (1.21, 1.0, False), (1.5, 1.5, True), (1.51, 1.5, False)]
)
def test_under_attack_others_wait_a_fifth_more_or_what_they_wait_with_nginx(
    ours: float, nginx: float, is_met: bool
) -> None:
    assert met(report(attacked=of_attacked(ours, nginx))) == [is_met]


def test_a_disturbed_round_says_nothing_of_an_attack() -> None:
    rounds = [AttackedRound((0.011, 0.010), (0.2, 0.1))] * 3 + [AttackedRound((0.100, 0.010), (0.9, 0.1))] * 2
    found = Measured.of(rounds)
    assert (found.p99, found.cpu) == ((0.011, 0.010), (0.2, 0.1))
    assert found.ratio == pytest.approx(1.1)


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    made = report(
        split=[summary("nginx", 10), summary("crossfade", 20)],
        stalled=stalled(),
        weight=WeightResult(50, 90_000, 0.002, 0.004, 0),
        help_seconds=0.08,
        websocket={32: [summary("nginx", 10), summary("crossfade", 20), summary("websockets", 80)]},
        idle=idle(),
        unread=stalled(),
        attacked=of_attacked(1.1, 1.0),
    )
    path = made.write(tmp_path / "results", "now")
    plain = json.loads(path.read_text())
    table = path.with_suffix(".md").read_text()
    assert plain["split"][1]["cpu_us"] == 20
    assert [target["met"] for target in plain["targets"]] == [False, *[True] * 6, False, *[True] * 6]
    assert plain["websocket"]["32"][2]["cpu_us"] == 80
    assert "| crossfade | 20.0 (20.0-20.0) | 2.00 |" in table
    assert "| slow reading | crossfade | 12.0 ms | 10.0 ms | 1.10 | 18.0%, 8.0% |" in table
    assert table.count("| met |") == 12
    assert table.count("**MISSED**") == 2


def test_a_splitter_that_does_not_split_fails_the_run() -> None:
    check(proxy(), one_round("p", 1, share_new=0.26), loses=True)
    with pytest.raises(BenchmarkFailed, match=r"50\.0% of the events went to new"):
        check(proxy(), one_round("p", 1, share_new=0.5), loses=True)


def test_a_durable_copy_that_is_missing_fails_the_run() -> None:
    check(proxy(copies=True), one_round("p", 1, copied=0.9), loses=True)
    with pytest.raises(BenchmarkFailed, match="reached both backends"):
        check(proxy(copies=True), one_round("p", 1, copied=0.999), loses=False)


class FakeAdmin(Admin):
    """A ledger with these figures."""

    def __init__(self, receipts: int, **balance: int) -> None:
        super().__init__(Path("/nowhere"))
        self._receipts = receipts
        self._balance = dict.fromkeys(("pending", "refused", "dead", "lost"), 0) | balance

    def receipts(self) -> int:
        return self._receipts

    def balance(self) -> dict[str, int]:
        return self._balance


@pytest.mark.parametrize(
    ("durability", "admin", "complaint"),
    [
        ("before-ack", FakeAdmin(1000), ""),
        ("before-ack", FakeAdmin(999), "waited .* to write 1000 receipts"),
        ("before-ack", FakeAdmin(1000, lost=1), "did not arrive"),
        ("before-ack", FakeAdmin(1000, dead=1), "did not arrive"),
        ("off", FakeAdmin(0, lost=1), ""),
        ("off", FakeAdmin(0, refused=1), "did not arrive"),
    ],
)
def test_our_ledger_is_held_to_its_promise(
    durability: str, admin: Admin, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.rounds.RECEIPTS_TIMEOUT", 0.05)
    ours = Proxy("p", Started.__new__(Started), 1, share_new=0, copies=True, durability=durability, admin=admin)
    with pytest.raises(BenchmarkFailed, match=complaint) if complaint else nullcontext():
        settle(ours, 1000)


def test_ids_are_read_from_the_whole_lines_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "ids.log"
    log.write_text("a\nb\na\nunfinish")
    assert logged_ids(log) == {"a": 2, "b": 1}


def test_arguments() -> None:
    usual = parse_arguments([])
    assert (usual.rounds, usual.seconds, usual.only, usual.strict) == (5, 6, list(CASES), False)
    quick = parse_arguments(["--quick", "--rounds", "1", "--only", "split", "--strict"])
    assert (quick.rounds, quick.seconds, quick.only, quick.strict) == (1, 2, ["split"], True)
