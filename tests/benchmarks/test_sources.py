"""The sources' benchmark in short: its house speaks as Home Assistant, and what is missed is a miss."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import orjson
import pytest
from websockets.asyncio.client import connect

from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Target
from benchmarks.sources import __main__ as command
from benchmarks.sources import cases
from benchmarks.sources.cases import Form, Measured
from benchmarks.sources.house import TOKEN, House
from benchmarks.sources.stand import stand


@pytest.mark.asyncio
async def test_its_house_tells_each_change_once_in_order_and_all_states() -> None:
    house = House()
    house.others = 3
    await house.start()
    async with connect(house.url.replace("http", "ws")) as socket:
        assert orjson.loads(await socket.recv())["type"] == "auth_required"
        await socket.send(orjson.dumps({"type": "auth", "access_token": TOKEN}), text=True)
        assert orjson.loads(await socket.recv())["type"] == "auth_ok"
        await socket.send(orjson.dumps({"id": 1, "type": "subscribe_events"}), text=True)
        assert orjson.loads(await socket.recv())["success"]
        assert await house.run(1000, 0.05) == 50
        numbers: list[str] = []
        while len(numbers) < 50:
            said = orjson.loads(await socket.recv())
            numbers.append(said["event"]["context"]["id"])  # no lists: they were not asked for
        assert numbers == [f"c{n}" for n in range(1, 51)]
        await socket.send(orjson.dumps({"id": 2, "type": "get_states"}), text=True)
        assert len(orjson.loads(await socket.recv())["result"]) == 53
        await socket.send(orjson.dumps({"id": 3, "type": "supported_features"}), text=True)
        assert orjson.loads(await socket.recv())["success"]
        for _ in range(3):
            house.change()
        assert len(orjson.loads(await socket.recv())) == 3
    await house.stop()


@pytest.mark.asyncio
async def test_a_burst_is_counted_in_both_stores() -> None:
    measured = await cases.bursts(Form(1.0, 1.0, 1, 0.05, 1))
    assert measured.figures["lost"] == 0
    assert measured.figures["events"] == 100
    assert [target.met for target in measured.targets] == [True]


@pytest.mark.asyncio
async def test_what_a_store_lacks_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stand() as opened:
        opened.house.change()
        await opened.drained(1)
        assert cases._missing(opened) == 0
        opened.house.changes += 1  # which nobody heard of
        assert cases._missing(opened) == 1
        monkeypatch.setattr("benchmarks.sources.stand._DRAIN_SECONDS", 0.2)
        with pytest.raises(BenchmarkFailed, match="of 2 events no more than 1 were delivered"):
            await opened.drained(2)


def test_a_missed_target_is_an_error_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measure(form: Form) -> Measured:
        await asyncio.sleep(0)
        return Measured({"lost": 1}, [Target("bursts: lost", "1 of 100", "0", met=False)])

    monkeypatch.setitem(cases.CASES, "bursts", measure)
    asked = ["--plain", "--only", "bursts", "--results", str(tmp_path)]
    assert command.main(asked) == 0
    assert command.main([*asked, "--strict"]) == 1
    assert "bursts: lost  1 of 100  (target 0: MISSED)" in capsys.readouterr().out
    assert json.loads((tmp_path / "sources.json").read_text())["cases"] == {"bursts": {"lost": 1}}
