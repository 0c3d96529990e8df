"""Who serves where a switch was left between two processes, of which only one may."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from proxy.control.code_place import NAMED
from proxy.control.crew import Child, Crew, Life
from proxy.control.duty import GO
from proxy.control.outfit import Outfit


class Nobody:
    """Is told, and does nothing."""

    def is_refusal_final(self, child: Child, reason: str) -> bool:
        return False

    def supervisor_ready(self, tcp: str) -> None:
        """Not here."""

    def crew_changed(self) -> None:
        """Not here."""

    def had_to_be_killed(self) -> None:
        """Not here."""


class Pair:
    """A ledger in its place and one beside it, and what each was told."""

    def __init__(self) -> None:
        self.crew = Crew(Nobody(), -1)
        self.child = Child("ledger", 0, "nothing", Outfit(NAMED, {}, (), (), -1))
        self.crew.children = [self.child]
        self.pipes = [os.pipe() for _ in range(2)]
        self.before, self.after = (
            Life("ledger", "ledger", number, writing) for number, (_, writing) in enumerate(self.pipes, 1)
        )
        for life in (self.before, self.after):
            life.on_trial = True

    def told(self) -> list[bytes]:
        """By each, so far."""
        for reading, _ in self.pipes:
            os.set_blocking(reading, False)
        return [_read(reading) for reading, _ in self.pipes]

    def close(self) -> None:
        for pipe in self.pipes:
            for each in pipe:
                os.close(each)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 10)
    except BlockingIOError:
        return b""


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_a_predecessor_that_was_relieved_serves_again(pair: Pair) -> None:
    pair.child.life = pair.before
    pair.crew.leaving = {pair.after}
    pair.crew.settle("ledger")
    assert (pair.told(), pair.before.on_trial) == ([GO, b""], False)


def test_a_successor_that_has_the_place_begins(pair: Pair) -> None:
    pair.child.life = pair.after
    pair.crew.leaving = {pair.before}
    pair.crew.settle("ledger")
    assert (pair.told(), pair.after.on_trial) == ([b"", GO], False)


def test_one_that_serves_is_left_alone(pair: Pair) -> None:
    pair.child.life = pair.before
    pair.before.was_told = True
    pair.crew.leaving = {pair.after}
    pair.crew.settle("ledger")
    assert pair.told() == [b"", b""]


def test_one_that_was_stopped_for_good_serves_no_more(pair: Pair) -> None:
    pair.child.life = None
    pair.after.was_told = pair.after.is_ending = True
    pair.crew.leaving = {pair.before, pair.after}
    pair.crew.settle("ledger")
    assert pair.told() == [GO, b""]
    assert pair.child.life is pair.before
    assert pair.crew.leaving == {pair.after}
