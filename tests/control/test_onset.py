"""Since when there was the trouble for which a route is reverted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.control.check_watch import LOST, MISMATCH_RATE, PROBE
from proxy.control.downtime_watch import AVAILABILITY
from proxy.control.lag_watch import LAG
from proxy.control.link import STATS_INTERVAL
from proxy.control.onset import RUN_ENDS, Onset
from proxy.control.silence_watch import SILENCE
from proxy.control.tally import Tally
from proxy.control.watch import Cause
from proxy.control.watches import BREAKER, ERROR_RATE, HEALTH, SLOWER
from tests.control.fakes import requests, worker_stats
from tests.control.helpers import make_settings

WALL = 1_769_860_800.0
"""2026-01-31T12:00:00Z"""


class Script:
    """An onset, told how many events of new failed by when."""

    def __init__(self, folder: Path, failed: int = 0) -> None:
        self.tally = Tally(folder / "counters", 1)
        self.tally.joined(0, "a")
        self.onset = Onset(make_settings(folder).routes[0], self.tally)
        self.say(0.0, failed)
        self.onset.begin(0.0)
        self.onset.look(0.0)

    def say(self, at: float, failed: int) -> None:
        self.tally.take(0, worker_stats(requests=[requests(1, ok=100, error=failed)]), at)
        self.onset.look(at)

    def seconds(self, kind: str, now: float, **evidence: Any) -> float | None:
        return self.onset.seconds(Cause(kind, "", evidence), now, WALL)


@pytest.mark.parametrize("kind", [BREAKER, HEALTH])
def test_before_a_breaker_there_is_a_run_of_failures(tmp_path: Path, kind: str) -> None:
    script = Script(tmp_path, failed=3)
    assert script.seconds(kind, 1.0) is None, "none failed since the weight was changed"
    script.say(1.0, 4)
    script.say(1.0 + 2 * RUN_ENDS, 5)
    script.say(1.5 + 2 * RUN_ENDS, 9)
    assert script.seconds(kind, 2.0 + 2 * RUN_ENDS) == 1.0 + STATS_INTERVAL, "the stray one was of another run"
    assert script.seconds(kind, 2.0 + 4 * RUN_ENDS) is None, "it is over"
    script.onset.begin(100.0)
    script.onset.look(100.0)
    assert script.seconds(kind, 100.5) is None
    script.say(100.1, 12)
    assert script.seconds(kind, 100.1) == 0.1, "not before the weight was changed"


@pytest.mark.parametrize("kind", [BREAKER, HEALTH])
def test_what_fails_late_counts_from_when_it_was_sent(tmp_path: Path, kind: str) -> None:
    script = Script(tmp_path)
    script.onset.begin(1.0)
    script.onset.look(1.0)
    script.say(12.0, 5)
    assert script.seconds(kind, 12.0, lasts=10.25) == 10.25, "it was told 0.25 s ago, and had no answer for 10 s"
    assert script.seconds(kind, 12.0, lasts=30.0) == 11.0, "not before the weight was changed"
    assert script.seconds(kind, 15.0, lasts=0.5) == 3.0 + STATS_INTERVAL, "others had failed before it"


@pytest.mark.parametrize("kind", [ERROR_RATE, SLOWER])
def test_a_test_says_it_itself(tmp_path: Path, kind: str) -> None:
    assert Script(tmp_path).seconds(kind, 50.0, test={"seconds": 3.25}) == 3.25


@pytest.mark.parametrize(("kind", "name"), [(LAG, "lasts"), (SILENCE, "lasts"), (AVAILABILITY, "seconds")])
def test_what_has_lasted_says_for_how_long(tmp_path: Path, kind: str, name: str) -> None:
    assert Script(tmp_path).seconds(kind, 50.0, **{name: 12.5}) == 12.5


@pytest.mark.parametrize("kind", [LOST, MISMATCH_RATE, PROBE])
def test_what_the_checker_confirms_has_its_own_time(tmp_path: Path, kind: str) -> None:
    script = Script(tmp_path)
    times = [{"time": "2026-01-31T11:59:50Z"}, {"time": "2026-01-31T11:59:40Z"}, {"time": "no time"}, {}]
    assert script.seconds(kind, 1000.0, samples=times) == 20.0
    assert script.seconds(kind, 5.0, samples=times) == 5.0, "not before the weight was changed"
    assert script.seconds(kind, 5.0, samples=[{"time": "2026-01-31T12:00:09Z"}]) == 0.0
    assert script.seconds(kind, 5.0, samples=[{"identity": "e"}]) is None
    assert script.seconds(kind, 5.0) is None
