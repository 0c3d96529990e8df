"""One connection says no more than it may in the test of failures, and nothing else than it has seen."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.core.contribution import PER_SECOND, SAVED, Contribution, Contributions
from proxy.core.sequential import CountedTest, Counts

REPORT = 0.25
"""Seconds from one report to the next."""


class Machine(RuleBasedStateMachine):
    """Some connections, in any order, against what each may say in the time."""

    def __init__(self) -> None:
        super().__init__()
        self.all = Contributions()
        self.each = [Contribution() for _ in range(3)]
        self.now = self.reported_at = 1000.0
        self.all.settle(self.now)
        self.sent = [0, 0, 0]
        """By connection, since the last report."""
        self.total = self.failed = 0
        self.left_out = [(0, 0)]

    @rule(by=st.integers(0, 2), total=st.integers(1, 40), data=st.data())
    def count(self, by: int, total: int, data: st.DataObject) -> None:
        failed = data.draw(st.integers(0, total))
        self.all.count(self.each[by], total, failed)
        self.sent[by] += total
        self.total += total
        self.failed += failed

    @rule(seconds=st.sampled_from([0.1, REPORT, 0.5, 1.0, 7.5]))
    def report(self, seconds: float) -> None:
        self.now += seconds
        most = max(SAVED, PER_SECOND * (self.now - self.reported_at))
        self.reported_at = self.now
        rooms = [min(most, each.room + PER_SECOND * (self.now - each.at)) for each in self.each]
        beyond = sum(max(0.0, sent - room) for sent, room in zip(self.sent, rooms, strict=True))
        before, after = self.left_out[-1], self.all.settle(self.now)
        assert after[0] - before[0] == pytest.approx(beyond, abs=1)
        assert 0 <= after[1] - before[1] <= after[0] - before[0] + 1
        assert after[0] >= before[0]
        self.left_out.append(after)
        self.sent = [0, 0, 0]

    @invariant()
    def is_within_what_it_may_say(self) -> None:
        total, failed = self.left_out[-1]
        assert self.total - sum(self.sent) - total <= 3 * (SAVED + PER_SECOND * (self.now - 1000.0)) + 1
        assert 0 <= failed <= self.failed


Machine.TestCase.settings = given_settings(max_examples=60, stateful_step_count=30)
TestContributions = Machine.TestCase


def test_a_busy_connection_is_as_good_or_bad_as_it_is() -> None:
    """However its failures lie within a report: none of its outcomes comes first."""
    contributions, busy = Contributions(), Contribution()
    total = failed = 0
    for second in range(100):
        contributions.count(busy, 1, 1)  # the first of each burst
        contributions.count(busy, 99, 0)
        total, failed = contributions.settle(float(second))
    assert (10_000 - total, 100 - failed) == (SAVED + 99 * PER_SECOND, PER_SECOND)


def test_who_sends_no_more_than_it_may_is_heard_in_full() -> None:
    contributions, connection = Contributions(), Contribution()
    for number in range(200):
        contributions.count(connection, 2 + number % 2, 1)
        assert contributions.settle(REPORT * number) == (0, 0)
    for number in range(200, 240):
        assert contributions.settle(REPORT * number) == (0, 0)
    contributions.count(connection, 8, 8)
    assert contributions.settle(REPORT * 240) == (3, 3)


def test_what_a_late_report_tells_counts_by_the_time_that_it_is_of() -> None:
    contributions, busy, new = Contributions(), Contribution(), Contribution()
    contributions.settle(100.0)
    contributions.count(busy, 100, 50)
    contributions.count(new, 15, 0)
    assert contributions.settle(102.0) == (80, 40)


class Traffic:
    """Events at new, each report's share of a second, some of which fail. cap: is there one?"""

    def __init__(self, seed: int = 0, *, cap: bool = True) -> None:
        self.chance = random.Random(seed)
        self.test = CountedTest(0.01)
        self.all = Contributions()
        self.connections: dict[str, Contribution] = defaultdict(Contribution)
        self.cap = cap
        self.now = 1000.0 + self.chance.random()
        self.total = self.failed = 0
        self.test.observe(Counts(self.now, 0, 0))

    def send(self, connections: int, rate: float, failing: float, name: str = "c") -> None:
        """What one report tells of so many connections, with `rate` events a second together."""
        due = rate * REPORT
        for _ in range(int(due) + (self.chance.random() < due % 1)):
            failed = int(self.chance.random() < failing)
            self.all.count(self.connections[f"{name}{self.chance.randrange(connections)}"], 1, failed)
            self.total += 1
            self.failed += failed

    def report(self) -> bool:
        """Is it an alarm?"""
        self.now += REPORT
        total, failed = self.all.settle(self.now) if self.cap else (0, 0)
        return self.test.observe(Counts(self.now, self.total - total, self.failed - failed)) is not None


def sees(seed: int, connections: int, rate: float, failing: float, limit: float = 200.0) -> float:
    """Seconds until the failures are seen."""
    traffic = Traffic(seed)
    began = traffic.now
    while traffic.now - began < limit:
        traffic.send(connections, rate, failing)
        if traffic.report():
            break
    return traffic.now - began


@pytest.mark.parametrize("cap", [True, False])
def test_a_burst_of_one_connection_is_no_alarm_by_itself(cap: bool) -> None:
    """500 events that all fail within a second, among 50 a second that do not but for a stray one later."""
    seen = []
    for seed in range(40):
        traffic = Traffic(seed, cap=cap)
        found = False
        for number in range(120):
            traffic.send(24, 50, 0.0)
            if 40 <= number < 44:
                traffic.send(1, 500, 1.0, "burst")
            if number in (49, 56, 80):
                traffic.send(1, 4, 1.0, "stray")
            found |= traffic.report()
        seen.append(found)
    assert seen == [not cap] * 40


@pytest.mark.parametrize(
    ("connections", "rate", "failing", "most"),
    [
        (24, 200, 0.3, 3.0), (4, 200, 0.3, 3.0), (4, 1250, 0.3, 3.0),
        (24, 200, 0.05, 60.0), (4, 200, 0.05, 60.0), (4, 1250, 0.05, 60.0), (2, 200, 0.05, 120.0),
    ],
)  # fmt: skip
def test_few_connections_are_enough_to_see_failures(connections: int, rate: float, failing: float, most: float) -> None:
    """Such as those of a balancer in front."""
    took = sorted(sees(seed, connections, rate, failing) for seed in range(40))
    assert took[len(took) // 2] <= 0.9 * most
    assert took[-2] <= most


def test_a_healthy_side_raises_no_alarm_through_a_few_busy_connections() -> None:
    """Just below the limit, for a quarter of an hour each."""
    for seed in range(5):
        traffic = Traffic(seed)
        for _ in range(3600):
            traffic.send(4, 400, 0.008)
            assert not traffic.report()
