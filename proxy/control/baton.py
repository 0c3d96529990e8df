"""What a launcher hands to the one that it becomes: `exec` in place, with the same number and the same children.

    launcher --Baton, in a memfd--> exec --> `python -m proxy.control.relaunch` --> launcher, of the new code

All descriptors stay open across it, the write end of the lifeline among them, so no child sees the change. What is
handed over has a schema of its own: a version reads that of the one before, and whoever cannot is found out by a
check in a process of its own, before the exec. Children are known by their numbers, which nobody else can have before
they are reaped, and only their parent reaps them.
"""

from __future__ import annotations

import os
import signal
from typing import Final

import msgspec

from proxy.control.crew import Child, Crew, Life
from proxy.control.holdings import HeldDescriptors
from proxy.control.inherit import read_all
from proxy.control.outfit import Outfit
from proxy.control.plan import Terms
from proxy.control.switch_state import SwitchState
from proxy.core.errors import RefuseToStart

SCHEMA: Final = 1
OLDEST: Final = 1
BLOCKED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""Signals that wait from before the exec until the new launcher listens to them; each would end it meanwhile."""


class LifeHeld(msgspec.Struct):
    """One process; see `Life`."""

    name: str
    kind: str
    pid: int
    duty_fd: int
    is_serving: bool
    was_told: bool


class ChildHeld(msgspec.Struct):
    """One place; see `Child`. started_at: on the monotonic clock, which goes on."""

    kind: str
    index: int
    module: str
    backoff: float
    started_at: float
    short_lives: int
    died: int
    last_end: str
    life: LifeHeld | None


class Baton(msgspec.Struct):
    """Everything. modules: by the kind of process; path: of the configuration; pythonpath: without our own root."""

    version: str
    pid: int
    started_ns: int
    path: str
    pythonpath: str
    is_ready: bool
    had_to_kill: bool
    modules: dict[str, str]
    terms: Terms
    held: HeldDescriptors
    children: list[ChildHeld]
    leaving: list[LifeHeld]
    switch: SwitchState
    look_again: bool = False
    schema: int = SCHEMA

    def descriptors(self) -> list[int]:
        """Everything that must stay open."""
        lives = [*self.leaving, *(child.life for child in self.children if child.life is not None)]
        return [*self.held.numbers(), *(life.duty_fd for life in lives if life.duty_fd >= 0)]


def read(descriptor: int) -> Baton:
    """What another launcher handed over; raises RefuseToStart for what this version cannot read."""
    data = read_all(descriptor)
    try:
        schema = msgspec.json.decode(data)["schema"]
        if not OLDEST <= schema <= SCHEMA:
            raise RefuseToStart(f"the launcher hands over by schema {schema}, this version reads {OLDEST} to {SCHEMA}")
        return msgspec.json.decode(data, type=Baton)
    except (msgspec.DecodeError, TypeError, KeyError) as error:
        raise RefuseToStart(f"what the launcher hands over cannot be read: {error}") from None


def write(baton: Baton) -> int:
    """A memfd that holds it."""
    descriptor = os.memfd_create("crossfade-baton")
    os.write(descriptor, msgspec.json.encode(baton))
    return descriptor


def hold(crew: Crew) -> tuple[list[ChildHeld], list[LifeHeld]]:
    """The crew's places, and its lives without a place."""
    return [_child(child) for child in crew.children], [_life(life) for life in crew.leaving]


def adopt(crew: Crew, baton: Baton, outfit: Outfit) -> None:
    """Take over every process; one that died meanwhile is reaped, and started again, as any other."""
    for held in baton.children:
        child = Child(
            held.kind,
            held.index,
            held.module,
            outfit,
            backoff=held.backoff,
            started_at=held.started_at,
            short_lives=held.short_lives,
            died=held.died,
            last_end=held.last_end,
        )
        crew.children.append(child)
        if held.life is None:
            crew.start(child)
            continue
        child.life = _live(held.life)
        crew.watch(child, child.life)
    for each in baton.leaving:
        life = _live(each)
        crew.leaving.add(life)
        crew.watch(Child(life.kind, -1, "", outfit), life)


def _life(life: Life) -> LifeHeld:
    return LifeHeld(life.name, life.kind, life.pid, life.duty_fd, life.serving.is_set(), life.was_told)


def _live(held: LifeHeld) -> Life:
    if held.duty_fd >= 0:
        os.set_inheritable(held.duty_fd, False)
    life = Life(held.name, held.kind, held.pid, held.duty_fd, was_told=held.was_told)
    if held.is_serving:
        life.serving.set()
    return life


def _child(child: Child) -> ChildHeld:
    return ChildHeld(
        kind=child.kind,
        index=child.index,
        module=child.module,
        backoff=child.backoff,
        started_at=child.started_at,
        short_lives=child.short_lives,
        died=child.died,
        last_end=child.last_end,
        life=_life(child.life) if child.life is not None and child.life.runs else None,
    )
