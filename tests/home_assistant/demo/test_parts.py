"""What is taken from new's store is missed there by name, and by the checker; no Home Assistant runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.home_assistant import backends
from deploy.home_assistant.demo import parts as parts_module
from deploy.home_assistant.demo.compared import Span, compare, stored_states
from deploy.home_assistant.demo.parts import Parts
from deploy.home_assistant.recorded import Recorded
from proxy.demo.backends import EVENTS_PATH
from proxy.demo.toy import Breakable
from proxy.demo.verify import verify

pytestmark = pytest.mark.asyncio

BEGUN = 1_795_980_000_000_000
"""Microseconds since 1970: 2026-11-29T19:20:00Z."""
COUNT = 20


def event(number: int) -> dict[str, object]:
    at = f"2026-11-29T19:20:{number:02}.000000+00:00"
    entity = f"sensor.room_{number % 3}"
    state = {"entity_id": entity, "state": str(number), "last_updated": at, "attributes": {}}
    return {
        "event_type": "state_changed",
        "data": {"entity_id": entity, "old_state": None, "new_state": state},
        "time_fired": at,
    }


@pytest.mark.parametrize("failing", ["_part", "Instance"])
async def test_where_one_cannot_be_begun_none_is_left(
    directory: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Breakable] = []
    make = backends._part

    def part(role: str, *arguments: Any) -> Breakable:
        if failing == "_part" and role == "ingest":
            raise OSError("no descriptor")
        begun.append(make(role, *arguments))
        return begun[-1]

    def instance(*_: Any) -> None:
        raise OSError("no descriptor")

    monkeypatch.setattr(backends, "_part", part)
    if failing == "Instance":
        monkeypatch.setattr(parts_module, "Instance", instance)
    with pytest.raises(OSError, match="no descriptor"):
        Parts(directory)
    assert [each.name for each in begun] == ["monolith", "store", "enrich", "ingest"][: len(begun)]
    assert len(begun) >= 3
    for each in begun:
        await each.child.ended(10)


async def test_what_is_lost_is_found(directory: Path) -> None:
    parts = Parts(directory)
    span = Span(BEGUN, BEGUN + COUNT * 1_000_000)
    recorded = [Recorded(f"sensor.room_{n % 3}", str(n), {}, BEGUN + n * 1_000_000, "") for n in range(COUNT)]
    try:
        await parts.start_stores()
        async with aiohttp.ClientSession() as session:
            for side in parts.sides.values():
                for number in range(COUNT):
                    async with session.post(f"{side.url}{EVENTS_PATH}", json=event(number)) as answer:
                        assert answer.status == 201, await answer.text()
        for lost in (0, 3):
            await parts.lose(lost, span)
            found = {
                side: compare(recorded, stored_states(await parts.points(side)), span, []) for side in ("old", "new")
            }
            assert (found["old"].stored, found["old"].lost) == (COUNT, ())
            gone = tuple((each.entity, each.at) for each in recorded[COUNT - lost :])
            assert (found["new"].stored, found["new"].lost) == (COUNT - lost, gone)
            said = await verify(parts.instance.config_path, BEGUN * 1000, span.ended * 1000, 10)
            assert (said["result"], said["mismatches"]) == (("fail", lost) if lost else ("pass", 0)), said
    finally:
        await parts.stop()
