"""A soak by a clock of ours: each limit by itself, and what is too little to say anything."""

from __future__ import annotations

from typing import Any

import pytest

from config.gates import Soak
from proxy.control.resources import READINGS
from proxy.control.soak import Reading, Soaking, growth, judged, reading
from proxy.core.gate import NO, NO_ANSWER, YES
from proxy.core.sketch import Sketch
from tests.control.fakes import Plane, balance, ledger_stats, requests

pytestmark = pytest.mark.asyncio
MIB = 2**20
LIMITS = Soak.model_validate({"lasts": "1h"})


def sketch(milliseconds: float, count: int) -> Sketch:
    made = Sketch()
    if count:
        made.add(milliseconds / 1000, count)
    return made


def after(**changes: Any) -> Reading:
    """An hour in which all was well, but for the changes."""
    well = Reading(
        3600.0, 10_000, 5, (sketch(20, 10_000), sketch(21, 10_000)), 10_000, 9_990, 3600.0, 1.0, 100 * MIB, 0
    )
    return well._replace(**changes)


NOTHING = Reading(0.0, 0, 0, (Sketch(), Sketch()), 0, 0, 0.0, 0.0, 0, 0)


async def test_all_within_limits_is_a_yes_with_figures() -> None:
    answer, text = judged(LIMITS, NOTHING, after(), 3.0 * MIB)
    assert answer == YES
    assert text.startswith("10,000 answers, errors 0.050%, p95 2")
    assert text.endswith(" ms, got 99.9% of what it is owed, available 99.972%, memory 3.0 MiB in an hour")


@pytest.mark.parametrize(
    ("changes", "grown", "text"),
    [
        ({"failed": 11}, 0, "errors 0.110%, limit 0.100%"),
        ({"latencies": (sketch(20, 100), sketch(33, 100))}, 0, "p95 32.8 ms, limit 30.0 ms"),
        ({"latencies": (sketch(200, 100), sketch(230, 100))}, 0, "p95 228.7 ms, limit 219.0 ms"),
        ({"delivered": 9_400}, 0, "got 94.0% of what it is owed, limit 95.0%"),
        ({"down": 4.0}, 0, "available 99.889%, limit 99.900%"),
        ({"restarts": 2}, 0, "2 workers were restarted"),
        ({}, 65 * MIB, "memory grows by 65.0 MiB in an hour, limit 64.0 MiB"),
        ({"failed": 100, "restarts": 1}, 0, "errors 1.000%, limit 0.100%; 1 workers were restarted"),
    ],
)
async def test_what_is_not_is_a_no_that_names_it(changes: dict[str, Any], grown: float, text: str) -> None:
    assert judged(LIMITS, NOTHING, after(**changes), grown) == (NO, text)


@pytest.mark.parametrize(
    ("changes", "grown", "text"),
    [
        ({"answered": 19}, 0.0, "new gave 19 answers; it takes 20"),
        ({}, None, "memory was not read often enough"),
        ({"latencies": (sketch(20, 100), sketch(20, 19))}, 0.0, "new's latency is known of 19 answers"),
        ({"owed": None, "delivered": None}, 0.0, "the ledger did not say what new is owed"),
        ({"owed": -5}, 0.0, "the ledger did not say what new is owed"),
        ({"observed": 0.0}, 0.0, "nobody looked whether clients could be served"),
        ({"latencies": (sketch(20, 19), sketch(20, 100))}, 0.0, "old gave too few answers to hold new's p95 against"),
    ],
)
async def test_what_is_too_little_is_no_answer(changes: dict[str, Any], grown: float | None, text: str) -> None:
    answer, said = judged(LIMITS, NOTHING, after(**changes), grown)
    assert (answer, said[: len(text)]) == (NO_ANSWER, text)


async def test_who_was_owed_nothing_lacks_nothing() -> None:
    assert judged(LIMITS, NOTHING, after(owed=0, delivered=0), 0.0)[0] == YES
    unknown = NOTHING._replace(owed=None, delivered=None)
    assert judged(LIMITS, unknown, after(), 0.0)[0] == NO_ANSWER, "the whole past would make little of the hour"


async def test_a_limit_of_its_own_needs_no_old() -> None:
    limits = Soak.model_validate({"p95": "100ms"})
    assert judged(limits, NOTHING, after(latencies=(Sketch(), sketch(90, 100))), 0.0)[0] == YES
    answer, text = judged(limits, NOTHING, after(latencies=(Sketch(), sketch(110, 100))), 0.0)
    assert (answer, "limit 100.0 ms" in text) == (NO, True)


async def test_only_what_came_in_between_counts() -> None:
    before = after(failed=9_000, latencies=(sketch(900, 50), sketch(900, 50)), owed=10_000, delivered=0, restarts=7)
    both = (sketch(20, 100), sketch(20, 100))
    for each in both:
        each.merge(sketch(900, 50))
    last = before._replace(at=7200.0, answered=20_000, observed=7200.0, latencies=both, owed=20_000, delivered=9_900)
    assert judged(LIMITS, before, last, 0.0)[0] == YES


async def test_memory_is_a_line_through_all_readings() -> None:
    assert growth([(0.0, 0.0), (10.0, 0.0)]) is None
    assert growth([(5.0, 1.0)] * 3) is None
    steady: list[tuple[float, float]] = [(at * 10.0, 100 * MIB + (at % 7) * MIB) for at in range(360)]
    assert abs(growth(steady) or 0) < MIB, "up and down is no growth"
    assert growth([(at * 10.0, at / 360 * 80 * MIB) for at in range(360)]) == pytest.approx(80 * MIB)


async def test_it_lasts_as_long_as_it_is_to_and_says_how_far_it_is() -> None:
    now = [100.0]
    slept: list[float] = []

    def read() -> Reading:
        warming = 500 * MIB if now[0] < 104 else 0  # the first tenth
        count = int(now[0] * 10)
        both = (sketch(20, count), sketch(20, count))
        return after(at=now[0], answered=count, failed=0, latencies=both, observed=now[0], memory=100 * MIB + warming)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    soaking = Soaking(Soak.model_validate({"lasts": "45s", "p95": "1s"}), read, sleep)
    assert soaking.progress == "soaks for 0 of 45 s"
    answer, text = await soaking.run()
    assert slept == [1.5] * READINGS
    assert soaking.progress == "soaks for 45 of 45 s"
    assert (answer, "memory 0.0 MiB" in text) == (YES, True), "what warming up took is no growth"


async def test_figures_come_from_workers_and_the_ledger(plane: Plane) -> None:
    assert plane.ledger is not None
    before = reading(plane.supervisor.instance, "events")
    plane.workers[0].say(requests=[requests(ok=90, failed=10), requests(side=0, ok=100)], rss_bytes=50 * MIB)
    plane.ledger.tell(ledger_stats(new=balance(delivered=97, pending=3)))
    await plane.heard(lambda: reading(plane.supervisor.instance, "events").owed == 100)
    await plane.heard(lambda: reading(plane.supervisor.instance, "events").answered == before.answered + 100)
    found = reading(plane.supervisor.instance, "events")
    assert (found.failed - before.failed, found.delivered) == (10, 97)
    assert [each.count for each in found.latencies] == [100, 100]
    assert found.memory >= 50 * MIB
