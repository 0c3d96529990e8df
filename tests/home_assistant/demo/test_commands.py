"""Commands are told as they are typed, and one that fails ends the demo with what it said."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from deploy.home_assistant.demo.commands import CommandError, Commands
from proxy.demo.instance import Instance, basic_config
from proxy.demo.toy import ToyBackend
from proxy.demo.view import View

pytestmark = pytest.mark.asyncio


async def test_what_is_typed_and_said_is_told(directory: Path) -> None:
    old, new = ToyBackend("old", directory), ToyBackend("new", directory)
    instance = Instance(directory, basic_config(old.url, new.url))
    out = io.StringIO()
    commands = Commands(instance, View(out))
    try:
        await old.ready()
        await new.ready()
        await instance.start()
        await commands.do("stage", "dualwrite", "--wait", "--reason", "it's time")
        with pytest.raises(CommandError, match=r"set-weight 101 ended with 2: .*between 0 and 100 percent"):
            await commands.do("set-weight", "101")
        with pytest.raises(CommandError, match=r"(?s)proxyctl verify .* ended with 2: .*consistency"):
            await commands.verify(1_795_980_000_000_001, 1_795_980_001_000_000)
    finally:
        await instance.stop()
        await old.stop()
        await new.stop()
    told = out.getvalue()
    assert """$ proxyctl stage dualwrite --wait --reason 'it'"'"'s time'""" in told
    assert "events: off 0 % -> dualwrite 0 %, copy none -> durable" in told
    assert "--from 1795980000.000001 --to 1795980001.000000 -o json" in told


async def test_an_instance_that_is_not_there_is_said(directory: Path) -> None:
    instance = Instance(directory, basic_config("http://127.0.0.1:1", "http://127.0.0.1:2"))
    with pytest.raises(CommandError, match=r"(?s)proxyctl why ended with 6: .*admin\.sock"):
        await Commands(instance, View(io.StringIO())).do("why")
