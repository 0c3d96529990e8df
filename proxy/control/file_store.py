"""The ControlStore of one instance: `routing.json` in its state directory.

    {"schema":1,"revision":7,"routes":{"events":{"weight":25.0,"copy":"durable","latched":false,...}}}

A file that is corrupt, foreign or newer is refused by name and left as it is.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from proxy.control.files import write_whole
from proxy.control.state import OLDEST_STATE_SCHEMA, READABLE_FROM, STATE_SCHEMA, Conflict, LiveState, RouteState
from proxy.core.errors import BadChange, RefuseToStart
from proxy.core.routing import check_weight
from proxy.core.versions import can_read


def read_state(path: Path) -> LiveState | None:
    """The state in a file, None without one; raises RefuseToStart for anything that is not ours."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RefuseToStart(f"cannot read {path}: {error.strerror or error}") from None
    try:
        head = msgspec.json.decode(data)
        schema = head["schema"]
    except (msgspec.DecodeError, TypeError, KeyError):
        raise RefuseToStart(
            f"{path} is not a Crossfade state file; move it away to start from the configuration"
        ) from None
    try:
        is_readable = can_read(schema, head.get("readable_from", schema), ours=STATE_SCHEMA, oldest=OLDEST_STATE_SCHEMA)
    except TypeError:
        is_readable = False
    if not is_readable:
        raise RefuseToStart(
            f"{path} has schema {schema!r}, this version reads {STATE_SCHEMA}; start the version that wrote it"
        )
    try:
        state = msgspec.convert(head if schema <= STATE_SCHEMA else _known(head), LiveState)
        for route in state.routes.values():
            check_weight(route.weight)
    except (msgspec.ValidationError, BadChange) as error:
        raise RefuseToStart(f"{path} is damaged: {error}") from None
    return state


def _known(head: dict[str, Any]) -> dict[str, Any]:
    """A later version's state without what this one does not know."""
    members, of_a_route = (frozenset(each.__struct_fields__) for each in (LiveState, RouteState))
    routes = {
        name: {key: value for key, value in route.items() if key in of_a_route}
        for name, route in head.get("routes", {}).items()
    }
    return {key: value for key, value in head.items() if key in members} | {"routes": routes}


class FileStore:
    """Reads the file once; afterwards it is the only writer, and checks that it is.

    floor: no revision up to this one is used again, even when the file was removed.
    Raises RefuseToStart.
    """

    def __init__(self, path: Path, floor: int = 0) -> None:
        self._path = path
        self.floor = floor
        self._state = read_state(path)
        self._changed = asyncio.Condition()
        self._writer = ThreadPoolExecutor(1, "routing")
        """Of writes alone, as that of the audit trail."""

    async def get(self) -> LiveState | None:
        """The present state."""
        return self._state

    async def compare_and_set(self, expected: int, routes: Mapping[str, RouteState]) -> LiveState:
        """Write the next revision; see `ControlStore`."""
        async with self._changed:
            current = self._state.revision if self._state is not None else 0
            if current != expected:
                raise Conflict(current)
            state = LiveState(STATE_SCHEMA, max(expected, self.floor) + 1, dict(routes), READABLE_FROM)
            await asyncio.get_running_loop().run_in_executor(self._writer, self._write, expected, state)
            self._state = state
            self._changed.notify_all()
            return state

    def close(self) -> None:
        """No more writes. One that is under way ends, and the process does not end before it."""
        self._writer.shutdown(wait=False)

    def _write(self, expected: int, state: LiveState) -> None:
        """Under a lock between processes: the supervisor of a dying instance may still be there."""
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            there = read_state(self._path)
            revision = there.revision if there is not None else 0
            if revision != expected:
                raise Conflict(revision)
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
        finally:
            os.close(lock)

    async def watch(self) -> AsyncIterator[LiveState]:
        """The present state and each later one."""
        seen = 0
        while True:
            async with self._changed:
                while self._state is None or self._state.revision <= seen:
                    await self._changed.wait()
                state = self._state
            seen = state.revision
            yield state
