"""Requests seen behind the proxy are those that the proxy counted, one for one, whatever a client sends.

Each connection's bytes are read by a reader of our own as well; every request that it finds must be answered and be
seen once, with method, target and body, and what comes after a refused one must not be seen at all.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import pytest

from proxy.demo.children import free_port
from proxy.demo.instance import Instance
from tests.boundary.engines import ENGINES, Aiohttp, Plain
from tests.boundary.messages import Sent, generated, hand_made
from tests.boundary.reference import Limits, Reading, Request, read
from tests.boundary.traffic import Answer, answers_in, send
from tests.http import cases

LIMITS: Final = Limits(cases.EVENT_SIZE, cases.HEAD_SIZE, cases.HEADERS, cases.TARGET_SIZE)
STREAMING: Final = LIMITS._replace(event=1, streamed=b"/events")
"""A body of more than one byte is passed on in pieces."""
SHORT: Final = 600
"""Generated requests for each server in the short form."""
FULL: Final = 100_000
AT_ONCE: Final = 24
REFUSALS: Final = {400, 408, 413, 414, 417, 431, 501, 505}


def table() -> Iterator[Sent]:
    """The cases of the table, except those of ids, which are about events and not about where a request ends."""
    for case in cases.CASES:
        if case.group != "ids":
            yield Sent(f"{case.group}: {case.name}", case.request)


HAND_MADE: Final = [*table(), *hand_made()]


class Told(NamedTuple):
    """A request that was served, and the status that its client got."""

    request: Request
    status: int


@asynccontextmanager
async def proxy_before(engine: Plain, limits: Limits) -> AsyncIterator[Instance]:
    """The daemon, all of whose backends are this server."""
    match = {"path": "/events", "methods": ["POST"]}
    route = {"name": "events", "match": match, "on_authority_down": "fail", "stream": bool(limits.streamed)}
    backend: dict[str, Any] = {"url": f"http://127.0.0.1:{engine.port}", "idle_timeout": "60s", "connections": 24}
    backend["breaker"] = {"failures": 1_000_000}
    config = {
        "version": 1,
        "listen": [f"127.0.0.1:{free_port()}"],
        "workers": 1,
        "state_dir": "state",
        "salt": "a salt for these tests",
        "backends": {"old": backend, "new": backend},
        "routes": [route],
        "default": "old",
        "limits": cases.LIMITS | {"max_event_size": f"{limits.event}B"},
        "admin": {"tcp": "off"},
        "log": {"format": "text"},
    }
    instance = Instance(engine.directory, config)
    try:
        await instance.start()
        yield instance
    finally:
        await instance.stop()


@asynccontextmanager
async def stand(kind: type[Plain], limits: Limits = LIMITS) -> AsyncIterator[tuple[Plain, Instance]]:
    """A server with the proxy before it."""
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    engine = kind(directory)
    try:
        await engine.start()
        async with proxy_before(engine, limits) as instance:
            yield engine, instance
    finally:
        await engine.stop()
        shutil.rmtree(directory)


def check(sent: Sent, reading: Reading, answers: list[Answer]) -> list[Told]:
    """The answers to one connection are those to its requests, and at most one refusal, which is the last word."""
    served = answers[: len(reading.requests)]
    rest = answers[len(reading.requests) :]
    context = (sent, reading, answers)
    assert len(served) == len(reading.requests), context
    assert not any(answer.is_ours for answer in served), context
    if reading.ending == "end":
        assert not rest, context
    else:
        assert len(rest) <= 1, context
        assert rest or reading.ending == "cut", context
        assert all(answer.is_ours and answer.is_last and answer.status in REFUSALS for answer in rest), context
    return [Told(request, answer.status) for request, answer in zip(reading.requests, served, strict=True)]


async def exchange(port: int, messages: Iterable[Sent], limits: Limits = LIMITS) -> tuple[list[Told], int]:
    """Send them all, a few connections at a time; what was served, and how many refusals there were."""
    told: list[Told] = []
    refusals = 0
    numbered = enumerate(messages)

    async def work() -> None:
        nonlocal refusals
        for number, sent in numbered:
            reading = read(sent.data, limits)
            answers = answers_in(await send(port, sent, number), [request.method for request in reading.requests])
            told.extend(check(sent, reading, answers))
            refusals += len(answers) - len(reading.requests)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return told, refusals


async def counted(instance: Instance) -> tuple[int, int]:
    """What the proxy says it sent to a backend, and what it refused."""
    counters = (await instance.admin.ask("GET", "/api/v1/status"))["counters"]
    connector = aiohttp.UnixConnector(str(instance.admin.socket))
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://localhost/metrics") as found:
        metrics = await found.text()
    events = re.findall(
        r'^crossfade_requests_total\{[^}]*role="(?:authority|stream)"[^}]*\} (\S+)$', metrics, re.MULTILINE
    )
    refused = sum(count for name, count in counters.items() if re.fullmatch(r"refused_\d+", name))
    return counters.get("passed_through", 0) + int(sum(map(float, events))), refused


async def check_counts(instance: Instance, told: list[Told], refusals: int) -> None:
    """The proxy's own figures, which come every 250 ms, are those of its clients."""
    deadline = asyncio.get_running_loop().time() + 10
    wanted = (len(told), refusals)
    while (found := await counted(instance)) != wanted:
        assert asyncio.get_running_loop().time() < deadline, (found, wanted)
        await asyncio.sleep(0.05)


def check_seen(engine: Plain, told: list[Told]) -> None:
    """What the server read is what was served, one for one.

    A server may refuse by itself what is no request to it (nginx: a method in lower case): its client was told.
    """
    assert not engine.recorder.violations, engine.recorder.violations[:3]
    seen = Counter(found.line for found in engine.seen())
    wanted = Counter(each.request.line for each in told)
    assert not seen - wanted, f"seen and not sent: {list((seen - wanted).items())[:3]}"
    unseen = wanted - seen
    excused = Counter(each.request.line for each in told if each.status >= 300 or is_answered(engine, each))
    assert not unseen - excused, f"served and not seen: {list((unseen - excused).items())[:3]}"
    logged = engine.logged()
    assert logged is None or logged == len(told)
    bodies = Counter((each.request.line, each.request.body) for each in told)
    refused = {each.request.line for each in told if each.status >= 300}
    found_bodies = Counter((found.line, found.body) for found in engine.seen() if found.line not in refused)
    assert not found_bodies - bodies, f"another body: {list((found_bodies - bodies).items())[:3]}"


def is_answered(engine: Plain, each: Told) -> bool:
    return each.request.line in engine.answers_itself


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.__name__.lower())
@pytest.mark.timeout(1200)
async def test_what_is_seen_behind_the_proxy_is_what_it_counted(kind: type[Plain], soak: bool) -> None:
    async with stand(kind) as (engine, instance):
        seed = ENGINES.index(kind)
        told, refusals = await exchange(instance.address.port, [*HAND_MADE, *generated(seed, FULL if soak else SHORT)])
        assert refusals > 200
        await check_counts(instance, told, refusals)
        await instance.stop()
        await engine.stop()
        check_seen(engine, told)


@pytest.mark.asyncio
@pytest.mark.timeout(1200)
async def test_bodies_that_are_passed_on_in_pieces_end_where_they_ended(soak: bool) -> None:
    """The same where bodies are not events but passed on as they come. aiohttp tells of whole requests alone."""
    async with stand(Aiohttp, STREAMING) as (engine, instance):
        messages = [*HAND_MADE, *generated(len(ENGINES), FULL if soak else SHORT)]
        told, refusals = await exchange(instance.address.port, messages, STREAMING)
        assert sum(len(each.request.body) > 1 for each in told) > 40
        assert refusals > 200
        await check_counts(instance, told, refusals)
        await instance.stop()
        await engine.stop()
        check_seen(engine, told)


def test_there_are_as_many_as_there_should_be() -> None:
    assert len(list(hand_made())) >= 300
    assert len({sent.name for sent in HAND_MADE}) == len(HAND_MADE)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: f"{case.group}: {case.name}")
def test_the_reader_of_our_own_agrees_with_the_table(case: cases.Case) -> None:
    reading = read(case.request, LIMITS)
    if case.upstream:
        assert reading.ending == "end"
        sent = b"".join(request.line + b" HTTP/1.1" for request in reading.requests)
        assert sent.startswith(case.upstream.split(b"\r\n")[0])
        assert case.upstream.endswith(reading.requests[-1].body)
    elif case.group != "ids":
        assert reading.ending in ("refused", "cut")
        assert not reading.requests
