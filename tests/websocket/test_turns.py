"""Who may deliver by a session: many at once, or one alone, in their order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.websocket.turns import Turns


@pytest.mark.asyncio
async def test_one_that_must_be_alone_waits_and_keeps_the_others_waiting() -> None:
    turns = Turns()
    await turns.enter(alone=False)
    await turns.enter(alone=False)
    alone = asyncio.ensure_future(turns.enter(alone=True))
    behind = asyncio.ensure_future(turns.enter(alone=False))
    turns.leave()
    await asyncio.sleep(0)
    assert not alone.done()
    turns.leave()
    await alone
    await asyncio.sleep(0)
    assert not behind.done()
    turns.leave()
    await behind


class TurnsMachine(RuleBasedStateMachine):
    """Deliveries come, give up and leave in any order."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.turns = Turns()
        self.tasks: list[tuple[bool, asyncio.Task[None]]] = []
        """Who has come and has not left, in that order."""

    def settle(self) -> None:
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))

    @rule(alone=st.booleans())
    def come(self, alone: bool) -> None:
        self.tasks.append((alone, self.loop.create_task(self.turns.enter(alone=alone))))
        self.settle()

    def inside(self) -> list[int]:
        return [i for i, (_, task) in enumerate(self.tasks) if task.done()]

    @precondition(lambda self: self.inside())
    @rule(which=st.integers(0, 9), same_moment=st.booleans(), other=st.integers(0, 9))
    def leave(self, which: int, same_moment: bool, other: int) -> None:
        """One leaves; in the same moment another may give up."""
        inside = self.inside()
        del self.tasks[inside[which % len(inside)]]
        self.turns.leave()
        if same_moment:
            self.cancel(other)
        self.settle()

    @rule(which=st.integers(0, 9))
    def give_up(self, which: int) -> None:
        self.cancel(which)
        self.settle()

    def cancel(self, which: int) -> None:
        waiting = [i for i, (_, task) in enumerate(self.tasks) if not task.done()]
        if waiting:
            _, task = self.tasks.pop(waiting[which % len(waiting)])
            task.cancel()

    @invariant()
    def who_is_inside(self) -> None:
        if not hasattr(self, "turns"):
            return
        inside = self.inside()
        kinds = [self.tasks[i][0] for i in inside]
        assert len(kinds) <= 1 or not any(kinds), "who must be alone is"
        assert inside == list(range(len(inside))), "in the order in which they came"
        if len(inside) < len(self.tasks):
            next_is_alone = self.tasks[len(inside)][0]
            assert inside, "nobody waits for nobody"
            assert next_is_alone or any(kinds), "whoever waits has to"

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for _, task in self.tasks:
                task.cancel()
            self.settle()
            self.loop.close()


TestTurnsMachine = TurnsMachine.TestCase
