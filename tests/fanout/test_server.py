"""What all consumers share, in the ledger's process: the file of what they were told, while it is written to."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from proxy.fanout.home_event import HomeEvent
from proxy.fanout.server import FanOut
from tests.fanout.rig import changed, fanning_out, fanout_settings

pytestmark = pytest.mark.asyncio


async def test_the_log_of_what_they_were_told_does_not_grow_with_what_comes_during_each_pass(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    fan_out = FanOut(fanout_settings(tmp_path), path, lambda _: None)
    sizes = []
    for now in range(24):
        event = HomeEvent("e", "t", bytes(2**20), "", None, now)
        fan_out._told.received("old", "events", [event], 10.0, keeps=True)
        with closing(apsw.Connection(str(path))) as reader:  # as far as it looks the pass gets
            reader.execute("BEGIN; SELECT count(*) FROM kept").fetchall()
            fan_out._told.received("old", "events", [event], 10.0, keeps=True)
            fan_out.check_times(float(now))
            assert fan_out._checkpointing is not None
            await asyncio.wait([fan_out._checkpointing])
        fan_out.check_times(now + 0.1)
        fan_out._told.forget("old", 20.0)
        sizes.append(path.with_name("f.db-wal").stat().st_size)
    await fan_out.close()
    assert max(sizes) < 16 * 2**20, "of 48 MiB"


async def test_a_consumer_that_does_not_read_keeps_nobody_waiting_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """The next ledger begins when this one has let go of its consumers, and workers wait for it."""
    async with fanning_out(backend={"response_timeout": "60s"}) as rig:
        stuck = await rig.consumer("new").connect()
        stuck.socket.transport.pause_reading()
        for n in range(40):
            await rig.ask(changed(n, filler="x" * 200_000), f"large-{n}")
        assert rig.fan_out is not None
        begun = time.monotonic()
        await rig.fan_out.close()
        assert time.monotonic() - begun < 1.5
        assert "their connections are cut" in caplog.text
