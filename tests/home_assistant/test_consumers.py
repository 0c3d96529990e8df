"""Consumers behind a real Home Assistant: they hear what it says, and every change that it recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from deploy.home_assistant.core import HomeAssistant
from proxy.demo.instance import Instance
from proxy.demo.load import wait_until
from tests.fanout.rig import TOKENS, Service, fanout_config
from tests.home_assistant.started import running

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240)]

ASKED: list[Any] = [
    {"id": 1, "type": "supported_features", "features": {"coalesce_messages": 1}},
    {"id": 2, "type": "subscribe_events", "event_type": "state_changed"},
    {"id": 3, "type": "get_config"},
    {"id": 4, "type": "get_states"},
    {"id": 5, "type": "ping"},
    {"id": 6, "type": "no_such_command"},
    {"id": 6, "type": "ping"},
    {"id": 2, "type": "get_states"},
    {"type": "ping"},
    {"id": 0, "type": "ping"},
    {"id": 7},
    [{"id": 8, "type": "ping"}, {"id": 9, "type": "ping"}],
    {"id": 10, "type": "unsubscribe_events", "subscription": 9},
    {"id": 11, "type": "unsubscribe_events", "subscription": 2},
]


@asynccontextmanager
async def behind(core: HomeAssistant, directory: Path) -> AsyncIterator[Instance]:
    """A daemon whose source it is."""
    folder = directory / "proxy"
    folder.mkdir()
    url = f"{core.url.replace('http', 'ws')}/api/websocket"
    instance = Instance(folder, fanout_config(url, str(core.token_file)))
    try:
        await instance.start()
        yield instance
    except BaseException:
        print(instance.log.read_text(errors="replace")[-20_000:] if instance.log.exists() else "no log")
        raise
    finally:
        await instance.stop()


def _shape(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what is of one Home Assistant alone."""
    result = answer.get("result")
    if isinstance(result, dict):
        return answer | {"result": sorted(result)}
    if isinstance(result, list):
        return answer | {"result": sorted({tuple(sorted(state)) for state in result})}
    return answer


async def conversation(url: str, token: str) -> list[Any]:
    """What is answered to each of these messages; events and what opens are left out."""
    answers: list[Any] = []
    async with connect(url) as socket:
        assert orjson.loads(await socket.recv()) == {"type": "auth_required", "ha_version": "2024.3.3"}
        await socket.send(orjson.dumps({"type": "auth", "access_token": token}).decode())
        answers.append(orjson.loads(await socket.recv()))
        for message in ASKED:
            await socket.send(orjson.dumps(message).decode())
            wanted = len(message) if isinstance(message, list) else 1
            while wanted:
                said = orjson.loads(await socket.recv())
                found = [each for each in (said if isinstance(said, list) else [said]) if each["type"] != "event"]
                answers += map(_shape, found)
                wanted -= len(found)
    return answers


async def refused(url: str) -> tuple[Any, str]:
    """What a wrong token hears, and how it ends."""
    async with connect(url) as socket:
        await socket.recv()
        await socket.send('{"type":"auth","access_token":"wrong"}')
        said = orjson.loads(await socket.recv())
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        return said, "closed"


async def test_a_consumer_hears_of_us_what_it_hears_of_home_assistant(directory: Path) -> None:
    async with running(directory) as core, behind(core, directory) as instance:
        theirs = f"{core.url.replace('http', 'ws')}/api/websocket"
        ours = f"ws://{instance.address.host}:{instance.address.port}/api/websocket"
        await core.api.set_state("sensor.attic", "20")
        service = Service(instance.address.port, "old")
        try:
            await wait_until(lambda: service.consumer.values_of("sensor.attic") == ["20"], 30, "it is fed")
        finally:
            await service.stop()
        assert await conversation(ours, TOKENS["new"]) == await conversation(theirs, core.api.token)
        assert await refused(ours) == await refused(theirs)


async def test_every_recorded_change_comes_to_both_in_order(directory: Path) -> None:
    names = [f"sensor.n{number}" for number in range(5)]
    async with running(directory) as core, behind(core, directory) as instance:
        services = [Service(instance.address.port, side) for side in TOKENS]
        try:
            await wait_until(lambda: all(each.consumer.events for each in services), 30, "both are fed")
            for number in range(100):
                await core.api.set_state(names[number % 5], str(number), {"friendly_name": "n" * 50})
                if number % 25 == 10:
                    await services[number % 2].kill()
            for service in services:
                for name in names:
                    last = str(95 + int(name[-1]))
                    consumer = service.consumer
                    await wait_until(partial(_has_last, consumer, name, last), 30, f"the last state of {name}")
            await core.stop()
            recorded = {name: [each.state for each in core.recorded() if each.entity == name] for name in names}
            for service in services:
                told = {name: list(dict.fromkeys(service.consumer.values_of(name))) for name in names}
                assert told == recorded
        finally:
            for service in services:
                await service.stop()


def _has_last(consumer: Any, name: str, last: str) -> bool:
    return last in consumer.values_of(name)
