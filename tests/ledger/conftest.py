"""Fixtures: a book on a store; a directory that is short enough for sockets, and ledgers in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ledger.support import Desk, Ledgers, counted, settings_for, short_directory


@pytest.fixture
def short(request: pytest.FixtureRequest) -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger")
    yield desk
    assert desk.store.balance() == counted(desk.store), "the balance is not what the rows say"
    desk.store.close()


@pytest_asyncio.fixture
async def ledgers(short: Path, request: pytest.FixtureRequest) -> AsyncIterator[Ledgers]:
    """Ledgers whose settings a test changes with `@pytest.mark.parametrize("ledgers", [{...}], indirect=True)`."""
    ledgers = Ledgers(short, settings_for(short, **getattr(request, "param", {})))
    yield ledgers
    for worker in ledgers.workers:
        await worker.die()
    await ledgers.stop()
    assert ledgers.deaths == []
