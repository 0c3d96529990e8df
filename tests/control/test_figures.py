"""Figures of a span: what adds up does so exactly, and what is lost elsewhere is no negative count here."""

from __future__ import annotations

from proxy.control.figures import Figures, SideFigures
from proxy.core.sketch import Sketch


def sketch(*seconds: float) -> dict[int, int]:
    made = Sketch()
    for each in seconds:
        made.add(each)
    return made.buckets


def side(answers: int = 0, **changes: object) -> SideFigures:
    return SideFigures(answers, **changes)  # type: ignore[arg-type]


def test_since_takes_counts_apart_and_leaves_what_is_of_the_moment() -> None:
    before = Figures(0, 3, 10.0, "pass", 100, (side(50, failed=1), side(50, body_bytes=500)), {"lost": 2}, 7)
    now = Figures(0, 4, 20.0, "fail", 160, (side(80, failed=4, pending=9), side(90, body_bytes=800)), {"lost": 5}, 6)
    found = now.since(before, 10.0)
    assert (found.seconds, found.epoch, found.weight, found.verdict, found.accepted) == (10.0, 4, 20.0, "fail", 60)
    assert (found.sides[0].answers, found.sides[0].failed, found.sides[0].pending) == (30, 3, 9)
    assert (found.sides[1].answers, found.sides[1].body_bytes) == (40, 300)
    assert (found.mismatches, found.sessions) == ({"lost": 3}, 6)


def test_a_count_that_fell_counts_nothing() -> None:
    before = Figures(accepted=100, sides=(side(50, chosen=50, latency={1: 50}), side()), mismatches={"lost": 9})
    now = Figures(accepted=90, sides=(side(45, chosen=45, latency={1: 45, 2: 3}), side()), mismatches={"lost": 1})
    found = now.since(before, 1.0)
    assert (found.accepted, found.sides[0].answers, found.sides[0].chosen) == (0, 0, 0)
    assert (found.sides[0].latency, found.mismatches) == ({2: 3}, {})


def test_what_a_checker_found_before_it_was_first_heard_is_not_of_now() -> None:
    assert Figures(mismatches={"lost": 9}).since(Figures(), 1.0).mismatches == {}
    assert Figures().since(Figures(mismatches={"lost": 9}), 1.0).mismatches is None


def test_merged_is_what_counting_at_once_gives() -> None:
    one = Figures(10, 3, 10.0, "fail", 5, (side(2, latency=sketch(0.001, 0.002), pending=4), side(1)), None, 3)
    two = Figures(20, 4, 0.0, "pass", 7, (side(3, latency=sketch(0.002, 0.5), pending=1), side(2)), {"lost": 1}, 1)
    both = one.merged(two)
    assert (both.seconds, both.epoch, both.weight, both.accepted, both.sessions) == (30, 4, 0.0, 12, 3)
    assert both.verdict == "fail", "the worst of the time"
    assert both.sides[0].latency == sketch(0.001, 0.002, 0.002, 0.5)
    assert (both.sides[0].answers, both.sides[0].pending, both.sides[1].pending) == (5, 4, None)
    assert both.mismatches == {"lost": 1}
    assert both.merged(two).mismatches == {"lost": 2}
    assert one.sides[0].latency == sketch(0.001, 0.002), "what was merged stays as it was"


def test_a_verdict_of_a_later_version_is_no_trouble() -> None:
    assert Figures(verdict="odd").merged(Figures(verdict="fail")).verdict == "fail"
