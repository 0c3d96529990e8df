"""Answers of both sides compared, with an estimate of old's own noise."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from config.answers import CompareAnswers
from config.model import Route, Settings
from config.rules import FieldRule
from consistency.answers import (
    MOST_DECODED,
    SAMPLES,
    AnswerCheck,
    Asking,
    answer_checks,
    fields_of,
)
from consistency.compare import MOST_PATHS, OTHER_PATHS
from proxy.core.answers import Answered, AnsweredPair

pytestmark = pytest.mark.asyncio

ROUTE = Route.model_validate({"name": "events", "match": {"path": "/events"}})


def answer(status: int = 200, body: Any = None, *, kind: str = "application/json", coding: str = "") -> Answered:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n" if kind else f"HTTP/1.1 {status} X\r\n"
    head += f"Content-Encoding: {coding}\r\n" if coding else ""
    raw = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    return Answered(status, head.encode(), raw)


def pair(old: Answered, new: Answered, *, method: str = "POST", id: str = "e1") -> AnsweredPair:
    context = f"{method} /events?token=secret HTTP/1.1\r\nHost: a\r\nX-Key: k\r\nX-Event-Id: e1\r\n"
    context += "Content-Type: application/json\r\nX-Crossfade-Role: authority\r\nContent-Length: 99\r\n"
    return AnsweredPair("events", id, context.encode(), b'{"a":1}', old, new)


class Olds:
    """A second old. said: its answers, the last one again and again; or an error."""

    def __init__(self, *said: Answered | Exception) -> None:
        self.said = list(said)
        self.asked: list[str] = []

    async def __call__(self, url: str, _: AnsweredPair) -> Answered:
        self.asked.append(url)
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, Exception):
            raise said
        return said


def check(olds: Olds | None = None, **settings: Any) -> AnswerCheck:
    made = CompareAnswers.model_validate(settings)
    return AnswerCheck(ROUTE, made, "http://old", olds or Olds(answer()))


async def looked(made: AnswerCheck) -> None:
    """All that waits was sent to old once more."""
    task = asyncio.create_task(made.run())
    while made._waiting:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (answer(204), {"status": 204}),
        (answer(200, {"a": [1]}), {"status": 200, "body": {"a": [1]}}),
        (answer(200, {"a": 1}, kind=""), {"status": 200, "body": {"a": 1}}),
        (answer(200, b"[1", kind="application/json"), {"status": 200, "body": "[1"}),
        (answer(200, b"hello", kind="text/plain"), {"status": 200, "body": "hello"}),
        (answer(200, b"\xff\x00", kind="image/png"), {"status": 200, "body": b"\xff\x00"}),
        (answer(200, gzip.compress(b'{"a":1}'), coding="gzip"), {"status": 200, "body": {"a": 1}}),
        (answer(200, zlib.compress(b'{"a":1}'), coding="deflate"), {"status": 200, "body": {"a": 1}}),
        (answer(204, b"", coding="br"), {"status": 204}),
        (answer(200, b"\xffbroken", coding="gzip"), None),
        (answer(200, b"\xff", coding="br"), None),
    ],
)
async def test_what_is_compared_of_an_answer(given: Answered, fields: dict[str, Any] | None) -> None:
    assert fields_of(given) == fields


async def test_a_bomb_is_not_unpacked_whole() -> None:
    fields = fields_of(answer(200, gzip.compress(b"0" * 50_000_000), kind="text/plain", coding="gzip"))
    assert fields is not None
    assert len(fields["body"]) == MOST_DECODED


async def test_equal_answers_and_different_ones_are_counted_by_path() -> None:
    made = check()
    for _ in range(3):
        made.take(pair(answer(201, {"id": "a", "n": 1}), answer(201, {"n": 1, "id": "a"})))
    made.take(pair(answer(201, {"l": [1, 2]}), answer(200, {"l": [1, 3]}), id="e9"))
    stats = made.stats
    assert (stats.compared, stats.different, stats.beyond_noise) == (4, 1, 1)
    assert {path: each.different for path, each in stats.fields.items()} == {"/status": 1, "/body/l/*": 1}
    (sample,) = stats.samples
    assert (sample["id"], sample["request"]) == ("e9", "POST /events"), "without its query"
    assert sample["differences"] == {"/status": "value", "/body/l/*": "value"}, "without values"


async def test_rules_hold_as_for_stores() -> None:
    made = check(rules=(FieldRule(path="/body/by", compare="ignore"), FieldRule(path="/body/t", compare="presence")))
    made.take(pair(answer(201, {"by": "old", "t": 1}), answer(201, {"by": "new", "t": 2, "more": 1})))
    assert (made.stats.different, made.stats.fields) == (0, {})
    made = check(only_new="compare")
    made.take(pair(answer(201, {"t": 1}), answer(201, {"t": 1, "more": 1})))
    assert list(made.stats.fields) == ["/body/more"]


async def test_what_old_says_otherwise_by_itself_is_noise() -> None:
    olds = Olds(*(answer(200, {"t": number, "v": 1}) for number in range(1, 101)))
    made = check(olds, noise="http://second")
    for _ in range(100):
        made.take(pair(answer(200, {"t": 0, "v": 1}), answer(200, {"t": 5, "v": 1})))
        await looked(made)
    stats = made.stats
    assert olds.asked == ["http://second"] * 100
    assert (stats.compared, stats.different, stats.noise_compared) == (100, 100, 100)
    figures = stats.fields["/body/t"]
    assert (figures.different, figures.noise) == (100, 100)
    assert not made.is_beyond_noise(figures)
    assert stats.beyond_noise == 1, "the first one, when nothing was known of noise"
    made.take(pair(answer(200, {"t": 0, "v": 1}), answer(200, {"t": 5, "v": 2})))
    assert stats.beyond_noise == 2, "and one that differs where old never does"
    assert made.is_beyond_noise(stats.fields["/body/v"])


async def test_reads_are_sent_to_old_once_more_and_writes_are_not() -> None:
    olds = Olds(answer(200, {"t": 1}))
    made = check(olds)
    made.take(pair(answer(200, {"t": 1}), answer(200, {"t": 1}), method="GET"))
    made.take(pair(answer(200, {"t": 1}), answer(200, {"t": 1}), method="POST"))
    await looked(made)
    assert (olds.asked, made.stats.noise_compared) == (["http://old"], 1)


async def test_a_second_old_that_does_not_answer_leaves_no_estimate() -> None:
    olds = Olds(
        aiohttp.ClientPayloadError("http://second/events?token=secret"),
        TimeoutError(),
        answer(503, {"t": 1}),
        answer(200, {"t": 1}),
    )
    made = check(olds, noise="http://second")
    for expected in ("ClientPayloadError", "TimeoutError", "old answered 200, and 503 when it was asked again", ""):
        made.take(pair(answer(200, {"t": 1}), answer(200, {"t": 2})))
        await looked(made)
        assert made.stats.trouble == expected
    assert (made.stats.noise_compared, made.stats.beyond_noise) == (1, 4)


async def test_methods_without_an_estimate_have_none_of_others() -> None:
    """Reads differ half the time by themselves; what writes answer says something of new all the same."""
    olds = Olds(*(answer(200, {"t": number % 2}) for number in range(100)))
    made = check(olds)
    for _ in range(100):
        made.take(pair(answer(200, {"t": 0}), answer(200, {"t": 5}), method="GET"))
        await looked(made)
    beyond = made.stats.beyond_noise
    assert beyond >= 99, "new always differs, and old in half"
    for _ in range(100):
        made.take(pair(answer(200, {"t": 0}), answer(200, {"t": 0}), method="POST"))
    made.take(pair(answer(200, {"t": 0}), answer(200, {"t": 5}), method="POST"))
    assert made.stats.beyond_noise == beyond + 1
    figures = made.stats.fields["/body/t"]
    assert (figures.different_twice, figures.noise) == (100, 50)


async def test_reads_are_not_repeated_where_nobody_asked_for_it() -> None:
    olds = Olds(answer(200, {"t": 1}))
    made = AnswerCheck(ROUTE, CompareAnswers(), "http://old", olds, repeats_reads=False)
    made.take(pair(answer(), answer(), method="GET"))
    await looked(made)
    assert olds.asked == []


async def test_what_cannot_be_read_is_counted_and_not_compared() -> None:
    made = check()
    made.take(pair(answer(200, b"\x01", coding="br"), answer(200, b"\x02", coding="br")))
    assert (made.stats.compared, made.stats.unread, made.stats.fields) == (0, 1, {})


async def test_long_paths_have_no_figures_of_their_own() -> None:
    made = check()
    made.take(pair(answer(200, {"k" * 300: 1}), answer(200, {"k" * 300: 2})))
    assert list(made.stats.fields) == [OTHER_PATHS]
    assert made.stats.samples[0]["differences"] == {OTHER_PATHS: "value"}


async def test_paths_and_samples_are_bounded() -> None:
    made = check()
    for number in range(MOST_PATHS + 50):
        made.take(pair(answer(200, {f"k{number}": 1}), answer(200, {f"k{number}": 2}), id=f"e{number}"))
    assert len(made.stats.fields) == MOST_PATHS + 1
    assert made.stats.fields[OTHER_PATHS].different == 50
    assert [each["id"] for each in made.stats.samples] == [f"e{MOST_PATHS + 50 - SAMPLES + n}" for n in range(SAMPLES)]


async def test_nesting_without_end_is_no_crash() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    made = check()
    made.take(pair(answer(200, deep), answer(200, deep[:-1])))
    assert made.stats.compared == 1


async def test_a_request_is_sent_again_as_it_was() -> None:
    seen: list[tuple[str, str, dict[str, str], bytes]] = []

    async def take(request: web.Request) -> web.StreamResponse:
        """In two pieces, one a moment after the other."""
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        answer = web.StreamResponse(status=201, headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        await answer.write(b'{"n":')
        await asyncio.sleep(0.05)
        await answer.write(b"1}")
        return answer

    app = web.Application()
    app.router.add_route("*", "/base/events", take)
    runner = web.AppRunner(app)
    await runner.setup()
    asking = Asking()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        said = await asking(f"http://127.0.0.1:{port}/base", pair(answer(), answer()))
        assert fields_of(said) == {"status": 201, "body": {"n": 1}}
    finally:
        await asking.close()
        await runner.cleanup()
    ((method, path, headers, body),) = seen
    assert (method, path, body) == ("POST", "/base/events?token=secret", b'{"a":1}')
    assert (headers["X-Key"], headers["X-Event-Id"], headers["Content-Length"]) == ("k", "e1", "7")
    assert (headers["Host"], headers["X-Crossfade-Role"], "User-Agent" in headers) == ("a", "copy", False)


async def test_routes_that_are_compared() -> None:
    route = {"match": {"path": "/a"}}
    settings = Settings.model_validate(
        {
            "version": 1,
            "salt": "a salt of tests",
            "backends": {"old": {"url": "http://127.0.0.1:1"}, "new": {"url": "http://127.0.0.1:2"}},
            "routes": (
                {"name": "shadowed", "stage": "shadow", **route},
                {"name": "asked", "compare_answers": {"when": "always"}, **route},
                {"name": "not", "stage": "dualwrite", **route},
            ),
        }
    )
    assert list(answer_checks(settings, Olds(answer()))) == ["shadowed", "asked"]
    assert settings.needs_checker
