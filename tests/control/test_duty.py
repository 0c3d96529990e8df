"""When a process begins, and when it does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.control.duty import GO, GO_AFTER, Duty


class Launcher:
    """The other end: what it has said so far is what the process finds."""

    def __init__(self) -> None:
        self.duty, self.lifeline, self.ready = os.pipe(), os.pipe(), os.pipe()
        self.turns: list[bool] = []
        inherited: Any = SimpleNamespace(
            lifeline_fd=self.lifeline[0],
            ready_fd=self.ready[1],
            placed=lambda _, is_successor: self.turns.append(is_successor),
        )
        self.process = Duty(inherited, "ledger", environ={"CROSSFADE_DUTY_FD": str(self.duty[0])})

    def says(self, word: bytes) -> None:
        """To the process."""
        os.write(self.duty[1], word)

    def dismisses(self) -> None:
        """Nothing more will be said."""
        os.close(self.duty[1])


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: set())
    made = Launcher()
    yield made
    for each in (*made.lifeline, *made.ready, made.duty[0]):
        os.close(each)


@pytest.mark.parametrize("word", [GO, GO_AFTER])
def test_it_begins_when_it_is_told(launcher: Launcher, word: bytes) -> None:
    launcher.says(word)
    assert launcher.process.run(lambda _: "SIGTERM") == 0
    assert launcher.turns == [word == GO_AFTER]
    launcher.dismisses()


def test_who_is_dismissed_ends(launcher: Launcher) -> None:
    launcher.dismisses()
    assert launcher.process.run(lambda _: "SIGTERM") == 0
    assert launcher.turns == []


def test_who_was_told_to_begin_and_then_to_end_does_not_begin(launcher: Launcher) -> None:
    """The signal that went with it came when nobody heard it."""
    launcher.says(GO)
    launcher.dismisses()
    assert launcher.process.run(lambda _: "SIGTERM") == 0
    assert launcher.turns == []


def test_two_words_are_two_turns(launcher: Launcher) -> None:
    launcher.says(GO + GO_AFTER)
    turns = iter(["relieved", "SIGTERM"])
    assert launcher.process.run(lambda _: next(turns)) == 0
    assert launcher.turns == [False, True]
    launcher.dismisses()
