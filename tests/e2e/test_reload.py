"""The configuration changes under load, and no client notices; a bad file leaves everything as it is."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
import yaml
from websockets.asyncio.client import connect

from proxy.demo.admin import AdminDownError, AdminError
from proxy.demo.backends import STREAM_PATH
from proxy.demo.instance import add_sessions
from proxy.demo.load import until_accepted, wait_until
from tests.harness.scene import NEVER_REVERT, Scene, paced, scene, with_stores

pytestmark = pytest.mark.asyncio


class File:
    """The configuration file of a scene."""

    def __init__(self, opened: Scene) -> None:
        self._path = opened.instance.config_path
        self.content: dict[str, Any] = yaml.safe_load(self._path.read_text())

    @property
    def route(self) -> dict[str, Any]:
        """`events`, wherever it stands."""
        return next(route for route in self.content["routes"] if route["name"] == "events")

    def write(self) -> None:
        """In one step, as editors do it."""
        draft = self._path.with_name("draft.yaml")
        draft.write_text(yaml.safe_dump(self.content, sort_keys=False))
        os.replace(draft, self._path)


async def config(opened: Scene) -> dict[str, Any]:
    found: dict[str, Any] = await opened.admin.ask("GET", "/api/v1/config")
    return found


async def weight(opened: Scene) -> float:
    """Of the route `events`, wherever it stands."""
    return next(route.weight_target for route in (await opened.admin.status()).routes if route.name == "events")


async def pids(opened: Scene) -> set[int]:
    """Of the workers that take clients."""
    return {worker.pid for worker in (await opened.admin.status()).workers}


async def reload(opened: Scene, **body: Any) -> dict[str, Any]:
    """Reload, and wait until all is done."""
    before = ((await config(opened))["switch"] or {}).get("number", 0)
    answer: dict[str, Any] = await opened.admin.ask("POST", "/api/v1/reload", body)
    if answer["begun"]:
        await switched(opened, before + 1, answer["digest"])
    return answer


async def switched(opened: Scene, number: int, digest: str = "") -> None:
    """Wait until a switch is done, and every worker goes by what it brought."""
    async with asyncio.timeout(60):
        while True:
            try:
                found = await config(opened)
            except AdminDownError:  # the supervisor is replaced meanwhile
                found = {"switch": None}
            switch = found["switch"] or {"number": 0, "phase": ""}
            if switch["number"] >= number and switch["phase"] == "ended":
                assert switch["result"] == "done", switch
                if found["workers"] == found["of"] and digest in ("", found["digest"]):
                    return
            await asyncio.sleep(0.1)


@pytest.mark.timeout(600)
async def test_each_class_of_key_is_applied_under_load(soak: bool) -> None:
    async with scene(stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        load, file, instance = opened.load(rate=200.0, patience=0.0), File(opened), opened.instance
        await until_accepted(load, 50)
        workers, ledger = await pids(opened), instance.pids("ledger")

        file.route["copy_wait"] = "20ms"
        file.content["backends"]["new"]["response_timeout"] = "2s"
        file.write()
        answer = await reload(opened, reason="slower disks")
        assert {each["kind"] for each in answer["changes"]} == {"live"}
        assert await pids(opened) == workers, "live keys touch no worker"
        assert instance.pids("ledger") != ledger, "it reads its timeouts when it starts"

        file.route["durability"] = "before-send"
        file.content["routes"].append({"name": "more", "match": {"path": "/more"}, "stage": "dualwrite"})
        file.write()
        answer = await reload(opened)
        assert ("routes.events.durability", "startup") in {(each["key"], each["kind"]) for each in answer["changes"]}
        assert not await pids(opened) & workers, "startup keys take new ones"

        await opened.admin.ask("PUT", "/api/v1/routes/events/weight", {"weight": 30})
        file.route["copy_wait"] = "10ms"
        file.write()
        await reload(opened)
        assert await weight(opened) == 30, "a command wins over what the file said before"
        file.route["weight"] = 70
        file.write()
        await reload(opened)
        async with asyncio.timeout(10):
            while await weight(opened) != 70:
                await asyncio.sleep(0.1)

        file.content["routes"].reverse()
        file.content["workers"] = 3
        file.write()
        await reload(opened)
        assert len(await pids(opened)) == 3
        for number in range(200 if soak else 1):
            file.route["copy_wait"] = f"{11 + number}ms"
            file.write()
            await reload(opened)

        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        assert not record.failures, record.errors_text()
        history = (await opened.admin.ask("GET", "/api/v1/history?limit=1000"))["entries"]
        assert history[-1]["action"] == "route-added"
        assert sum(entry["action"] == "reload" for entry in history) >= (200 if soak else 6)
        await opened.verify(record)


@pytest.mark.timeout(120)
async def test_a_bad_file_leaves_everything_as_it_is_and_says_why() -> None:
    async with scene(stage="dualwrite") as opened:
        load, file, instance = opened.load(rate=100.0), File(opened), opened.instance
        before, digest = instance.processes(), (await config(opened))["digest"]
        file.route["wieght"] = 3
        file.write()
        with pytest.raises(AdminError, match="has 1 error"):
            await reload(opened)
        trouble = (await config(opened))["trouble"]
        assert "unknown key 'wieght'" in trouble["errors"][0]["message"]
        assert trouble["errors"][0]["suggestion"] == "weight"

        del file.route["wieght"]
        file.content["salt"] = "another salt, long enough"
        file.write()
        answer = await reload(opened)
        assert not answer["begun"]
        assert "breaks order and stickiness" in answer["refused"][0]
        assert (await config(opened))["digest"] == digest
        assert instance.processes() == before, "nobody was replaced"
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()


@pytest.mark.timeout(120)
async def test_a_watched_file_is_applied_by_itself_and_a_hangup_does_the_same() -> None:
    def watch(content: dict[str, Any]) -> None:
        content["reload"] = "watch"

    async with scene(watch, stage="dualwrite") as opened:
        file = File(opened)
        file.route["copy_wait"] = "20ms"
        file.write()
        await switched(opened, 1)
        assert (await config(opened))["actor"] == "file watch"
        file.content["reload"] = "signal"
        file.write()
        assert opened.instance.launcher is not None
        opened.instance.launcher.signal(signal.SIGHUP)
        await switched(opened, 2)
        assert (await config(opened))["reload"] == "signal"


@pytest.mark.timeout(120)
async def test_a_route_that_goes_leaves_nothing_undelivered() -> None:
    def two(content: dict[str, Any]) -> None:
        content["routes"].append({"name": "more", "match": {"path": "/more"}, "stage": "dualwrite"})

    async with scene(two, stage="dualwrite") as opened:
        await opened.new.fault("down")
        load, file = opened.load(rate=200.0), File(opened)
        await until_accepted(load, paced(200))
        record = await load.stop()
        events = file.content["routes"].pop(0)
        file.write()
        answer = await reload(opened)
        assert "which would go, are owed to new" in answer["refused"][0]
        answer = await reload(opened, leave_owed=True)
        assert answer["begun"]
        await opened.new.fault("none")
        await wait_until(lambda: len(opened.new.stored()) >= record.accepted, 40, "deliveries for the route that went")
        file.content["routes"].insert(0, events)
        file.write()
        await reload(opened)
        await opened.verify(record)


@pytest.mark.timeout(120)
async def test_a_drain_takes_clients_for_a_while_and_tells_sessions_to_go() -> None:
    def gently(content: dict[str, Any]) -> None:
        content["drain"] = {"accept_for": "3s", "close_over": "1s"}
        add_sessions(content)

    async with scene(gently, stage="dualwrite") as opened:
        load = opened.load(rate=200.0, patience=0.0)
        address = opened.instance.address
        uri = f"ws://{address.host}:{address.port}{STREAM_PATH}"
        sessions = [await connect(uri) for _ in range(4)]
        await until_accepted(load, 50)
        stopping = asyncio.create_task(opened.instance.stop())
        async with asyncio.timeout(10):
            while await opened.admin.is_ready():
                await asyncio.sleep(0.02)
        sessions.append(await connect(uri))  # whoever sends them has not heard of it yet
        await until_accepted(load, 100)
        assert not load.record.failures, "connections end with an answer, and new ones are taken"
        await asyncio.gather(*(session.wait_closed() for session in sessions))
        assert {session.close_code for session in sessions} == {1001}
        assert await stopping == 0
        record = await load.stop()
        assert set(record.failures) <= {"refused"}, record.errors_text()
        await opened.instance.start()
        await opened.verify(record)


@pytest.mark.timeout(120)
async def test_a_file_without_changes_is_done_at_once_and_nobody_is_left_over() -> None:
    """A hangup is also how renewed certificates are taken up. The checker is one of those that are replaced."""
    async with scene(with_stores, stage="dualwrite") as opened:
        before = opened.instance.processes()
        assert sorted(before.values()) == ["checker", "ledger", "supervisor", "worker", "worker"]
        launcher = opened.instance.launcher
        assert launcher is not None
        launcher.signal(signal.SIGHUP)
        await switched(opened, 1)
        assert opened.instance.processes() == before, "nobody was replaced"
        open_before = len(os.listdir(f"/proc/{launcher.pid}/fd"))
        file = File(opened)
        for number in range(2):
            file.content["limits"] = {"max_event_size": f"{number + 2}MiB"}
            file.write()
            await reload(opened)
        await wait_until(lambda: len(opened.instance.processes()) == len(before), 60, "the end of predecessors")
        assert sorted(opened.instance.processes().values()) == sorted(before.values())
        assert not set(opened.instance.processes()) & set(before), "all were replaced"

        def are_closed() -> bool:
            return len(os.listdir(f"/proc/{launcher.pid}/fd")) <= open_before

        await wait_until(are_closed, 10, "the end of what is known of them")
