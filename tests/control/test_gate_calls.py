"""How gates are asked, with real servers and real commands."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from config.gates import Gate, Resources
from proxy.control.gate_calls import MOST_READ, MOST_TEXT, GateCalls, Question
from proxy.core.gate import NO, NO_ANSWER, REVERT, YES, Said
from tests.control.web_server import Server

pytestmark = pytest.mark.asyncio
QUESTION = Question("events", "gates", 2, 3, 10.0, 50.0, 7)


@pytest_asyncio.fixture
async def calls(tmp_path: Path) -> AsyncIterator[GateCalls]:
    made = GateCalls(tmp_path)
    yield made
    await made.close()


def webhook(url: str, **more: Any) -> Gate:
    return Gate.model_validate({"name": "go", "webhook": {"url": url} | more, "timeout": "500ms", "on_fail": "revert"})


def query(url: str, **limits: Any) -> Gate:
    return Gate.model_validate({"name": "p95", "prometheus": {"url": url, "query": "up > 0"} | limits})


def command(*argv: str, timeout: str = "5s") -> Gate:
    return Gate.model_validate({"name": "smoke", "command": argv, "timeout": timeout})


# --- webhooks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, YES), (204, YES), (400, NO), (403, NO), (409, NO), (301, NO_ANSWER), (401, NO_ANSWER), (404, NO_ANSWER),
        (429, NO_ANSWER), (500, NO_ANSWER), (503, NO_ANSWER),
    ],
)  # fmt: skip
async def test_a_webhook_answers_by_its_status(status: int, answer: str, server: Server, calls: GateCalls) -> None:
    server.says(status, "" if status == 204 else "not\nnow\x1b", headers={"Location": "/elsewhere"})
    said = await calls.ask(webhook(f"{server.url}/go?tenant=7"), QUESTION)
    assert said == Said(answer, f"{status}" if status == 204 else f"{status} not now?", REVERT)
    assert orjson.loads(server.bodies[0]) == {
        "gate": "go", "route": "events", "phase": "gates", "step": 2, "steps": 3, "weight": 10.0, "target": 50.0,
        "epoch": 7,
    }  # fmt: skip
    assert len(server.bodies) == 1, "nobody is sent elsewhere"


async def test_a_webhook_that_hangs_or_is_away_has_not_said_no(server: Server, calls: GateCalls) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    server.handler = hang
    assert await calls.ask(webhook(server.url), QUESTION) == Said(NO_ANSWER, "nothing within 0.5 s", REVERT)
    away = await calls.ask(webhook("http://127.0.0.1:1/go"), QUESTION)
    assert (away.answer, "Cannot connect" in away.text) == (NO_ANSWER, True)


async def test_a_credential_is_read_when_it_is_needed(server: Server, calls: GateCalls, tmp_path: Path) -> None:
    server.says(200, "x" * 10_000)
    secret = tmp_path / "secret"
    gate = webhook(server.url, authorization_file=str(secret), headers={"X-Tenant": "7"})
    assert (await calls.ask(gate, QUESTION)).answer == NO_ANSWER
    for text in ("Bearer one", "Bearer two"):
        secret.write_text(f"{text}\n")
        said = await calls.ask(gate, QUESTION)
        assert (said.answer, len(said.text)) == (YES, MOST_TEXT)
        assert (server.headers[-1]["Authorization"], server.headers[-1]["X-Tenant"]) == (text, "7")
    await calls.ask(webhook(server.url, authorization="Bearer three"), QUESTION)
    assert server.headers[-1]["Authorization"] == "Bearer three"


# --- queries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "result", "limits", "said"),
    [
        ("scalar", [1.5, "0.25"], {"below": 0.5}, Said(YES, "0.25")),
        ("scalar", [1.5, "0.5"], {"below": 0.5}, Said(NO, "0.5 is not below 0.5")),
        ("scalar", [1.5, "+Inf"], {"below": 0.5}, Said(NO, "inf is not below 0.5")),
        ("scalar", [1.5, "NaN"], {"below": 0.5}, Said(NO_ANSWER, "the query gives NaN")),
        ("vector", [{"value": [1, "1"]}, {"value": [1, "3"]}], {"below": 2.0}, Said(NO, "3 is not below 2")),
        ("vector", [{"value": [1, "1"]}, {"value": [1, "3"]}], {"above": 1.0}, Said(NO, "1 is not above 1")),
        ("vector", [{"value": [1, "1"]}, {"value": [1, "3"]}], {"above": 0.0, "below": 4.0}, Said(YES, "1, 3")),
        ("vector", [], {"above": 0.0}, Said(NO_ANSWER, "the query gives nothing")),
        (
            "matrix",
            [{"values": []}],
            {"above": 0.0},
            Said(NO_ANSWER, "200, and no answer of a Prometheus to an instant query"),
        ),
    ],
)
async def test_a_query_is_within_its_limits_or_not(
    kind: str, result: Any, limits: dict[str, float], said: Said, server: Server, calls: GateCalls
) -> None:
    server.gives(kind, result)
    assert await calls.ask(query(f"{server.url}/prometheus/", **limits), QUESTION) == said
    assert server.bodies == [b"query=up+%3E+0"]


async def test_a_query_may_be_held_against_another_one(server: Server, calls: GateCalls) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        result = [1, next(results)]
        return web.json_response({"status": "success", "data": {"resultType": "scalar", "result": result}})

    server.handler = answer
    gate = query(server.url, of="up offset 1d", above=0.8, below=1.2)
    for pair, said in (
        (["11", "10"], Said(YES, "1.1")),
        (["13", "10"], Said(NO, "1.3 is not below 1.2")),
        (["13", "0"], Said(NO_ANSWER, "`of` gives 0.0, not one value to divide by")),
    ):
        results = iter(pair)
        assert await calls.ask(gate, QUESTION) == said
    assert server.bodies[:2] == [b"query=up+%3E+0", b"query=up+offset+1d"]


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (400, '{"status":"error","error":"parse error"}', "400 parse error"),
        (200, "<html>", "200, and no answer"),
        (200, "[1]", "200, and no answer"),
        (200, '{"status":"success","data":{"resultType":"scalar","result":[1]}}', "200, and no answer"),
        (502, "", "502, and no answer"),
    ],
)
async def test_a_query_without_an_answer(status: int, body: str, text: str, server: Server, calls: GateCalls) -> None:
    server.says(status, body)
    said = await calls.ask(query(server.url, above=0.0), QUESTION)
    assert (said.answer, said.text[: len(text)]) == (NO_ANSWER, text)


RESOURCES = {"queries": {"new-cpu": "rate(cpu[1m])"}, "timeout": "300ms"}


@pytest.mark.parametrize(
    ("kind", "result", "value"),
    [
        ("scalar", [1.5, "0.25"], 0.25),
        ("vector", [{"metric": {}, "value": [1.5, "7"]}], 7.0),
        ("vector", [], "the query gives nothing"),
        ("vector", [{"metric": {}, "value": [1.5, "7"]}] * 2, "the query gives 2 values, not one"),
        ("scalar", [1.5, "NaN"], "the query gives nan"),
        ("matrix", [], "200, and no answer of a Prometheus to an instant query"),
    ],
)
async def test_one_value_or_why_there_is_none(
    kind: str, result: Any, value: float | str, server: Server, calls: GateCalls
) -> None:
    server.gives(kind, result)
    resources = Resources.model_validate(RESOURCES | {"url": server.url, "authorization": "Bearer one"})
    assert await calls.value(resources, "rate(cpu[1m])") == value
    assert (server.bodies[-1], server.headers[-1]["Authorization"]) == (b"query=rate%28cpu%5B1m%5D%29", "Bearer one")


async def test_who_hangs_or_is_away_gives_no_value(server: Server, calls: GateCalls) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    server.handler = hang
    resources = Resources.model_validate(RESOURCES | {"url": server.url})
    assert await calls.value(resources, "up") == "nothing within 0.3 s"
    away = await calls.value(Resources.model_validate(RESOURCES | {"url": "http://127.0.0.1:1"}), "up")
    assert "Cannot connect" in str(away)


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo fine", Said(YES, "exit 0 fine")),
        ("true", Said(YES, "exit 0")),
        ("echo first; echo; echo 'too slow' >&2; echo; exit 3", Said(NO, "exit 3 too slow")),
        ("kill -9 $$", Said(NO_ANSWER, "ended by SIGKILL")),
        ("printf '\\377\\033[2J'; exit 1", Said(NO, "exit 1 \N{REPLACEMENT CHARACTER}?[2J")),
        ('echo "$CROSSFADE_ROUTE $CROSSFADE_STEP $CROSSFADE_TARGET"', Said(YES, "exit 0 events 2 50.0")),
        ("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end", Said(YES, "exit 0 end")),
        ('read line; echo "none: $line"', Said(YES, "exit 0 none:")),
    ],
)  # fmt: skip
async def test_a_command_answers_by_its_exit_code(script: str, said: Said, calls: GateCalls) -> None:
    assert await calls.ask(command("/bin/sh", "-c", script), QUESTION) == said


async def test_a_command_finds_what_the_reference_names_and_nothing_else(
    calls: GateCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("CROSSFADE_")]:
        monkeypatch.delenv(name)  # what the suite is told is not of the gate
    described = Gate.model_fields["command"].description or ""
    names = re.findall("CROSSFADE_[A-Z]+", described)
    assert len(names) == len(set(names)) == 8
    script = "env | grep ^CROSSFADE_ | sort | tr '\\n' ' '"
    said = await calls.ask(command("/bin/sh", "-c", script), QUESTION)
    told = dict(each.split("=", 1) for each in said.text.removeprefix("exit 0 ").split())
    assert sorted(told) == sorted(names)
    assert (told["CROSSFADE_GATE"], told["CROSSFADE_PHASE"], told["CROSSFADE_WEIGHT"]) == ("smoke", "gates", "10.0")


async def test_a_command_is_found_beside_the_configuration(calls: GateCalls, tmp_path: Path) -> None:
    script = tmp_path / "smoke.sh"
    script.write_text("#!/bin/sh\npwd\n")
    assert (await calls.ask(command("./smoke.sh"), QUESTION)).text == "./smoke.sh: Permission denied"
    script.chmod(stat.S_IRWXU)
    assert await calls.ask(command("./smoke.sh"), QUESTION) == Said(YES, f"exit 0 {tmp_path}")
    missing = await calls.ask(command("no-such-program"), QUESTION)
    assert missing == Said(NO_ANSWER, "no-such-program: No such file or directory")


def is_running(pid: int) -> bool:
    """A zombie is not: whoever took it over has only not looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while is_running(pid):
            await asyncio.sleep(0.01)


async def test_a_command_that_hangs_is_killed_with_what_it_started(calls: GateCalls, tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; trap '' TERM; wait"
    said = await calls.ask(command("/bin/sh", "-c", script, timeout="500ms"), QUESTION)
    assert said == Said(NO_ANSWER, "nothing within 0.5 s")
    await gone(int((tmp_path / "pid").read_text()))


async def test_who_is_asked_no_more_is_killed(calls: GateCalls, tmp_path: Path) -> None:
    asking = asyncio.create_task(calls.ask(command("/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 600"), QUESTION))
    async with asyncio.timeout(5):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await gone(int((tmp_path / "pid").read_text()))


async def test_what_a_command_leaves_running_is_not_waited_for(calls: GateCalls, tmp_path: Path) -> None:
    begun = time.monotonic()
    said = await calls.ask(command("/bin/sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid; echo done"), QUESTION)
    assert said == Said(YES, "exit 0 done")
    assert time.monotonic() - begun < 4
    os.kill(int((tmp_path / "pid").read_text()), 9)


async def test_commands_run_in_the_supervisors_loop_too() -> None:
    """It runs in uvloop, which starts processes by means of its own."""

    program = (
        "import sys, pathlib, uvloop\n"
        "from config.gates import Gate\n"
        "from proxy.control.gate_calls import GateCalls, Question\n"
        "async def main():\n"
        "    calls = GateCalls(pathlib.Path('/'))\n"
        "    for script, timeout in (('echo fine', '5s'), ('sleep 600', '300ms')):\n"
        "        gate = Gate.model_validate({'name': 'a', 'command': ('sh', '-c', script), 'timeout': timeout})\n"
        "        print((await calls.ask(gate, Question('r', 'gates', 1, 1, 0, 1, 1)))[:2])\n"
        "uvloop.run(main())\n"
    )
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await done.communicate()
    assert out.decode().splitlines() == ["('yes', 'exit 0 fine')", "('no answer', 'nothing within 0.3 s')"]


# --- what others may do to us -------------------------------------------------------------------------------


async def test_an_answer_in_pieces_is_read_to_its_end(server: Server, calls: GateCalls) -> None:
    said = orjson.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1, "0.25"]}})

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        for piece in (said[:20], b" " * 400_000, said[20:]):
            await stream.write(piece if piece.strip() else b"")
            await asyncio.sleep(0.02)
        return stream

    server.handler = answer
    assert await calls.ask(query(server.url, below=0.5), QUESTION) == Said(YES, "0.25")


async def test_an_answer_without_end_is_none(server: Server, calls: GateCalls) -> None:
    server.says(200, "x" * (MOST_READ + 1))
    assert (await calls.ask(webhook(server.url), QUESTION))[:2] == (NO_ANSWER, "it says more than 1 MiB")


async def test_a_secret_in_an_address_is_told_nobody(calls: GateCalls) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    babbling = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = babbling.sockets[0].getsockname()[1]
    said = await calls.ask(webhook(f"http://127.0.0.1:{port}/hook?token=SECRET"), QUESTION)
    babbling.close()
    assert (said.answer, "SECRET" in said.text) == (NO_ANSWER, False)


async def test_no_descriptor_is_left_of_who_is_asked_no_more(calls: GateCalls) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for turns in range(20):
        asking = asyncio.create_task(calls.ask(command("/bin/sleep", "60"), QUESTION))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(5):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)


async def test_a_soak_is_told_nothing(calls: GateCalls) -> None:
    soak = Gate.model_validate({"name": "hour", "soak": {}})
    assert (await calls.ask(soak, QUESTION))[:2] == (NO_ANSWER, "a soak is told nothing")
