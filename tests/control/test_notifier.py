"""Receivers that are well, away, broken, slow, or that hang: real ones, on this machine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from config.notifications import Receiver
from proxy.control import notifier
from proxy.control.audit import Entry
from proxy.control.notifier import Notifier
from proxy.control.views import ReceiverView
from tests.control.conftest import MakePlane
from tests.control.helpers import PATIENCE, eventually
from tests.harness.receiver import Server

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    made.hold.set()
    await made.stop()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(notifier, "MOST_WAIT", 0.05)
    monkeypatch.setattr(notifier, "FLUSH", 0.3)


class Told:
    """A notifier with the counts that it makes."""

    def __init__(self, *receivers: Receiver) -> None:
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self.notifier = Notifier(
            receivers, "edge-1", self.counts, clock=lambda: self.now, wall=lambda: 1_769_860_800 + self.now
        )

    def take(self, *actions: str) -> None:
        for action in actions:
            self.notifier.take(Entry("2026-01-31T12:00:00.000Z", 2, 1, "ann", action, "events"))


MakeTold = Callable[..., Told]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[MakeTold]:
    made: list[Told] = []

    def told(*receivers: Receiver) -> Told:
        made.append(Told(*receivers))
        made[-1].notifier.start()
        return made[-1]

    yield told
    for each in made:
        await each.notifier.close()


def receiver(server: Server, name: str = "chat", **more: Any) -> Receiver:
    return Receiver.model_validate({"name": name, "url": server.url} | more)


def numbered(count: int) -> list[str]:
    return [f"a{number}" for number in range(count)]


async def test_what_is_told_and_how(server: Server, make: MakeTold) -> None:
    told = make(receiver(server, headers={"X-Tenant": "7"}, authorization="Bearer SECRET-token"))
    told.take("revert", "rearm")
    await eventually(lambda: len(server.got) == 2)
    first = server.got[0]
    assert (first["instance"], first["action"], first["route"], first["epoch"]) == ("edge-1", "revert", "events", 2)
    headers = server.headers[0]
    assert headers["Authorization"] == "Bearer SECRET-token"
    assert (headers["X-Tenant"], headers["Content-Type"]) == ("7", "application/json")
    assert headers["Idempotency-Key"] == first["id"] != server.got[1]["id"]
    assert told.counts == {"notifications:chat:delivered": 2}


async def test_a_credential_is_read_from_its_file_each_time(
    server: Server, make: MakeTold, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    told = make(receiver(server, authorization_file=str(file)))
    told.take("revert")
    await eventually(lambda: "cannot be read: No such file or directory" in caplog.text)
    file.write_text("Bearer SECRET\nX-Other: SECRET")
    await asyncio.sleep(0.1)
    assert server.asked == 0
    file.write_text("Bearer SECRET-one\n")
    await eventually(lambda: server.got)
    file.write_text("Bearer SECRET-two\n")
    told.take("rearm")
    await eventually(lambda: len(server.got) == 2)
    assert [each["Authorization"] for each in server.headers] == ["Bearer SECRET-one", "Bearer SECRET-two"]
    assert "SECRET" not in caplog.text


async def test_a_chat_and_chosen_events(server: Server, make: MakeTold) -> None:
    told = make(receiver(server, kind="slack", events=("rollout-*",)))
    told.take("revert", "rollout-step")
    await eventually(lambda: server.got)
    assert server.got == [{"text": "Crossfade at edge-1: rollout-step of events (epoch 2) by ann"}]


async def test_500s_are_tried_again_in_order(server: Server, make: MakeTold, caplog: pytest.LogCaptureFixture) -> None:
    server.answers = [500, 503, 429, 408, 200]
    told = make(receiver(server))
    with caplog.at_level(logging.WARNING):
        told.take(*numbered(5))
        await eventually(lambda: len(server.got) == 5)
    assert server.actions() == numbered(5)
    assert server.asked == 9
    await eventually(lambda: told.counts == {"notifications:chat:delivered": 5})
    assert len(caplog.records) == 1, "one line, whatever the number of tries"
    assert "chat did not take a notification: status 500" in caplog.text
    assert "SECRET" not in caplog.text


async def test_how_it_stands_with_a_receiver(server: Server, make: MakeTold) -> None:
    server.answers = [200]
    told = make(receiver(server), receiver(server, "none", kind="slack", events=("token-*",)))

    def health() -> ReceiverView:
        return told.notifier.health()[0]

    assert told.notifier.health() == [
        ReceiverView("chat", "webhook", 0, 0, 0, None, None, None),
        ReceiverView("none", "slack", 0, 0, 0, None, None, None),
    ]
    told.take("revert")
    await eventually(lambda: health().delivered == 1)
    began = "2026-01-31T12:00:00.000Z"
    assert health() == ReceiverView("chat", "webhook", 0, 1, 0, began, None, None)
    told.now = 60.0
    server.answers = [500]
    told.take(*numbered(3))
    await eventually(lambda: health().trouble is not None)
    failed = "2026-01-31T12:01:00.000Z"
    assert health() == ReceiverView("chat", "webhook", 3, 1, 0, began, failed, "status 500")
    told.now = 60.0 + notifier.GIVE_UP
    await eventually(lambda: health().dropped == 3)
    assert (health().waiting, health().trouble) == (0, "status 500"), "it has not got well by that"
    server.answers = [404, 200]
    told.take("rearm", "stage")
    await eventually(lambda: health().delivered == 2)
    then = "2026-01-31T12:06:00.000Z"
    assert health() == ReceiverView("chat", "webhook", 0, 2, 4, then, then, None)


async def test_one_that_is_away_is_told_when_it_is_back(
    server: Server, make: MakeTold, caplog: pytest.LogCaptureFixture
) -> None:
    await server.stop()
    told = make(receiver(server))
    with caplog.at_level(logging.WARNING):
        told.take(*numbered(3))
        await eventually(lambda: "no connection" in caplog.text)
    await server.start()
    await eventually(lambda: len(server.got) == 3)
    assert server.actions() == numbered(3)
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("status", [301, 400, 401, 404])
async def test_a_refusal_is_for_good(server: Server, make: MakeTold, status: int) -> None:
    server.answers = [status, 200]
    told = make(receiver(server))
    told.take("revert", "rearm")
    await eventually(lambda: server.got)
    assert (server.actions(), server.asked) == (["rearm"], 2)
    assert told.counts["notifications:chat:refused"] == 1


async def test_it_is_given_up_after_a_while_and_later_ones_get_a_try(
    server: Server, make: MakeTold, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [500]
    told = make(receiver(server))
    told.take(*numbered(3))
    await eventually(lambda: server.asked > 3)
    told.now = notifier.GIVE_UP
    await eventually(lambda: told.counts["notifications:chat:given_up"] == 3)
    asked = server.asked
    assert "chat was not told of a0: status 500" in caplog.text
    server.answers = [200]
    told.take("revert")
    await eventually(lambda: server.actions() == ["revert"])
    assert server.asked == asked + 1


async def test_one_that_hangs_holds_up_nobody(server: Server, make: MakeTold) -> None:
    other = Server()
    await other.start()
    try:
        server.hold.clear()
        told = make(receiver(server, timeout="30s"), receiver(other, "other"))
        begun = time.monotonic()
        told.take(*numbered(20))
        assert time.monotonic() - begun < 1
        await eventually(lambda: len(other.got) == 20)
        assert server.got == []
        server.hold.set()
        await eventually(lambda: len(server.got) == 20)
        assert server.actions() == other.actions() == numbered(20)
    finally:
        await other.stop()


async def test_one_that_is_slow_is_asked_again(
    server: Server, make: MakeTold, caplog: pytest.LogCaptureFixture
) -> None:
    server.hold.clear()
    told = make(receiver(server, timeout="50ms"))
    told.take("revert")
    await eventually(lambda: server.asked == 2)
    assert "no answer within 0.05 s" in caplog.text
    server.hold.set()
    await eventually(lambda: told.counts["notifications:chat:delivered"])
    assert len({each["id"] for each in server.got}) == 1, "a repetition has the same name"


async def test_of_too_many_the_oldest_are_dropped(
    server: Server, make: MakeTold, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifier, "MOST_WAITING", 4)
    server.hold.clear()
    told = make(receiver(server))
    told.take("a0")
    await eventually(lambda: server.asked == 1)
    told.take(*numbered(8)[1:])
    assert told.counts == {"notifications:chat:overflowed": 3}
    assert "chat was not told of a1: 4 wait already" in caplog.text
    server.hold.set()
    await eventually(lambda: len(server.got) == 5)
    assert server.actions() == ["a0", "a4", "a5", "a6", "a7"]


async def test_what_waits_at_the_end_is_told(server: Server, make: MakeTold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "FLUSH", PATIENCE)
    told = make(receiver(server))
    told.take(*numbered(10))
    await told.notifier.close()
    assert server.actions() == numbered(10)


async def test_the_end_waits_for_no_one_that_hangs(server: Server, make: MakeTold) -> None:
    server.hold.clear()
    told = make(receiver(server, timeout="30s"))
    told.take(*numbered(10))
    begun = time.monotonic()
    await told.notifier.close()
    assert time.monotonic() - begun < 5
    assert told.counts == {"notifications:chat:stopped": 10}


async def test_a_supervisor_tells_of_manual_changes_and_does_not_wait(server: Server, make_plane: MakePlane) -> None:
    """Whatever a receiver does, a change takes as long as it takes; another supervisor goes on with later ones."""
    hangs = Server()
    await hangs.start()
    hangs.hold.clear()
    plane = make_plane(
        instance="edge-1",
        notifications=[
            {"name": "hangs", "url": hangs.url, "authorization": "Bearer SECRET-token"},
            {"name": "program", "url": server.url},
        ],
    )
    try:
        await plane.start()
        begun = time.monotonic()
        await plane.change("stage", stage="live", weight=25)
        await plane.change("rollback", reason="a drill")
        assert time.monotonic() - begun < 3
        await eventually(lambda: len(server.got) == 3)
        assert server.actions() == ["route-added", "stage", "rollback"]
        history = (await plane.get("/api/v1/history"))["entries"]
        plain = [{k: v for k, v in each.items() if k not in ("id", "instance")} for each in reversed(server.got)]
        assert plain == history
        assert {each["instance"] for each in server.got} == {"edge-1"}
        told = {each["name"]: each for each in (await plane.get("/api/v1/status"))["notifications"]}
        assert (told["program"]["delivered"], told["hangs"]["delivered"], told["hangs"]["waiting"]) == (3, 0, 3)
        assert told["program"]["last_success"] is not None
        metrics = await plane.get("/metrics")
        assert 'crossfade_notifications_total{outcome="delivered",receiver="program"} 3.0' in metrics
        shown = [await plane.get(f"/api/v1/{path}") for path in ("status", "routes", "history", "openapi.json")]
        assert "SECRET" not in f"{shown}{metrics}"
        await plane.restart()
        await plane.until_ready()
        await plane.change("stage", stage="live", weight=5)
        await eventually(lambda: len(server.got) == 4)
        assert server.actions()[3:] == ["stage"]
    finally:
        hangs.hold.set()
        await plane.close()
        await hangs.stop()
