"""What a real instance tells of itself: metrics while workers die, and logs that hold no secret."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from typing import Any, Final

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.prometheus import promtool
from tests.harness.scene import Scene, scene

pytestmark = pytest.mark.asyncio
SECRET: Final = "pl4nted"
"""Stands in everything that is to stay secret."""


class Told:
    """The exposition of a moment. counters: by series; series: all of them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.counters: dict[tuple[str, ...], float] = {}
        self.series: set[tuple[str, ...]] = set()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items())))
                self.series.add(name)
                if family.type in ("counter", "histogram"):
                    self.counters[name] = sample.value


async def told(at: Scene) -> Told:
    socket = aiohttp.UnixConnector(str(at.instance.state_dir / "admin.sock"))
    async with aiohttp.ClientSession(connector=socket) as session, session.get("http://localhost/metrics") as answer:
        assert answer.status == 200
        return Told(await answer.text())


async def test_counters_only_climb_while_workers_die() -> None:
    async with scene() as at:
        load = at.load()
        await at.admin.until(lambda status: status.routes[0].accepted_total > 200, 20.0, "traffic")
        first = before = await told(at)
        for _ in range(3):
            os.kill(at.instance.pids("worker")[0], signal.SIGKILL)
            for _ in range(4):
                await asyncio.sleep(0.25)  # a report's time: what is told in between is what a scrape may see
                now = await told(at)
                back = {name: (was, now.counters.get(name)) for name, was in before.counters.items()}
                assert not {name: pair for name, pair in back.items() if pair[1] is None or pair[1] < pair[0]}
                before = now
            await at.admin.until(lambda status: all(each.alive for each in status.workers), 20.0, "workers")
        await load.stop()
        accepted = ("crossfade_events_accepted_total", "route=events")
        assert before.counters[accepted] > first.counters[accepted]
        assert await asyncio.to_thread(promtool, "check", "metrics", text=before.text) == (0, "")


async def ask(session: aiohttp.ClientSession, url: str, **arguments: Any) -> int:
    try:
        async with session.request(arguments.pop("method", "POST"), url, **arguments) as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientError:
        return 0


async def test_clients_add_no_series() -> None:
    """Whatever they make up: keys, ids, paths, methods, hosts and headers."""
    async with scene() as at:
        url = f"http://{at.instance.address.host}:{at.instance.address.port}"
        async with aiohttp.ClientSession() as session:

            async def everything(begin: int, end: int) -> None:
                for number in range(begin, end):
                    body = {"entity_id": f"light.{number}"}
                    await ask(
                        session, f"{url}/api/v1/events?q={number}", json=body, headers={"X-Event-Id": f"e{number}"}
                    )
                    await ask(session, f"{url}/nowhere/{number}", headers={f"X-{number}": "1", "Host": f"h{number}"})
                    await ask(session, f"{url}/api/v1/events", method=f"M{number}")
                    await ask(session, f"{url}/api/v1/events", data=b"{" * number)

            await everything(0, 5)
            await at.settled()
            await asyncio.sleep(0.6)  # two reports
            before = await told(at)
            await everything(5, 60)
            await at.settled()
            await asyncio.sleep(0.6)
            after = await told(at)
            # What happened for the first time meanwhile, on a machine that was slow for a moment, has a name of ours.
            new = {each for each in after.series - before.series if each[0] != "crossfade_counts_total"}
            assert new == set()
            names = [labels for what, *labels in after.series if what == "crossfade_counts_total"]
            assert not re.search(r"\d", repr(names))


async def test_no_log_of_any_process_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", SECRET)

    def plant(config: dict[str, Any]) -> None:
        config["salt"] = f"{SECRET}-salt-of-16-characters"
        config["log"] = {"level": "debug", "format": "json", "access": {"sample": "100%"}}
        for name in ("old", "new"):
            config["backends"][name]["authorization"] = f"Bearer {SECRET}"
            config["backends"][name]["headers"] = {"set": {"X-Api-Key": SECRET}}
        away = "http://127.0.0.1:9"
        config["notifications"] = [
            {"name": "chat", "url": f"{away}/hook/{SECRET}", "authorization": SECRET, "headers": {"X-Key": SECRET}}
        ]
        config["tracing"] = {"url": f"{away}/v1/{SECRET}", "authorization": f"Bearer {SECRET}", "sample": "100%"}
        store = {"url": away, "database": "home", "username": "me", "password": "${STORE_PASSWORD}", "timeout": "1s"}
        config["consistency"] = [
            {"routes": ["events"], "identity": "none", "old": {"influxdb1": store}}
            | {"new": {"influxdb1": store | {"database": "other"}}}
        ]
        config["gates"] = [{"name": "go", "webhook": {"url": f"{away}/gate/{SECRET}", "authorization": SECRET}}]

    async with scene(plant, on_authority_down="failover") as at:
        url = f"http://{at.instance.address.host}:{at.instance.address.port}"
        headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}", "traceparent": SECRET}
        body = {"entity_id": "light.a", "password": SECRET}
        async with aiohttp.ClientSession() as session:

            async def events(count: int) -> None:
                for number in range(count):
                    at_url = f"{url}/api/v1/events?token={SECRET}&{SECRET}"
                    await ask(session, at_url, json=body, headers=headers | {"X-Event-Id": f"e{number}"})
                    await ask(session, f"{url}/nowhere?token={SECRET}", json=body, headers=headers)
                    await ask(session, f"{url}/api/v1/stream?token={SECRET}", method="GET", headers=headers)
                    coded = headers | {"Content-Encoding": "gzip"}  # no event: both backends would fail on it for ever
                    await ask(session, f"{url}/nowhere", data=SECRET.encode(), headers=coded)

            await events(5)
            _, writer = await asyncio.open_connection(at.instance.address.host, at.instance.address.port)
            writer.write(f"GET /{SECRET} HTTP/9\r\nAuthorization: {SECRET}\r\n\r\n".encode())
            await writer.drain()
            await at.new.kill()
            await at.admin.ask("POST", "/api/v1/tokens", {"name": "ci", "role": "viewer"})
            await events(5)
            level = {"level": "debug", "process": "worker", "seconds": 60}
            assert (await at.admin.ask("PUT", "/api/v1/log-level", level))["told"] == 2
            os.kill(at.instance.pids("supervisor")[0], signal.SIGKILL)
            await at.new.restart()
            await at.settled()
            writer.close()
        await at.instance.stop()
        lines = at.instance.log.read_text().splitlines()
        assert [line for line in lines if SECRET in line] == []
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        assert {entry["role"].partition("-")[0] for entry in entries} == {
            "launcher", "supervisor", "worker", "ledger", "checker",
        }  # fmt: skip
        answered = [entry for entry in entries if entry["message"] == "answered"]
        assert len(answered) >= 10
        assert {entry["target"] for entry in answered} == {"/api/v1/events?token=...&..."}
        assert any(entry["message"] == "left to the ledger" for entry in entries), "each decision has its line"
        assert any(entry["message"] == "tried to deliver" for entry in entries)
