"""routing.json: what is refused, and that nothing is overwritten then."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from proxy.control.file_store import FileStore, read_state
from proxy.control.state import RouteState
from proxy.core.errors import RefuseToStart
from tests.control.helpers import stuck_pool

GOOD = '{"schema":1,"revision":3,"routes":{"events":{"weight":25.0,"copy":"durable"}}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a Crossfade state file"),
        ("\x00\x01", "is not a Crossfade state file"),
        (GOOD[:-4], "is not a Crossfade state file"),
        ("[]", "is not a Crossfade state file"),
        ("{}", "is not a Crossfade state file"),
        (GOOD.replace('"schema":1', '"schema":2'), "has schema 2, this version reads 1"),
        (GOOD.replace('"schema":1', '"schema":"x"'), "has schema 'x'"),
        (GOOD.replace("25.0", "101"), "is damaged: weight must be between"),
        (GOOD.replace("25.0", '"a"'), "is damaged"),
        (GOOD.replace("durable", "maybe"), "is damaged"),
        (GOOD.replace('"weight"', '"wait"'), "is damaged"),
        (GOOD.replace('"revision":3,', ""), "is damaged"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_alone(state_dir: Path, content: str, message: str) -> None:
    path = state_dir / "routing.json"
    path.write_text(content)
    with pytest.raises(RefuseToStart, match=message) as caught:
        FileStore(path)
    assert str(path) in str(caught.value)
    assert path.read_text() == content


def test_an_unreadable_file_is_refused(state_dir: Path) -> None:
    (state_dir / "routing.json").mkdir()
    with pytest.raises(RefuseToStart, match="cannot read"):
        read_state(state_dir / "routing.json")


def test_an_older_file_without_later_members_is_read(state_dir: Path) -> None:
    path = state_dir / "routing.json"
    path.write_text(GOOD)
    state = read_state(path)
    assert state is not None
    assert state.revision == 3
    assert state.routes["events"] == RouteState(weight=25.0, copy="durable")


def test_a_later_file_that_may_be_taken_back_is_read_without_what_is_not_known(state_dir: Path) -> None:
    path = state_dir / "routing.json"
    later = {"schema": 2, "readable_from": 1, "revision": 9, "mood": "good"}
    path.write_text(json.dumps(later | {"routes": {"events": {"weight": 25.0, "latched": True, "mood": "bad"}}}))
    store = FileStore(path)
    state = read_state(path)
    assert state is not None
    assert state.routes["events"] == RouteState(weight=25.0, latched=True)
    written = asyncio.run(store.compare_and_set(9, state.routes))
    assert (written.schema, written.revision) == (1, 10)
    assert read_state(path) == written


def test_the_file_is_private(state_dir: Path) -> None:
    asyncio.run(FileStore(state_dir / "routing.json").compare_and_set(0, {}))
    assert {path.name: path.stat().st_mode & 0o777 for path in state_dir.iterdir()} == {
        "routing.json": 0o600,
        "routing.lock": 0o600,
    }


def test_nobody_else_holds_a_write_up(state_dir: Path) -> None:
    async def write() -> None:
        store = FileStore(state_dir / "routing.json")
        with stuck_pool():
            async with asyncio.timeout(5):
                await store.compare_and_set(0, {})
        store.close()

    asyncio.run(write())
    assert json.loads((state_dir / "routing.json").read_text())["revision"] == 1
