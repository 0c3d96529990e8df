"""How long a change took stands in its point, and the proxy's part is the difference of two ways."""

from __future__ import annotations

import time
import uuid

import pytest

from deploy.home_assistant.demo.compared import Change
from deploy.home_assistant.demo.latency import LEAST, compared, delays


def test_the_time_of_writing_is_in_the_id() -> None:
    begun = time.time_ns() // 1000
    id = uuid.uuid1().hex
    ended = time.time_ns() // 1000
    changed = begun - 40_000
    found = delays({("sensor", (("entity_id", "sensor.a"),)): {changed * 1000: {"id": id, "state": "1"}}})
    ((change, seconds),) = found.items()
    assert change == ("sensor.a", changed)
    assert 0.040 - 0.002 <= seconds <= (ended - changed) / 1e6 + 0.002


def ways(count: int, *, added: float) -> tuple[dict[Change, float], dict[Change, float]]:
    """Changes ten milliseconds apart, of which the last tenth is slow both ways."""
    direct = {("sensor.a", number * 10_000): 0.5 if number >= count * 0.9 else 0.004 for number in range(count)}
    return direct, {change: seconds + added for change, seconds in direct.items()}


def test_what_is_added_is_compared_change_by_change() -> None:
    direct, proxied = ways(101, added=0.003)
    direct[("sensor.b", 1)] = 9.0  # went one way alone
    proxied[("sensor.c", 1)] = 9.0
    found = compared(direct, proxied)
    assert found == pytest.approx((101, 101, 0.5, 0.503, 0.003, 0.003))
    assert found.text() == (
        "p95 from source to store 503.0 ms, 500.0 ms without a proxy; added by it p50 3.0 ms, p95 3.0 ms "
        "(101 changes at 101/s)"
    )
    assert found.as_dict()["added_p95_ms"] == 3.0


def test_on_a_busy_machine_more_may_be_added() -> None:
    """By as many times the way without a proxy as there are processes in the way."""
    found = compared(*ways(101, added=0.003))
    assert found.problems() == []
    assert found._replace(direct=0.006, added=0.0199).problems() == []
    assert found._replace(direct=0.006, added=0.0201).problems() != []
    assert found._replace(direct=0.040, added=0.119).problems() == []
    assert found._replace(direct=0.040, added=0.121).problems() != []


def test_a_slow_twentieth_shows() -> None:
    direct, proxied = ways(100, added=0.001)
    for change in sorted(direct)[:6]:
        proxied[change] += 0.2
    assert compared(direct, proxied).added == pytest.approx(0.201)


def test_a_few_changes_say_nothing() -> None:
    direct, proxied = ways(LEAST - 1, added=0.001)
    with pytest.raises(ValueError, match=f"only {LEAST - 1} changes went both ways, not {LEAST}"):
        compared(direct, proxied)
