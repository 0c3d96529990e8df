"""Baselines: recorded from what workers say, kept over restarts, refused where they would be guesses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.control import baselines
from proxy.control.sums import Answers
from proxy.core.errors import RefuseToStart
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, requests
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
PATH = "/api/v1/routes/-/baseline"


async def said(plane: Plane, ok: int, failed: int = 0) -> None:
    """Old has answered so many, all in all."""
    slot = plane.supervisor.instance.tally.slot(0)
    before = slot.latest if slot is not None else None
    plane.workers[0].say(requests=[requests(side=0, ok=ok, failed=failed)])

    def arrived() -> bool:
        slot = plane.supervisor.instance.tally.slot(0)
        return slot is not None and slot.latest is not before

    await plane.heard(arrived)


async def recorded(plane: Plane) -> dict[str, Any]:
    await eventually(lambda: plane.supervisor.instance.baselines.left("events") is None, "the recording")
    return dict(await plane.get(PATH))


async def test_what_was_answered_in_between() -> None:
    before, after = Answers(), Answers()
    before.add(requests(ok=100, failed=7), 1)
    after.add(requests(ok=400, failed=10), 1)
    found = baselines.baseline(before, after, 30.0, "now")
    assert (found.answers, found.rate) == (303, 10.1)
    assert found.error_rate == pytest.approx(3 / 303)
    assert 0 < found.p50 <= found.p95 <= found.p99
    nothing = baselines.baseline(after, after, 30.0, "now")
    assert (nothing.answers, nothing.error_rate, nothing.p95) == (0, 0.0, 0.0)


async def test_a_baseline_is_recorded_audited_and_kept(plane: Plane) -> None:
    assert await plane.get(PATH) == {"route": "events", "left_s": None, "baseline": None, "trouble": None}
    await said(plane, ok=1000)
    status, begun = await plane.ask("POST", PATH, {"seconds": 0.3, "reason": "before"})
    assert (status, begun["left_s"] > 0, begun["baseline"]) == (202, True, None)
    await said(plane, ok=1095, failed=5)
    found = await recorded(plane)
    assert (found["baseline"]["answers"], found["baseline"]["error_rate"]) == (100, 0.05)
    assert (await plane.get("/api/v1/status"))["routes"][0]["baseline"] == found["baseline"]
    entries = (await plane.get("/api/v1/history"))["entries"]
    assert [entry["action"] for entry in entries[:2]] == ["baseline", "record-baseline"]
    assert entries[0]["evidence"]["p95"] == found["baseline"]["p95"]
    await plane.restart()
    assert (await plane.get(PATH))["baseline"] == found["baseline"]


async def test_too_few_answers_are_no_baseline(plane: Plane) -> None:
    await plane.ask("POST", PATH, {"seconds": 0.2})
    await said(plane, ok=19)
    found = await recorded(plane)
    assert (found["baseline"], found["trouble"]) == (None, "19 answers of old in 0.2 s; it takes 20")


async def test_what_is_refused(plane: Plane) -> None:
    for seconds in (0, -1, 86_401):
        status, problem = await plane.ask("POST", PATH, {"seconds": seconds})
        assert (status, "at most a day" in problem["detail"]) == (422, True)
    assert (await plane.ask("POST", PATH, {"seconds": 60, "dry_run": True}))[1]["left_s"] is None
    assert (await plane.ask("POST", PATH, {"seconds": 60}))[0] == 202
    status, problem = await plane.ask("POST", PATH, {"seconds": 60})
    assert (status, problem["detail"]) == (422, "a baseline of events is being recorded already")
    assert (await plane.ask("POST", "/api/v1/routes/nowhere/baseline", {"seconds": 1}))[0] == 404


async def test_a_baseline_that_cannot_be_kept_is_told(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(baselines, "write_whole", full)
    await plane.ask("POST", PATH, {"seconds": 0.2})
    await said(plane, ok=50)
    found = await recorded(plane)
    assert (found["baseline"], found["trouble"]) == (None, "it could not be kept: No space left on device")
    assert plane.supervisor.instance.tally.own["baselines_not_kept"] == 1


async def test_a_stop_ends_a_recording(plane: Plane) -> None:
    await plane.ask("POST", PATH, {"seconds": 600})
    async with asyncio.timeout(5):
        await plane.restart()
    assert (await plane.get(PATH))["left_s"] is None


async def test_a_file_that_is_no_baseline_keeps_it_from_starting(make_plane: MakePlane) -> None:
    plane = make_plane()
    plane.places.baselines.write_text("{")
    with pytest.raises(RefuseToStart, match=r"baselines\.json cannot be read"):
        plane._make()
