"""Who watches: what they are told, and that nothing is done when nobody does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.control import streams
from proxy.control.audit import Entry
from proxy.control.streams import BEAT, FEED, MOST_WATCHERS, Streams, Watcher, message
from proxy.control.views import History
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
ENTRY = Entry(at="", epoch=1, previous_epoch=0, actor="a", action="set-weight")


def told(text: bytes) -> list[tuple[str, str, Any]]:
    """Kind, id and content of events."""
    found = []
    for each in text.decode().split("\n\n")[:-1]:
        kind, number, data = (line.partition(": ")[2] for line in each.split("\n"))
        found.append((kind, number, json.loads(data)))
    return found


class Source:
    """Snapshots that count themselves."""

    def __init__(self) -> None:
        self.made = 0
        self.read = 0
        self.fail = ""
        self.history_waits: asyncio.Event | None = None

    def snapshot(self) -> Any:
        self.made += 1
        if self.fail:
            raise RuntimeError(self.fail)
        return {"made": self.made}

    async def history(self, count: int) -> History:
        assert count == FEED
        self.read += 1
        if self.history_waits is not None:
            await self.history_waits.wait()
        return History([], self.read)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def made(source: Source, monkeypatch: pytest.MonkeyPatch) -> Streams:
    monkeypatch.setattr(streams, "TICK", 0.02)
    monkeypatch.setattr(streams, "LEAST", 0.01)
    return Streams(source.snapshot, source.history)


async def until(watcher: Watcher, holds: Callable[[str, Any], bool]) -> str:
    """The id of the first event that is so."""
    async with asyncio.timeout(20):
        while True:
            for kind, number, data in told(await watcher.next()):
                if holds(kind, data):
                    return number


async def test_a_message_is_one_line_of_json_with_kind_and_id() -> None:
    assert message("snapshot", "a.1", {"text": "two\nlines"}) == (
        b'event: snapshot\nid: a.1\ndata: {"text":"two\\nlines"}\n\n'
    )


async def test_all_watchers_are_told_what_was_made_once(made: Streams, source: Source) -> None:
    with made.watcher() as one, made.watcher() as other:
        first = await until(one, lambda kind, data: kind == "snapshot" and data["made"] == 3)
        await until(other, lambda kind, data: kind == "snapshot" and data["made"] >= 3)
    assert source.made < 20
    assert first.endswith((".3", ".4"))  # counted, the audit trail's with them


async def test_nothing_is_made_before_the_first_and_after_the_last(made: Streams, source: Source) -> None:
    made.changed()
    made.written(ENTRY)
    await asyncio.sleep(0.05)
    assert (source.made, source.read) == (0, 0)
    with made.watcher() as watcher:
        await until(watcher, lambda kind, _: kind == "history")
    seen = source.made
    await asyncio.sleep(0.1)
    assert (source.made, made.count) == (seen, 0)


async def test_who_comes_later_is_told_at_once(made: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TICK", 60.0)
    with made.watcher() as one:
        await until(one, lambda kind, _: kind == "history")
        with made.watcher() as late:
            assert {kind for kind, _, _ in told(await late.next())} == {"snapshot", "history"}


async def test_a_change_is_told_at_once(made: Streams, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TICK", 60.0)
    with made.watcher() as watcher:
        await until(watcher, lambda kind, _: kind == "snapshot")
        made.changed()
        await until(watcher, lambda kind, data: kind == "snapshot" and data["made"] == 2)
        made.written(ENTRY)
        await until(watcher, lambda kind, data: kind == "history" and data["damaged_lines"] == 2)


async def test_a_flood_of_changes_costs_one_snapshot_each_least(
    made: Streams, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LEAST", 60.0)
    with made.watcher() as watcher:
        await until(watcher, lambda kind, _: kind == "snapshot")
        for _ in range(100):
            made.changed()
            await asyncio.sleep(0)
        assert source.made == 1


async def test_who_does_not_read_has_the_newest_of_each_kind_and_no_more() -> None:
    watcher = Watcher()
    for number in range(1000):
        watcher.put("snapshot", message("snapshot", f"l.{number}", number))
    watcher.put("history", message("history", "l.1000", []))
    assert told(await watcher.next()) == [("snapshot", "l.999", 999), ("history", "l.1000", [])]


async def test_silence_is_broken_by_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.01)
    assert await Watcher().next() == BEAT


async def test_a_snapshot_that_fails_is_logged_and_made_again(
    made: Streams, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.fail = "no figures"
    with made.watcher() as watcher:
        await eventually(lambda: source.made > 2)
        source.fail = ""
        await until(watcher, lambda kind, _: kind == "snapshot")
    assert "no figures" in caplog.text


async def test_an_audit_trail_that_hangs_holds_no_snapshot_up(made: Streams, source: Source) -> None:
    source.history_waits = asyncio.Event()
    with made.watcher() as watcher:
        await until(watcher, lambda kind, data: kind == "snapshot" and data["made"] > 3)
        assert source.read == 1
        source.history_waits.set()
        await until(watcher, lambda kind, _: kind == "history")


async def test_at_the_end_all_watchers_end(made: Streams, source: Source) -> None:
    with made.watcher() as watcher:
        await until(watcher, lambda kind, _: kind == "snapshot")
        made.close()
        assert await watcher.next() == b""
        with made.watcher() as late:
            assert await late.next() == b""
    seen = source.made
    await asyncio.sleep(0.05)
    assert source.made == seen


async def test_only_so_many_may_watch(made: Streams) -> None:
    open_ones = [made.watcher() for _ in range(MOST_WATCHERS)]
    for each in open_ones:
        assert not made.is_full
        each.__enter__()
    assert made.is_full
    for each in open_ones:
        each.__exit__(None, None, None)
    assert not made.is_full
