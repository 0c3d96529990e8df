"""The stream over real sockets: what it tells, to whom, and when it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from proxy.control import event_stream, streams
from proxy.control.streams import MOST_WATCHERS
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, requests
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
PATH = "/api/v1/status/stream"


class Reading:
    """An open stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.ids: list[str] = []

    async def next(self) -> tuple[str, Any]:
        """The next event: kind and content."""
        fields = {}
        while (line := (await self.answer.content.readline()).decode()) != "\n":
            if not line:
                raise EOFError
            key, _, value = line.rstrip("\n").partition(": ")
            fields[key] = value
        if "event" not in fields:
            return "", None  # a sign of life
        self.ids.append(fields["id"])
        return fields["event"], json.loads(fields["data"])

    async def until(self, wanted: str) -> Any:
        """The content of the next event of a kind."""
        async with asyncio.timeout(20):
            while True:
                kind, content = await self.next()
                if kind == wanted:
                    return content

    async def ended(self) -> None:
        """Wait until there is nothing more."""
        with pytest.raises((EOFError, aiohttp.ClientError)):
            await self.until("an end")


@asynccontextmanager
async def reading(session: aiohttp.ClientSession, url: str, token: str = "") -> AsyncIterator[Reading]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with session.get(url + PATH, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        yield Reading(answer)


async def token_of(plane: Plane, role: str) -> str:
    _, made = await plane.ask("POST", "/api/v1/tokens", {"name": f"the-{role}", "role": role})
    return str(made["token"])


async def test_it_tells_who_asks_then_the_state_then_what_changes(plane: Plane) -> None:
    plane.workers[0].say(requests=[requests(ok=10)], accepted={"events": 10})
    async with reading(plane.session(), "http://localhost") as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.answer.headers["Cache-Control"] == "no-store"
        assert await stream.next() == ("welcome", {"role": "operator", "token": ""})
        first = await stream.until("snapshot")
        assert first["status"]["routes"][0]["name"] == "events"
        assert set(first["lately"]["events"]) == {"old", "new"}
        assert first["rollouts"] == {}
        await stream.until("history")
        await plane.change("stage", stage="live", weight=30)
        shown: dict[str, Any] = {}
        async with asyncio.timeout(20):
            while shown != {"snapshot": 30, "history": ("stage", 30)}:
                kind, content = await stream.next()
                if kind == "snapshot":
                    shown[kind] = content["status"]["routes"][0]["weight_target"]
                elif kind == "history":
                    newest = content["entries"][0]
                    shown[kind] = newest["action"], newest["after"].get("weight")
    lives = {each.rpartition(".")[0] for each in stream.ids[1:]}
    numbers = [int(each.rpartition(".")[2]) for each in stream.ids]
    assert len(lives) == 1
    assert numbers == sorted(set(numbers))


async def test_a_rollout_is_told_with_its_steps(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    plan = {"steps": [{"weight": 10, "hold": 60}, {"weight": 100, "hold": 60}]}
    assert (await plane.ask("POST", "/api/v1/routes/-/rollout", plan))[0] == 201
    async with reading(plane.session(), "http://localhost") as stream:
        told = (await stream.until("snapshot"))["rollouts"]["events"]
    assert [step["weight"] for step in told["steps"]] == [10, 100]


async def test_evidence_stays_with_the_audit_trail(plane: Plane) -> None:
    await plane.ask("POST", "/api/v1/tokens", {"name": "a", "role": "viewer"})
    assert (await plane.get("/api/v1/history"))["entries"][0]["evidence"]
    async with reading(plane.session(), "http://localhost") as stream:
        assert all(not each["evidence"] for each in (await stream.until("history"))["entries"])


async def test_a_token_that_is_revoked_sees_no_more(make_plane: MakePlane) -> None:
    plane = make_plane(admin={"tcp": "127.0.0.1:0"})
    await plane.start()
    url = plane.supervisor.admin.tcp
    async with aiohttp.ClientSession() as session, reading(session, url) as stranger:
        assert await stranger.next() == ("welcome", {"role": "viewer", "token": ""})
        token = await token_of(plane, "viewer")
        await stranger.ended()  # with the first token everybody needs one
        async with session.get(url + PATH) as refused:
            assert refused.status == 401
        async with reading(session, url, token) as stream:
            assert await stream.next() == ("welcome", {"role": "viewer", "token": "the-viewer"})
            await stream.until("snapshot")
            await plane.ask("DELETE", "/api/v1/tokens/the-viewer", {})
            await stream.ended()


async def test_a_stream_too_many_is_refused(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane.supervisor._streams, "_watchers", {streams.Watcher() for _ in range(MOST_WATCHERS)})
    status, problem = await plane.ask("GET", PATH)
    assert status == 429
    assert problem["detail"] == f"{MOST_WATCHERS} streams are open, which is the most: close one"


async def test_who_goes_is_forgotten(plane: Plane) -> None:
    async with reading(plane.session(), "http://localhost") as stream:
        await stream.until("snapshot")
        assert plane.supervisor._streams.count == 1
    await eventually(lambda: plane.supervisor._streams.count == 0, "the end of the stream")


async def test_who_takes_nothing_is_cut(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_stream, "SLOW", 0.1)
    monkeypatch.setattr(streams, "TICK", 0.01)
    monkeypatch.setattr(streams, "LEAST", 0.001)
    large = {"text": "x" * 2**20}
    monkeypatch.setattr(plane.supervisor._streams, "_snapshot", lambda: large)
    _, writer = await asyncio.open_unix_connection(str(plane.places.admin_socket), limit=1024)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await eventually(lambda: "was cut" in caplog.text, "the cut")
    await eventually(lambda: plane.supervisor._streams.count == 0, "the end of the stream")
    writer.close()


async def test_it_ends_with_the_supervisor_and_goes_on_with_the_next_one(plane: Plane) -> None:
    async with reading(plane.session(), "http://localhost") as stream:
        before = (await stream.until("snapshot"))["status"]["epoch"]
        await plane.restart()
        await stream.ended()
    await plane.until_ready()
    async with reading(plane.session(), "http://localhost") as again:
        assert (await again.until("snapshot"))["status"]["epoch"] == before
    assert again.ids[1].rpartition(".")[0] != stream.ids[1].rpartition(".")[0]
