"""Who serves where a switch was left between two processes, of which only one may."""

from __future__ import annotations

import asyncio
import os
import signal
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
    """A ledger in its place and one beside it, what each was told, and the signals that would have been sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.signals: list[tuple[Life, int]] = []
        monkeypatch.setattr(Life, "signal", lambda life, number: self.signals.append((life, number)))
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
        for reading, _ in self.pipes:
            os.close(reading)
        for life in (self.before, self.after):
            life.dismiss()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 10)  # nothing as well where the other end is closed
    except BlockingIOError:
        return b""


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    made = Pair(monkeypatch)
    yield made
    made.close()


pytestmark = pytest.mark.asyncio


async def test_a_predecessor_that_was_relieved_serves_again(pair: Pair) -> None:
    pair.child.life = pair.before
    pair.crew.leaving = {pair.after}
    await pair.crew.settle("ledger", 5.0)
    assert (pair.told(), pair.before.on_trial) == ([GO, b""], False)


async def test_a_successor_that_has_the_place_begins(pair: Pair) -> None:
    pair.child.life = pair.after
    pair.crew.leaving = {pair.before}
    await pair.crew.settle("ledger", 5.0)
    assert (pair.told(), pair.after.on_trial) == ([b"", GO], False)


async def test_one_that_serves_is_left_alone(pair: Pair) -> None:
    pair.child.life = pair.before
    pair.before.was_told = True
    pair.crew.leaving = {pair.after}
    await pair.crew.settle("ledger", 5.0)
    assert pair.told() == [b"", b""]


async def test_nobody_begins_beside_one_that_is_stopping_still(pair: Pair) -> None:
    """As it is where a stop comes while a successor makes room for its predecessor."""
    pair.child.life = pair.after
    pair.after.was_told = pair.after.is_ending = True
    pair.crew.leaving = {pair.before}
    settling = asyncio.create_task(pair.crew.settle("ledger", 5.0))
    await asyncio.sleep(0.05)
    assert (pair.told(), pair.signals) == ([b"", b""], [(pair.after, signal.SIGTERM)])
    pair.after.code = 0
    pair.child.life = None
    pair.after.gone.set()
    assert await settling == []
    assert pair.told() == [GO, b""]
    assert pair.child.life is pair.before
    assert pair.crew.leaving == set()


async def test_one_that_does_not_stop_in_its_time_is_killed_first(pair: Pair) -> None:
    pair.child.life = pair.after
    pair.after.was_told = pair.after.is_ending = True
    pair.crew.leaving = {pair.before}
    settling = asyncio.create_task(pair.crew.settle("ledger", 0.01))
    await asyncio.sleep(0.1)
    assert (pair.told(), pair.signals[-1]) == ([b"", b""], (pair.after, signal.SIGKILL))
    pair.after.code = -signal.SIGKILL
    pair.after.gone.set()
    assert await settling == [pair.after]
    assert pair.told() == [GO, b""]
