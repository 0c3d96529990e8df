"""What services take, held against what it was: by readings of our own, and by a Prometheus that a test plays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from config.gates import Gate, Resources
from proxy.control.gate_calls import GateCalls
from proxy.control.gates import Gates
from proxy.control.resources import Usage
from proxy.control.soak import Reading, Soaking, both, soaking
from proxy.core.errors import BadPlan
from proxy.core.gate import NO, NO_ANSWER, YES
from proxy.core.rollout import Plan, Step
from tests.control.conftest import MakePlane
from tests.control.fakes import Clock
from tests.control.test_baselines import recorded, said
from tests.control.test_gates import no_soak
from tests.control.test_soak import after, sketch
from tests.control.web_server import Server

pytestmark = pytest.mark.asyncio
RESOURCES = Resources.model_validate(
    {"url": "http://127.0.0.1:9090", "queries": {"old-memory": "m", "new-cpu": "c"}, "timeout": "200ms"}
)


async def judged(
    cpu: Sequence[float | str], memory: Sequence[float | str] | None = None, recorded: dict[str, float] | None = None
) -> tuple[str, str]:
    """The answer after as many readings as are given, evenly over the time."""
    given: dict[str, Sequence[float | str]] = {"c": cpu, "m": memory or [100.0] * len(cpu)}
    turn = 0

    async def ask(resources: Resources, query: str) -> float | str:
        assert resources is RESOURCES
        return given[query][turn]

    usage = Usage(RESOURCES, ask, recorded)
    for turn in range(len(cpu)):
        await usage.read(turn / (len(cpu) - 1))
    return usage.judged()


async def test_what_stays_near_its_beginning_is_a_yes_with_figures() -> None:
    answer, text = await judged([1.0] * 15 + [1.19] * 15)
    assert answer == YES
    assert text == (
        "old-memory +0.0% of what it was at the beginning (100 and 100); "
        "new-cpu +19.0% of what it was at the beginning (1.19 and 1)"
    )


@pytest.mark.parametrize("last", [1.21, 0.79])
async def test_what_goes_too_far_either_way_is_a_no_that_names_it(last: float) -> None:
    answer, text = await judged([1.0] * 25 + [last] * 5)
    assert answer == NO
    assert text == f"new-cpu {last - 1:+.1%} of what it was at the beginning ({last:g} and 1), limit ±20.0%"


async def test_a_rise_in_the_middle_is_seen_and_one_odd_scrape_decides_nothing() -> None:
    assert (await judged([1.0] * 12 + [2.0] * 3 + [1.0] * 15))[0] == NO
    assert (await judged([1.0] * 12 + [2.0] + [1.0] * 17))[0] == YES


async def test_a_baseline_stands_for_the_beginning_where_it_has_the_query() -> None:
    answer, text = await judged([1.0] * 30, recorded={"new-cpu": 0.5})
    assert (answer, text) == (NO, "new-cpu +100.0% of what it was in the baseline (1 and 0.5), limit ±20.0%")
    assert (await judged([1.0] * 30, recorded={"new-cpu": 1.1}))[0] == YES


@pytest.mark.parametrize(
    ("cpu", "recorded", "text"),
    [
        (["away"] * 30, {}, "new-cpu: nothing in 10 of 10 tenths of the time: away"),
        ([1.0] * 27 + ["away"] * 3, {}, "new-cpu: nothing in 1 of 10 tenths of the time: away"),
        (["away"] * 3 + [1.0] * 27, {}, "new-cpu: nothing in 1 of 10 tenths of the time: away"),
        (["away"] * 3 + [1.0] * 27, {"new-cpu": 1.0}, "new-cpu: nothing in 1 of 10 tenths of the time: away"),
        ([0.0] * 30, {}, "new-cpu was 0 at the beginning: nothing can be held against that"),
        ([1.0] * 30, {"new-cpu": 0.0}, "new-cpu was 0 in the baseline: nothing can be held against that"),
    ],
)
async def test_what_is_not_known_is_never_a_yes(cpu: list[float | str], recorded: dict[str, float], text: str) -> None:
    assert await judged(cpu, recorded=recorded) == (NO_ANSWER, text)


async def test_what_is_known_to_be_too_much_is_a_no_whatever_else_is_not_known() -> None:
    assert (await judged([1.0] * 20 + [2.0] * 4 + ["away"] * 6))[0] == NO
    assert (await judged(["away"] * 30, [100.0] * 20 + [200.0] * 10))[0] == NO


async def test_of_two_answers_the_worse_one_stands_with_its_reasons() -> None:
    assert both((YES, "a"), (YES, "b")) == (YES, "a; b")
    assert both((YES, "a"), (NO_ANSWER, "b")) == (NO_ANSWER, "b")
    assert both((NO_ANSWER, "a"), (NO_ANSWER, "b")) == (NO_ANSWER, "a; b")
    assert both((NO_ANSWER, "a"), (NO, "b")) == (NO, "b")
    assert both((NO, "a"), (NO, "b")) == (NO, "a; b")


def resources_of(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, "queries": {"new-cpu": "cpu"}, "timeout": "2s"} | more


def gate(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "hour", "soak": {"resources": resources_of(url, **more)}}


def well(now: float) -> Reading:
    """All that the instance itself sees is as it should be."""
    count = int(now)
    both_sides = (sketch(20, count), sketch(20, count))
    return after(at=now, answered=count, failed=0, latencies=both_sides, observed=now, down=0.0, memory=0)


@pytest.mark.parametrize(
    ("last", "answer", "text"),
    [
        (0.55, YES, "new-cpu +10.0% of what it was at the beginning (0.55 and 0.5)"),
        (0.7, NO, "new-cpu +40.0% of what it was at the beginning (0.7 and 0.5), limit ±20.0%"),
        (None, NO_ANSWER, "new-cpu: nothing in 5 of 10 tenths of the time: 503 it starts"),
    ],
)
async def test_a_soak_asks_a_prometheus_to_its_end(
    last: float | None, answer: str, text: str, server: Server, tmp_path: Path
) -> None:
    now = [0.0]
    server.gives("scalar", [1.5, "0.5"])

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] >= 1800 and last is not None:
            server.gives("scalar", [1.5, str(last)])
        elif now[0] >= 1800:
            server.says(503, '{"status": "error", "error": "it starts"}')

    limits = Gate.model_validate(gate(server.url) | {"soak": {"resources": resources_of(server.url)}}).soak
    assert limits is not None
    assert limits.resources is not None
    calls = GateCalls(tmp_path)
    found = await Soaking(limits, lambda: well(now[0]), sleep, Usage(limits.resources, calls.value)).run()
    await calls.close()
    assert found[0] == answer
    assert found[1].endswith(text)
    assert len(server.bodies) == 361, "at the beginning, and every ten seconds"


@pytest.mark.parametrize(
    ("against", "what"), [("baseline", "+100.0% of what it was in the baseline"), ("beginning", "+0.0% of what it was")]
)
async def test_a_gates_soak_goes_by_the_routes_baseline(
    against: str, what: str, server: Server, make_plane: MakePlane
) -> None:
    server.gives("scalar", [1.5, "0.5"])
    plane = make_plane(gates=(Gate.model_validate(gate(server.url, against=against)),))
    await plane.start()
    await said(plane, ok=1000)
    await plane.ask("POST", "/api/v1/routes/-/baseline", {"seconds": 0.3})
    await said(plane, ok=1100)
    await recorded(plane)
    server.gives("scalar", [1.5, "1.0"])
    instance, calls = plane.supervisor.instance, GateCalls(plane.config_path.parent)
    soak = soaking(instance, instance.settings.gates[0], "events", calls)
    assert soak._usage is not None
    for tenth in range(10):
        await soak._usage.read(tenth / 10)
    await calls.close()
    assert what in soak._usage.judged()[1]


async def test_a_plan_is_refused_when_the_prometheus_of_its_soak_is_away(server: Server, tmp_path: Path) -> None:
    server.gives("vector", [])
    asked = Plan((Step(10, 1, 0, gates=("hour",)),))
    here = Gates([Gate.model_validate(gate(server.url))], tmp_path, Clock(), no_soak)
    await here.check(asked)  # what gives nothing may do so later: new may not be there yet
    away = Gates([Gate.model_validate(gate("http://127.0.0.1:1"))], tmp_path, Clock(), no_soak)
    with pytest.raises(BadPlan, match=r"gate 'hour': http://127\.0\.0\.1:1 does not answer"):
        await away.check(asked)
    await here.close()
    await away.close()


async def test_a_baseline_keeps_what_the_queries_gave(server: Server, make_plane: MakePlane) -> None:
    server.gives("scalar", [1.5, "0.5"])
    away = Gate.model_validate(gate("http://127.0.0.1:1") | {"name": "away"})
    plane = make_plane(gates=(Gate.model_validate(gate(server.url)), away))
    await plane.start()
    await said(plane, ok=1000)
    await plane.ask("POST", "/api/v1/routes/-/baseline", {"seconds": 0.4})
    await said(plane, ok=1100)
    kept = (await recorded(plane))["baseline"]["resources"]
    assert kept[0] == {"gate": "hour", "name": "new-cpu", "query": "cpu", "value": 0.5, "trouble": ""}
    assert (kept[1]["value"], "Cannot connect" in kept[1]["trouble"]) == (None, True)
    assert len(server.bodies) > 5
    await plane.restart()
    baselines = plane.supervisor.instance.baselines
    assert baselines.resources("events", "hour", {"new-cpu": "cpu"}) == {"new-cpu": 0.5}
    assert baselines.resources("events", "hour", {"new-cpu": "another query"}) == {}
    assert baselines.resources("events", "away", {"new-cpu": "cpu"}) == {}
    assert baselines.resources("other", "hour", {"new-cpu": "cpu"}) == {}
