"""How a launcher becomes the one of the new code: `exec` in place, once it is known that the new one can take over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

from proxy.control import baton
from proxy.control.baton import Baton
from proxy.control.code_place import NAMED
from proxy.control.preflight_call import run

_HEARD: Final = 0.02
"""Seconds in which the loop hears of signals that came before they were blocked."""


async def become_new(
    make: Callable[[], Baton], pythonpath: str, timeout: float, *, is_wanted: Callable[[], bool]
) -> str:
    """Become another program, with the same number, the same children and everything that is open.

    make: what is to be handed over, as it is at that moment; pythonpath: without our own root; timeout: seconds until
    the new code must have said that it can; is_wanted: asked at the last moment. It returns only where nothing comes of
    it: why, or empty when it is not wanted any more.
    """
    held = make()
    command = NAMED.command("-m", "proxy.control.relaunch", "run", held.path)
    why = await _check(command, held, pythonpath, timeout)
    if why:
        return why
    # From here on signals wait until the new program listens; what came before is heard by this loop.
    signal.pthread_sigmask(signal.SIG_BLOCK, baton.BLOCKED)
    try:
        await asyncio.sleep(_HEARD)
        return _exec(command, make(), pythonpath) if is_wanted() else ""
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, baton.BLOCKED)


async def _check(command: tuple[str, ...], held: Baton, pythonpath: str, timeout: float) -> str:
    """Let a process of its own try to read what is handed over; why it cannot."""
    descriptor = baton.write(held)
    keep = [descriptor, *held.descriptors()]
    try:
        checked = await run((*command, "--check"), _environment(descriptor, pythonpath), keep, timeout)
    except OSError as error:
        return str(error)
    finally:
        os.close(descriptor)
    if not checked.in_time:
        return f"it was not loaded within {timeout:g} s"
    return (checked.said or f"it exited with {checked.code}") if checked.code else ""


def _exec(command: tuple[str, ...], held: Baton, pythonpath: str) -> str:
    """Do it; why it cannot be done."""
    descriptor = baton.write(held)
    keep = [descriptor, *held.descriptors()]
    for each in keep:
        os.set_inheritable(each, True)
    try:
        os.execve(command[0], command, _environment(descriptor, pythonpath))  # noqa: S606 - our own interpreter
    except OSError as error:
        for each in keep:
            os.set_inheritable(each, False)
        os.close(descriptor)
        return str(error)


def _environment(descriptor: int, pythonpath: str) -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": NAMED.path(pythonpath), "CROSSFADE_BATON_FD": str(descriptor)}
