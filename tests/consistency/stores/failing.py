"""The suite, part four: what goes wrong, what is said then, and that it goes on once it is mended."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

from consistency.rows import Row, Span
from consistency.stores.errors import StoreError
from consistency.stores.protocol import Store
from tests.consistency.stores.stand import SECOND, START, Damage, Stand, Suite, events, opened, plain, read

SPAN = Span(START, START + 60 * SECOND)
LATE = 5.0
"""Seconds that an answer may take beyond the store's timeout."""


def pytest_cases(metafunc: pytest.Metafunc) -> None:
    """One test for each damage of the kind, and for each way of seeing it; for `pytest_generate_tests` of a class."""
    if "damage" in metafunc.fixturenames:
        damages: dict[str, Damage] = metafunc.cls.DAMAGES
        cases = [(damage, seen) for damage in damages.values() for seen in damage.is_seen]
        names = [f"{name}-{seen}" for name, damage in damages.items() for seen in damage.is_seen]
        metafunc.parametrize(("damage", "seen"), cases, ids=names)


async def _ask(store: Store, what: str, keys: list[Any]) -> None:
    if what == "open":
        await store.open()
    elif what == "rows":
        await read(store, SPAN)
    elif what == "fetch":
        await store.fetch(keys)
    else:
        await store.fingerprints(SPAN, SECOND)


async def _as_soon_as_it_can(store: Store) -> list[Row]:
    """What it holds, opened anew. Its timeout is short for the damage's sake: a busy machine may need another try."""
    async with asyncio.timeout(LATE):
        while True:
            try:
                await store.open()
                return await read(store, SPAN)
            except StoreError:
                await asyncio.sleep(0.1)


@pytest.mark.asyncio
class Failing(Suite):
    """A kind's test class has DAMAGES: what goes wrong there, by name."""

    pytest_generate_tests = staticmethod(pytest_cases)

    async def test_it_is_said_and_passes(self, stand: Stand, damage: Damage, seen: str) -> None:
        rows = events(stand, 30)
        store = await opened(stand, rows, timeout=damage.timeout)
        keys = [row.key for row in rows]
        await damage.do(stand)
        try:
            with pytest.raises(StoreError) as caught:
                async with asyncio.timeout(damage.timeout + LATE):
                    await _ask(store, seen, keys)
        finally:
            await damage.mend(stand)
        said = "".join(traceback.format_exception(caught.value))
        assert type(caught.value) is damage.error, said
        assert str(caught.value).startswith(f"store {store.name}: ")
        for word in damage.words:
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)
        for secret in stand.secrets:
            assert secret not in said
        assert plain(await _as_soon_as_it_can(store)) == plain(rows)

    async def test_no_secret_is_shown_by_a_store(self, stand: Stand) -> None:
        store = await opened(stand, events(stand, 1))
        for secret in stand.secrets:
            assert secret not in repr(store) + str(store) + str(vars(type(store)))
