"""Connections that end here have their turns, spread over the time."""

from __future__ import annotations

from typing import cast

import pytest

from proxy.fanout.relay import Relay
from proxy.worker import draining
from proxy.worker.draining import Draining


class FakeRelay:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("many", [1, 50])
def test_each_has_a_turn_of_its_own_before_the_time_is_over(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    chances = iter([(number + 0.5) / many for number in range(many)])
    monkeypatch.setattr(draining, "random", lambda: next(chances))
    counted: list[str] = []
    turns = Draining(110.0, counted.append)
    relays = [FakeRelay() for _ in range(many)]
    for relay in relays:
        turns.add(cast(Relay, relay), 100.0)
        turns.add(cast(Relay, relay), 100.0)  # known already
        assert cast(Relay, relay) in turns
    turns.look(100.0)
    assert counted == []
    turns.look(105.0 + 1e-6)
    assert abs(len(counted) - many / 2) <= 1
    turns.look(110.0)
    assert [relay.closed for relay in relays] == [1] * many
    assert counted == ["drained_consumer"] * many
