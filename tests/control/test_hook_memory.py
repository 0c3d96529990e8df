"""What alerts did is remembered, and not too much of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.control.hook_memory import MOST, HookMemory
from proxy.core.alerts import Done
from proxy.core.errors import RefuseToStart

pytestmark = pytest.mark.asyncio


def done(*keys: str, started: float = 10.0, token: str = "am", alert: str = "") -> dict[str, Done]:
    return {key: Done(token, started, alert) for key in keys}


async def test_it_is_there_after_a_restart(state_dir: Path) -> None:
    path = state_dir / "hooks.json"
    memory = HookMemory(path)
    await memory.remember(done("a", alert="x") | done("b", started=20.0, alert="y"), oldest=0)
    await memory.end({"a": "x", "b": "another one", "unknown": "x"})
    for each in (memory, HookMemory(path)):
        assert each.done == {"a": Done("am", 10.0, "x", ended=True), "b": Done("am", 20.0, "y")}
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_later_one_takes_the_place_of_an_earlier_one(state_dir: Path) -> None:
    memory = HookMemory(state_dir / "hooks.json")
    await memory.remember(done("a", alert="x"), oldest=0)
    await memory.remember(done("a", started=20.0), oldest=0)
    assert memory.done == {"a": Done("am", 20.0, "x")}, "which did nothing, so the earlier one is still named"
    await memory.remember(done("a", started=15.0, alert="y"), oldest=0)
    assert memory.done == {"a": Done("am", 20.0, "y")}


async def test_two_at_the_same_time_are_both_kept(state_dir: Path) -> None:
    memory = HookMemory(state_dir / "hooks.json")
    await asyncio.gather(memory.remember(done("a"), oldest=0), memory.remember(done("b"), oldest=0))
    assert HookMemory(state_dir / "hooks.json").done == done("a", "b")


async def test_what_is_too_old_to_count_is_forgotten(state_dir: Path) -> None:
    memory = HookMemory(state_dir / "hooks.json")
    await memory.remember(done("a") | done("b", started=20.0), oldest=0)
    await memory.remember(done("c", started=30.0), oldest=15.0)
    assert set(memory.done) == {"b", "c"}


async def test_of_too_many_the_oldest_of_the_same_token_are_forgotten(state_dir: Path) -> None:
    memory = HookMemory(state_dir / "hooks.json")
    await memory.remember(done("other", token="b"), oldest=0)
    await memory.remember(done(*(f"k{number}" for number in range(MOST))), oldest=0)
    await memory.remember(done("k0", "new"), oldest=0)
    assert len(memory.done) == MOST + 1
    assert memory.done.keys() & {"other", "k0", "k1", "new"} == {"other", "k0", "new"}


async def test_what_is_done_at_once_is_kept_whole(state_dir: Path) -> None:
    memory = HookMemory(state_dir / "hooks.json")
    many = done(*(f"k{number}" for number in range(MOST + 5)))
    await memory.remember(many, oldest=0)
    assert memory.done == many


async def test_nothing_is_remembered_that_is_not_on_disk(state_dir: Path) -> None:
    memory = HookMemory(state_dir / "gone" / "hooks.json")
    with pytest.raises(OSError, match="No such file"):
        await memory.remember(done("a"), oldest=0)
    assert memory.done == {}


@pytest.mark.parametrize("content", ["{", '{"schema": 2, "done": {}}', '{"schema": 1, "done": {"a": 1}}'])
async def test_another_file_is_refused(state_dir: Path, content: str) -> None:
    path = state_dir / "hooks.json"
    path.write_text(content)
    with pytest.raises(RefuseToStart, match=r"hooks\.json"):
        HookMemory(path)
