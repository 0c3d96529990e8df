"""A Home Assistant, killed as workers and the supervisor are while its states change: no last state is lost."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.demo.instance import Instance, basic_config
from proxy.demo.load import wait_until
from tests.harness.scene import NEVER_REVERT
from tests.http.backend import Backend
from tests.sources.fake_home import TOKEN, FakeHome

IS_SOAK = os.environ.get("CROSSFADE_SOAK") == "1"
ROUNDS = 40 if IS_SOAK else 4
SEED = int(os.environ.get("CROSSFADE_SEED", "20"))


class Scene:
    def __init__(self, home: FakeHome, old: Backend, new: Backend, instance: Instance) -> None:
        self.home, self.old, self.new, self.instance = home, old, new, instance

    async def source(self) -> dict[str, Any]:
        """What status says of it."""
        (found,) = (await self.instance.admin.ask("GET", "/api/v1/status"))["sources"]
        return dict(found)

    async def connected(self) -> dict[str, Any]:
        """The same, once it is connected."""
        await self.instance.admin.until(lambda status: status.ready, 30, "an instance that is ready")
        found: dict[str, Any] = {}
        for _ in range(600):
            found = await self.source()
            if found["state"] == "connected" and self.home.sessions:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(found)

    def change(self, turn: int) -> None:
        """Thirty states of twenty entities."""
        for number in range(30):
            self.home.change(f"sensor.s{number % 20}", f"{turn}.{number}")

    def told(self, backend: Backend) -> list[tuple[str, str]]:
        bodies = [orjson.loads(seen.body) for seen in backend.seen if seen.body]
        return [(body["entity_id"], body["data"]["new_state"]["state"]) for body in bodies]

    def is_complete(self) -> bool:
        """Has each backend the last state of each entity, as the last that it was told of that?"""
        last = {entity: state["state"] for entity, state in self.home.states.items()}
        return all(dict(self.told(backend)) == last for backend in (self.old, self.new))


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    home, old, new = FakeHome(), Backend(), Backend()
    for each in (home, old, new):
        await each.start()
    (directory / "token").write_text(TOKEN)
    urls = [f"http://127.0.0.1:{backend.port}" for backend in (old, new)]
    config = basic_config(*urls, stage="dualwrite", trigger=NEVER_REVERT, dedupe="10m")
    for backend in config["backends"].values():
        del backend["health"]  # what they have seen is events alone
    own = {"url": home.url, "token_file": "token"}
    config["sources"] = [{"name": "home", "route": "events", "retry_initial": "50ms", "home_assistant": own}]
    instance = Instance(directory, config)
    try:
        await instance.start()
        yield Scene(home, old, new, instance)
    except BaseException:
        print(instance.log.read_text(errors="replace")[-20_000:] if instance.log.exists() else "no log")
        raise
    finally:
        await instance.stop()
        await home.stop()
        old.stop()
        new.stop()
        shutil.rmtree(directory)


@pytest.mark.asyncio
@pytest.mark.timeout(1200 if IS_SOAK else 180)
async def test_no_last_state_is_lost_and_each_is_one_event() -> None:
    chosen = random.Random(SEED)
    async with scene() as opened:
        await opened.connected()
        await wait_until((opened.instance.state_dir / "sources.json").exists, 10, "a lease")
        generation = 0
        for turn in range(ROUNDS):
            found = await opened.connected()
            opened.change(turn)
            await asyncio.sleep(chosen.random() * 0.05)
            match turn % 4:
                case 0:
                    pid = (await opened.instance.admin.status()).workers[found["worker"]].pid
                    os.kill(pid, signal.SIGKILL)
                case 1:
                    await opened.home.restart()
                case 2:
                    os.kill(opened.instance.pids("supervisor")[0], signal.SIGKILL)
                    await wait_until(lambda: bool(opened.instance.pids("supervisor")), 20, "another supervisor")
                case _:
                    await opened.instance.stop()
                    opened.change(turn + 2 * ROUNDS)
                    await opened.instance.start()
            opened.change(turn + ROUNDS)
            await wait_until(opened.is_complete, 30, f"every last state after round {turn}")
            kept = orjson.loads((opened.instance.state_dir / "sources.json").read_bytes())["sources"]["home"]
            assert kept["generation"] >= generation
            generation = kept["generation"]
        assert generation >= ROUNDS // 2
        assert len(opened.home.sessions) == 1, "one worker has it"
        for backend in (opened.old, opened.new):
            # What a killed worker had sent and heard nothing of is delivered again, as any event: under its one id.
            assert len(set(opened.told(backend))) == len(set(backend.ids())), "one event for each state"
