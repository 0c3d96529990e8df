"""What alerts did, so that a notification which is repeated does not do it again after a person has re-armed.

`hooks.json` is written whole and synced. Bounded: what is older than any alert that still counts goes first, then the
oldest of the same token, so that nobody makes forget what another one's alerts did. Each entry is some 150 bytes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import msgspec

from proxy.control.files import write_whole
from proxy.core.alerts import Done
from proxy.core.errors import RefuseToStart

MEMORY_SCHEMA: Final = 1
MOST: Final = 4096
"""Entries of a token."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    done: dict[str, Done]


class HookMemory:
    """Raises RefuseToStart for a file that is not ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done: Mapping[str, Done] = _read(path)
        self._one_at_a_time = asyncio.Lock()

    @property
    def done(self) -> Mapping[str, Done]:
        """What was done, by key; another one after each change."""
        return self._done

    async def remember(self, new: Mapping[str, Done], *, oldest: float) -> None:
        """These were done. oldest: start of the oldest alert that still does something. Raises OSError."""
        async with self._one_at_a_time:
            kept = {key: each for key, each in self._done.items() if each.started >= oldest and key not in new}
            merged = {key: _merged(self._done.get(key), each) for key, each in new.items()}
            await self._write(_bounded(kept | merged, new))

    async def end(self, ended: Mapping[str, str]) -> None:
        """Alerts have ended: the name of each, by the key of what it did. Raises OSError."""
        async with self._one_at_a_time:
            found = {
                key: msgspec.structs.replace(self._done[key], ended=True)
                for key, alert in ended.items()
                if key in self._done and self._done[key].alert == alert
            }
            if found:
                await self._write({**self._done, **found})

    async def _write(self, done: Mapping[str, Done]) -> None:
        await asyncio.to_thread(write_whole, self._path, msgspec.json.encode(_File(MEMORY_SCHEMA, dict(done))))
        self._done = done


def _merged(before: Done | None, new: Done) -> Done:
    """An alert that found nothing to do takes no other one's place in the audit trail."""
    if before is None:
        return new
    started = max(before.started, new.started)
    return msgspec.structs.replace(new if new.alert else before, started=started)


def _bounded(done: Mapping[str, Done], new: Collection[str]) -> dict[str, Done]:
    """Without the oldest of a token that has too many. new: keys of the newest, which stay."""
    counts: Counter[str] = Counter()
    kept = []
    for key, each in reversed(list(done.items())):
        counts[each.token] += 1
        if counts[each.token] <= MOST or key in new:
            kept.append((key, each))
    return dict(reversed(kept))


def _read(path: Path) -> dict[str, Done]:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise RefuseToStart(f"{path} cannot be read: {error}; move it away to forget what alerts did") from None
    if content.schema != MEMORY_SCHEMA:
        raise RefuseToStart(f"{path} has schema {content.schema}, this version reads {MEMORY_SCHEMA}")
    return content.done
