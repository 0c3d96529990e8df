"""The account: it never goes back, whoever dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.control.link import LedgerStats
from proxy.control.sums import Sums
from proxy.control.tally import Observed, Tally, wilson
from proxy.core.event import NEW, OLD
from tests.control.fakes import balance, ledger_stats, requests, worker_stats


def make(state_dir: Path, instance: int = 1) -> Tally:
    return Tally(state_dir / "counters", instance)


def say(tally: Tally, index: int, at: float, **changes: Any) -> None:
    tally.take(index, worker_stats(**changes), at)


def test_totals_go_on_when_a_worker_dies(state_dir: Path) -> None:
    tally = make(state_dir)
    tally.joined(0, "a")
    tally.joined(1, "b")
    say(tally, 0, 1.0, accepted={"events": 100}, requests=[requests(ok=90, failed=10)], counters={"handed": 3})
    say(tally, 1, 1.0, accepted={"events": 50}, requests=[requests(ok=50)])
    tally.left(0)
    assert tally.total().accepted["events"] == 150
    tally.joined(0, "c")
    assert tally.total().accepted["events"] == 150
    say(tally, 0, 2.0, accepted={"events": 7}, requests=[requests(ok=5, error=2)], counters={"handed": 1})
    total = tally.total()
    assert total.accepted["events"] == 157
    assert total.counters["handed"] == 4
    assert total.side("events", NEW).total == 157
    assert total.side("events", NEW).failed == 12
    assert total.side("events", OLD).total == 0
    assert tally.answered("events", NEW) == (157, 12)
    assert tally.answered("events", OLD) == (0, 0)


def test_restarts_are_counted_by_life_not_by_connection(state_dir: Path) -> None:
    tally = make(state_dir)
    for life in ("a", "a", "b", "b", "c"):
        tally.joined(0, life)
        tally.left(0)
    slot = tally.slot(0)
    assert slot is not None
    assert slot.restarts == 2


def test_another_supervisor_goes_on_with_the_account(state_dir: Path) -> None:
    tally = make(state_dir)
    tally.joined(0, "a")
    say(tally, 0, 1.0, accepted={"events": 100}, requests=[requests(ok=100)])
    tally.left(0)
    tally.joined(0, "b")
    say(tally, 0, 2.0, accepted={"events": 10}, requests=[requests(ok=10)])
    tally.ledger_joined("l1")
    tally.take_ledger(ledger_stats(new=balance(delivered=40), counters={"commits": 5}))
    tally.own["reverts:breaker"] += 1
    tally.save()

    heir = make(state_dir)
    assert heir.total().accepted["events"] == 110
    assert list(heir.present()) == []
    heir.joined(0, "b")  # the worker lived on
    say(heir, 0, 3.0, accepted={"events": 12}, requests=[requests(ok=12)])
    assert heir.total().accepted["events"] == 112
    assert heir.climbed("delivered")["new"] == 40
    heir.ledger_joined("l2")  # the ledger did not
    heir.take_ledger(ledger_stats(new=balance(delivered=41), counters={"commits": 1}))
    assert heir.ledger_counters()["commits"] == 6
    assert heir.climbed("delivered")["new"] == 41
    assert heir.own["reverts:breaker"] == 1
    slot = heir.slot(0)
    assert slot is not None
    assert slot.restarts == 1


def test_a_worker_that_another_takes_the_place_of_counts_on(state_dir: Path) -> None:
    tally = make(state_dir)
    tally.joined(0, "a")
    say(tally, 0, 1.0, accepted={"events": 5})
    tally.joined(0, "b")
    say(tally, 0, 2.0, accepted={"events": 1})
    tally.take(0, worker_stats(accepted={"events": 7}), 2.0, "a")
    assert tally.total().accepted["events"] == 8
    tally.left(0, "a")
    assert tally.total().accepted["events"] == 8
    tally.joined(0, "a", has_place=False)  # its link was lost for a moment
    tally.take(0, worker_stats(accepted={"events": 9}), 3.0, "a")
    tally.save()
    for account in (tally, make(state_dir)):
        assert account.total().accepted["events"] == 10
    slot = tally.slot(0)
    assert slot is not None
    assert (slot.life, slot.restarts) == ("b", 0)


def test_both_workers_of_a_place_come_back_to_a_new_supervisor(state_dir: Path) -> None:
    tally = make(state_dir)
    tally.joined(0, "a")
    say(tally, 0, 1.0, accepted={"events": 5})
    tally.save()
    heir = make(state_dir)
    heir.joined(0, "b")
    heir.joined(0, "a", has_place=False)
    heir.take(0, worker_stats(accepted={"events": 6}), 2.0, "a")
    assert heir.total().accepted["events"] == 6


def test_lives_that_ended_long_ago_are_folded_into_the_account(state_dir: Path) -> None:
    tally = make(state_dir)
    for number in range(50):
        tally.joined(0, str(number))
        say(tally, 0, 1.0, accepted={"events": 1})
        tally.joined(0, f"{number} b")
        tally.left(0, str(number))
        tally.left(0, f"{number} b")
    assert tally.total().accepted["events"] == 50
    assert len(tally._parting) < 20


def test_a_new_instance_keeps_counters_and_forgets_restarts(state_dir: Path) -> None:
    tally = make(state_dir, instance=1)
    tally.joined(0, "a")
    tally.joined(0, "b")
    say(tally, 0, 1.0, accepted={"events": 5})
    tally.save()
    heir = make(state_dir, instance=2)
    heir.joined(0, "c")
    slot = heir.slot(0)
    assert slot is not None
    assert slot.restarts == 0
    assert heir.total().accepted["events"] == 5


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80"])
def test_counters_that_cannot_be_read_are_counted_anew(state_dir: Path, content: bytes) -> None:
    (state_dir / "counters").write_bytes(content)
    tally = make(state_dir)
    assert tally.total().accepted == {}
    assert tally.own["counters_unreadable"] == 1


def test_delivered_never_falls_when_a_person_replays(state_dir: Path) -> None:
    tally = make(state_dir)
    tally.ledger_joined("l")
    seen = []
    for delivered, pending in ((100, 0), (40, 60), (100, 0), (110, 0)):
        tally.take_ledger(ledger_stats(new=balance(delivered=delivered, pending=pending)))
        seen.append(tally.climbed("delivered")["new"])
    assert seen == [100, 100, 160, 170]
    assert tally.climbed("owed")["new"] == 110


def test_bytes_of_the_ledger_add_up_over_its_lives(state_dir: Path) -> None:
    def delivered(size: int) -> LedgerStats:
        stats = ledger_stats()
        stats.sides[1].delivered_bytes = size
        return stats

    tally = make(state_dir)
    tally.ledger_joined("l1")
    tally.take_ledger(delivered(400))
    tally.ledger_joined("l1")  # the link was lost for a moment
    tally.take_ledger(delivered(500))
    tally.save()
    heir = make(state_dir)
    heir.ledger_joined("l2")
    heir.take_ledger(delivered(30))
    assert (heir.ledger_bytes("events", 1), heir.ledger_bytes("events", 0)) == (530, 0)
    assert heir.ledger_bytes("event", 1) == 0, "another route"


def test_bytes_of_workers_add_up_over_their_lives(state_dir: Path) -> None:
    tally = make(state_dir)
    for life, size in (("a", 100), ("b", 20)):
        tally.joined(0, life)
        said = requests(ok=1)
        said.body_bytes = size
        say(tally, 0, 1.0, requests=[said])
    tally.save()
    assert make(state_dir).total().side("events", 1).body_bytes == 120


def test_the_window_looks_back_ten_seconds(state_dir: Path) -> None:
    tally = make(state_dir)
    tally.joined(0, "a")
    for second in range(31):
        say(tally, 0, float(second), accepted={"events": 100 * second}, requests=[requests(ok=100 * second)])
    window = tally.window(30.0)
    assert 10.0 <= window.seconds <= 11.0
    assert window.sums.accepted["events"] == pytest.approx(100 * window.seconds)
    side = window.sums.side("events", NEW)
    assert side.sketch.quantile(0.5) == pytest.approx(0.004, rel=0.02)


def test_the_window_forgets_a_worker_that_left(state_dir: Path) -> None:
    tally = make(state_dir)
    tally.joined(0, "a")
    say(tally, 0, 0.0, accepted={"events": 0})
    say(tally, 0, 1.0, accepted={"events": 50})
    assert tally.window(1.0).sums.accepted["events"] == 50
    tally.left(0)
    assert tally.window(1.0).seconds == 0.0
    assert tally.total().accepted["events"] == 50


def test_observed_weight_starts_anew_with_each_change(state_dir: Path) -> None:
    tally = make(state_dir)
    for index in (0, 1):
        tally.joined(index, str(index))
        say(tally, index, 0.0, chosen={"events": (0, 0)})
        say(tally, index, 1.0, chosen={"events": (900, 100)})
    observed = tally.observed("events", 1.0)
    assert observed is not None
    assert observed.weight == 10.0
    assert observed.low < 10.0 < observed.high
    tally.cut("events", 1.0)
    assert tally.observed("events", 1.1) is None
    for index in (0, 1):
        say(tally, index, 1.2, chosen={"events": (900, 100)})
        say(tally, index, 1.4, chosen={"events": (950, 150)})
    observed = tally.observed("events", 1.4)
    assert observed is not None
    assert observed.weight == 50.0
    assert tally.observed("other", 1.4) is None


def test_wilson() -> None:
    assert wilson(0, 0) is None
    # R: prop.test(25, 100, correct = FALSE): 0.1754521 to 0.3430446
    assert wilson(25, 100) == Observed(25.0, 17.55, 34.3)
    none, all_ = wilson(0, 10), wilson(10, 10)
    assert none is not None
    assert all_ is not None
    assert (none.low, all_.high) == (0.0, 100.0)
    assert none.high > 0
    assert all_.low < 100


def test_sums_said_again_are_the_same() -> None:
    stats = worker_stats(accepted={"a": 1}, chosen={"a": (1, 2)}, requests=[requests(ok=3)], counters={"x": 4})
    stats.left_out = {"events": ((1, 0), (3, 2))}
    sums = Sums([stats, stats])
    again = Sums([sums.as_stats()])
    assert again.as_stats() == sums.as_stats()
    again.add(stats, -1)
    again.add(stats, -1)
    assert again.side("events", NEW).total == 0
    assert again.side("events", NEW).sketch.buckets == {}
