"""Results held against what is promised."""

from __future__ import annotations

import pytest

from benchmarks import latency, replay, verdicts
from benchmarks.attacked import Measured
from benchmarks.attacked import Round as AttackedRound
from benchmarks.commands import StartResult, WeightResult
from benchmarks.latency import Group, Late, Range
from benchmarks.opened import ClientsResult
from benchmarks.peers import DUAL, NGINX_MIRROR
from benchmarks.replay import ReplayResult
from benchmarks.report import KIB, MIB, Part
from benchmarks.stalled import StalledResult
from benchmarks.websocket.idle import IdleResult, Requests


def met(part: Part) -> list[bool]:
    return [target.met for target in part.targets]


def stalled(**changes: object) -> StalledResult:
    cpu = ({"worker": 40.0}, {"ledger": 50.0})
    memory = (100 * MIB, 140 * MIB)
    good = StalledResult(9000.0, 90_000, 0.001, 0.004, 0.002, 0.0139, *cpu, *memory, failed=0, lost=0, duplicates=3)
    return good._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (stalled(), [True, True, True]),
        (stalled(stalled_p99=0.0141), [False, True, True]),
        (stalled(lost=1), [True, False, True]),
        (stalled(failed=1), [True, False, True]),
        (stalled(rss_stalled=229 * MIB), [True, True, False]),
    ],
)
def test_a_copy_that_is_away(result: StalledResult, expected: list[bool]) -> None:
    assert met(verdicts.stalled("copy stalled", "client", "events", [result])) == expected


def idle_part(p99: float = 0.003, cpu: float = 50e-6, failed: int = 0) -> Requests:
    return Requests(0.001, p99, cpu, failed)


def idle(**changes: object) -> IdleResult:
    memory = (200 * MIB, 200 * MIB + 12 * KIB * 5000)
    alone, others, beside = ([idle_part(p99)] * 3 for p99 in (0.002, 0.003, 0.004))
    good = IdleResult(5000, 2000.0, alone, others, beside, *memory)
    return good._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (idle(), [True, True, True]),
        (idle(rss_with=200 * MIB + 12 * KIB * 5000 + 1), [False, True, True]),
        (idle(beside=[idle_part(0.0039), *[idle_part(0.0041)] * 2]), [True, True, False]),
        (idle(others=[idle_part(0.0031), *[idle_part(0.0029)] * 2]), [True, True, False]),
        (idle(beside=[idle_part(cpu=56e-6)] * 3), [True, False, True]),
        (idle(alone=[idle_part(failed=1), *[idle_part()] * 2]), [True, False, True]),
    ],
)
def test_idle_sessions(result: IdleResult, expected: list[bool]) -> None:
    assert met(verdicts.idle(result)) == expected


def clients(**changes: object) -> ClientsResult:
    good = ClientsResult(10_000, 2000.0, 20_000, 0, 0.001, 0.01, 200 * MIB, 200 * MIB + 10_000 * 4 * KIB)
    return good._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (clients(), [True, True]),
        (clients(rss_open=200 * MIB + 10_000 * 4 * KIB + 1), [False, True]),
        (clients(failed=19), [True, True]),
        (clients(failed=20), [True, False]),
        (clients(events=0), [True, False]),
    ],
)
def test_connected_clients(result: ClientsResult, expected: list[bool]) -> None:
    assert met(verdicts.clients([result])) == expected


@pytest.mark.parametrize(("worst", "errors", "is_met"), [(0.049, 0, True), (0.05, 0, False), (0.01, 1, False)])
def test_the_weight(worst: float, errors: int, is_met: bool) -> None:
    assert met(verdicts.weight(WeightResult(50, 90_000, 0.002, worst, errors))) == [is_met]


@pytest.mark.parametrize(("seconds", "is_met"), [(0.099, True), (0.1, False)])
def test_the_start(seconds: float, is_met: bool) -> None:
    assert met(verdicts.start(StartResult(5, 1.0, 1.1, seconds, 0.3))) == [is_met]


@pytest.mark.parametrize(("seconds", "is_met"), [(5.0, True), (5.01, False)])
def test_replay(seconds: float, is_met: bool) -> None:
    assert met(replay.part(ReplayResult(100_000, 10_000.0, 0.5, seconds, 30.0))) == [is_met]


def late(proxy: str, p99: float, *, failed: int = 0) -> Late:
    return Late(proxy, tuple(Range(share, share, share) for share in (p99 / 2, p99, p99 * 2)), failed)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [(late(DUAL, 0.004), [True]), (late(DUAL, 0.0041), [False]), (late(DUAL, 0.001, failed=1), [False])],
)
def test_latency_beside_nginx(ours: Late, expected: list[bool]) -> None:
    found = latency.part([Group("Dual write", [late(NGINX_MIRROR, 0.004), ours], "latency")])
    assert met(found) == expected
    assert [bar.name for bar in found.plots[0].bars] == [NGINX_MIRROR, DUAL]
    alone = latency.part([Group("Dual write", [late(NGINX_MIRROR, 0.004)])])
    assert (met(alone), alone.plots) == ([], [])


def of_attacked(ours: float, nginx: float) -> dict[str, dict[str, Measured]]:
    p99, cpu = (0.012, 0.010), (0.18, 0.08)
    return {"slow reading": {"crossfade": Measured(p99, cpu, ours), "nginx": Measured(p99, cpu, nginx)}}


@pytest.mark.parametrize(
    ("ours", "nginx", "is_met"), [(1.2, 1.0, True), (1.21, 1.0, False), (1.5, 1.5, True), (1.51, 1.5, False)]
)
def test_under_attack_others_wait_a_fifth_more_or_what_they_wait_with_nginx(
    ours: float, nginx: float, is_met: bool
) -> None:
    found = verdicts.attacked(of_attacked(ours, nginx))
    assert met(found) == [is_met]
    assert found.tables[0].rows[0][:4] == ["slow reading, crossfade", "12.0 ms", "10.0 ms", f"{ours:.2f}"]


def test_a_disturbed_round_says_nothing_of_an_attack() -> None:
    rounds = [AttackedRound((0.011, 0.010), (0.2, 0.1))] * 3 + [AttackedRound((0.100, 0.010), (0.9, 0.1))] * 2
    found = Measured.of(rounds)
    assert (found.p99, found.cpu) == ((0.011, 0.010), (0.2, 0.1))
    assert found.ratio == pytest.approx(1.1)
