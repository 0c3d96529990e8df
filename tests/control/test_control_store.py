"""What every ControlStore does. A new implementation joins by one line in `STORES`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.control.file_store import FileStore
from proxy.control.state import Conflict, ControlStore, LiveState, RouteState

pytestmark = pytest.mark.asyncio

Open = Callable[[], ControlStore]
STORES: dict[str, Callable[[Path, int], ControlStore]] = {
    "file": lambda directory, floor: FileStore(directory / "routing.json", floor),
}
ROUTES = {"events": RouteState(weight=25.0, copy="durable")}


@pytest.fixture(params=sorted(STORES))
def open_store(request: pytest.FixtureRequest, state_dir: Path) -> Open:
    return lambda: STORES[request.param](state_dir, 0)


@pytest.fixture(params=sorted(STORES))
def open_with_floor(request: pytest.FixtureRequest, state_dir: Path) -> Open:
    return lambda: STORES[request.param](state_dir, 41)


async def test_an_empty_store_has_no_state(open_store: Open) -> None:
    assert await open_store().get() is None


async def test_revisions_count_from_one_and_survive(open_store: Open) -> None:
    store = open_store()
    first = await store.compare_and_set(0, ROUTES)
    second = await store.compare_and_set(1, {"events": RouteState()})
    assert (first.revision, second.revision) == (1, 2)
    assert await store.get() == second
    assert await open_store().get() == second


async def test_a_stale_revision_conflicts_and_changes_nothing(open_store: Open) -> None:
    store = open_store()
    await store.compare_and_set(0, ROUTES)
    for stale in (0, 2, 99):
        with pytest.raises(Conflict) as caught:
            await store.compare_and_set(stale, {})
        assert caught.value.current == 1
    state = await store.get()
    assert state is not None
    assert state.routes == ROUTES


async def test_of_two_racing_changes_one_wins(open_store: Open) -> None:
    store = open_store()
    await store.compare_and_set(0, ROUTES)
    results = await asyncio.gather(
        *(store.compare_and_set(1, {"events": RouteState(weight=float(w))}) for w in range(8)), return_exceptions=True
    )
    won = [each for each in results if isinstance(each, LiveState)]
    assert len(won) == 1
    assert sum(isinstance(each, Conflict) for each in results) == 7
    assert await store.get() == won[0]


async def test_two_holders_cannot_overwrite_each_other(open_store: Open) -> None:
    one, other = open_store(), open_store()
    await one.compare_and_set(0, ROUTES)
    with pytest.raises(Conflict):
        await other.compare_and_set(0, {})
    assert await open_store().get() == await one.get()


async def test_watch_gives_the_present_and_every_later_state(open_store: Open) -> None:
    store = open_store()
    await store.compare_and_set(0, ROUTES)
    watch = store.watch()
    assert (await anext(watch)).revision == 1
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    assert not waiting.done()
    await store.compare_and_set(1, {})
    assert (await waiting).revision == 2
    for revision in (2, 3, 4):
        await store.compare_and_set(revision, {})
    assert (await anext(watch)).revision == 5  # a slow watcher skips, but never misses the last


async def test_revisions_below_the_floor_are_never_used_again(open_with_floor: Open) -> None:
    store = open_with_floor()
    assert store.floor == 41
    assert (await store.compare_and_set(0, ROUTES)).revision == 42
    assert (await store.compare_and_set(42, {})).revision == 43
