"""Snapshots behind gaps: after any interleaving every state's last version was told, and none was told twice."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.core.known_states import KnownStates, News

NAMES = ("a", "b", "c", "d")


def version(number: int) -> str:
    """Zero microseconds are not written, so versions have two forms."""
    return f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}{'.5' if number % 2 else ''}+00:00"


def known(versions: dict[str, str] | None = None, **more: Any) -> KnownStates:
    return KnownStates(versions or {}, **({"is_established": True, "tells_first": False} | more))


def test_the_first_snapshot_of_all_is_no_news_unless_it_is_wanted() -> None:
    states = known(is_established=False)
    assert states.compare({"a": version(1)}, is_whole=True) == News([], [])
    assert states.versions == {"a": version(1)}
    assert states.compare({"a": version(2)}, is_whole=True) == News(["a"], [])
    wanted = known(is_established=False, tells_first=True)
    assert wanted.compare({"a": version(1)}, is_whole=True) == News(["a"], [])


def test_what_was_heard_on_this_connection_is_not_told_again() -> None:
    states = known({"a": version(1)})
    states.connected()
    states.heard("a", version(3))
    assert states.compare({"a": version(2)}, is_whole=True) == News([], []), "an older snapshot"
    assert states.compare({"a": version(4)}, is_whole=True) == News(["a"], []), "a later one"


def test_a_clock_that_was_set_back_hides_nothing() -> None:
    states = known({"a": version(9)})
    states.connected()
    assert states.compare({"a": version(2)}, is_whole=True) == News(["a"], [])


def test_what_is_missing_is_gone_only_from_a_whole_snapshot() -> None:
    states = known({"a": version(1), "b": version(1)})
    assert states.compare({"b": version(1)}, is_whole=False) == News([], [])
    assert states.compare({"b": version(1)}, is_whole=True) == News([], ["a"])
    assert states.compare({"b": version(1)}, is_whole=True) == News([], []), "told once"


def test_what_went_on_this_connection_does_not_come_back_with_an_older_snapshot() -> None:
    states = known({"a": version(1)})
    states.connected()
    states.heard("a", None)
    assert states.compare({"a": version(1)}, is_whole=True) == News([], [])


@pytest.mark.parametrize("other", ["yesterday", "2026-01-01T00:00:01", ""])
def test_versions_that_cannot_be_ordered_are_told_when_they_differ(other: str) -> None:
    states = known()
    states.connected()
    states.heard("a", version(1))
    assert states.compare({"a": other}, is_whole=True) == News(["a"], [])


class Gaps(RuleBasedStateMachine):
    """A source whose messages are in order, connections that drop what is on its way, snapshots in between."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self.truth: dict[str, str] = {}
        self.told: list[tuple[str, str | None]] = []
        self.line: deque[tuple[str, Any]] = deque()
        self.is_connected = False
        self.states = known(is_established=False)

    @initialize()
    def first(self) -> None:
        """Everything is known at first, for that is what is held against what comes."""
        self.connect()
        self.deliver_all()
        self.told.clear()

    def put(self, kind: str, value: Any) -> None:
        if self.is_connected:
            self.line.append((kind, value))

    @rule(name=st.sampled_from(NAMES), step=st.integers(1, 3))
    def change(self, name: str, step: int) -> None:
        self.clock += step
        self.truth[name] = version(self.clock)
        self.put("heard", (name, self.truth[name]))

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if self.truth.pop(name, None) is not None:
            self.put("heard", (name, None))

    @precondition(lambda self: self.is_connected)
    @rule()
    def disconnect(self) -> None:
        self.is_connected = False
        self.line.clear()

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connect(self) -> None:
        self.is_connected = True
        self.states.connected()
        self.snapshot()

    @precondition(lambda self: self.is_connected)
    @rule()
    def snapshot(self) -> None:
        """Taken now, and read once what is before it was."""
        self.put("snapshot", dict(self.truth))

    @precondition(lambda self: self.line)
    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.line))):
            kind, value = self.line.popleft()
            if kind == "heard":
                self.states.heard(*value)
                self.told.append(value)
            else:
                news = self.states.compare(value, is_whole=True)
                self.told += [(name, value[name]) for name in news.changed] + [(name, None) for name in news.gone]

    def deliver_all(self) -> None:
        while self.line:
            self.deliver(5)

    @invariant()
    def nothing_is_told_twice(self) -> None:
        versions = [each for each in self.told if each[1] is not None]
        assert len(versions) == len(set(versions))
        for name in NAMES:
            story = [version for of, version in self.told if of == name]
            assert all(one is not None or two is not None for one, two in pairwise(story))

    def teardown(self) -> None:
        if not self.is_connected:
            self.connect()
        self.deliver_all()
        last = dict(self.told)
        assert self.states.versions == self.truth
        assert {name: last[name] for name in last if last[name] is not None} == self.truth


TestGaps = Gaps.TestCase
