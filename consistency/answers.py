"""Answers of both sides to the same event: compared by rules, with an estimate of what differs by nature.

    worker --> pair of answers --> status and body by the rules of the route --> figures by path
                    |
                    +--> the event to a second old, or a read to old once more --> figures of noise by path

A path at which old differs from itself about as often as new differs from old says nothing of new. This is reported
apart from what stores hold, and reverts nothing.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from config.answers import CompareAnswers
from config.model import Route, Settings
from consistency.compare import LONGEST_PATH, MOST_PATHS, OTHER_PATHS, general
from consistency.rules import Incomparable, Rules
from proxy.core.answers import LONGEST, Answered, AnsweredPair, AnswerStats, FieldFigures

log = logging.getLogger(__name__)

SAMPLES: Final = 10
"""Events that differ and are shown."""
MOST_DECODED: Final = 4 * LONGEST
"""Bytes of a body without its coding."""
RELATIVE: Final = 0.2
ABSOLUTE: Final = 0.0003
"""A path tells something when new differs there more often than old does from itself: by this share, and this much."""
READS: Final = ("GET", "HEAD")
WAITING: Final = 100
"""Events that wait to be sent to old once more; what is more is not."""
TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_HOP: Final = frozenset({"connection", "content-length", "expect", "keep-alive", "te", "transfer-encoding"})

Ask = Callable[[str, AnsweredPair], Awaitable[Answered]]
"""Sends the request of a pair to a backend's URL. Raises aiohttp.ClientError, TimeoutError."""


class AnswerCheck:
    """The answers of one route. old_url: of old; ask: see Ask; repeats_reads: reads may be sent to old once more, for
    somebody has asked for all this.
    """

    def __init__(
        self, route: Route, compare: CompareAnswers, old_url: str, ask: Ask, *, repeats_reads: bool = True
    ) -> None:
        self._rules = Rules(compare.rules, only_new=compare.only_new)
        self._noise_url = compare.noise
        self._old_url = old_url
        self._repeats_reads = repeats_reads
        self._ask = ask
        self._waiting: deque[AnsweredPair] = deque(maxlen=WAITING)
        self._some = asyncio.Event()
        self.stats = AnswerStats(route.name)

    def take(self, pair: AnsweredPair) -> None:
        """Compare both answers, and have old's noise looked at."""
        paths, stats = self._differing(pair.old, pair.new), self.stats
        if paths is None:
            stats.unread += 1
            return
        stats.compared += 1
        for path in paths:
            self._figures(path).different += 1
        may_repeat = bool(self._url_of(pair))
        if paths:
            stats.different += 1
            stats.beyond_noise += any(not may_repeat or self.is_beyond_noise(self._figures(path)) for path in paths)
            stats.samples = [*stats.samples[1 - SAMPLES :], _sample(pair, paths)]
        if may_repeat:
            self._waiting.append(pair)
            self._some.set()

    def is_beyond_noise(self, figures: FieldFigures) -> bool:
        """Whether what differs at a path is more than old's own noise, as far as that is known: of events that old was
        asked twice.
        """
        twice = self.stats.noise_compared
        if not twice:
            return True
        raw, noise = figures.different_twice / twice, figures.noise / twice
        if not figures.different_twice:  # it did not differ in these yet
            return not figures.noise
        return raw > noise * (1 + RELATIVE) and raw - noise > ABSOLUTE

    async def run(self) -> None:
        """Send events to old once more, one at a time, for ever."""
        while True:
            await self._some.wait()
            if not self._waiting:
                self._some.clear()
                continue
            await self._look_at_noise(self._waiting.popleft())

    async def _look_at_noise(self, pair: AnsweredPair) -> None:
        stats = self.stats
        try:
            again = await self._ask(self._url_of(pair), pair)
        except aiohttp.ClientConnectorError as error:
            stats.trouble = error.os_error.strerror or type(error.os_error).__name__
            return
        except (aiohttp.ClientError, OSError, ValueError) as error:
            stats.trouble = type(error).__name__  # its text may hold the whole address
            return
        if again.status // 100 != pair.old.status // 100:
            stats.trouble = f"old answered {pair.old.status}, and {again.status} when it was asked again"
            return
        noise, different = self._differing(pair.old, again), self._differing(pair.old, pair.new)
        if noise is None or different is None:
            return
        stats.trouble = ""
        stats.noise_compared += 1
        for path in different:
            self._figures(path).different_twice += 1
        for path in noise:
            self._figures(path).noise += 1

    def _url_of(self, pair: AnsweredPair) -> str:
        """Where its request may go once more; empty for nowhere."""
        if self._noise_url is not None:
            return self._noise_url
        method = pair.request.partition(b" ")[0].decode("latin-1")
        return self._old_url if self._repeats_reads and method in READS else ""

    def _differing(self, old: Answered, new: Answered) -> dict[str, str] | None:
        """Paths that differ, each with a reason; None where answers cannot be read."""
        fields = fields_of(old), fields_of(new)
        if fields[0] is None or fields[1] is None:
            return None
        try:
            said = self._rules.compare(fields[0], fields[1])
        except Incomparable as error:
            return {"/body": str(error)}
        return {
            general(each.path) if len(each.path) <= LONGEST_PATH else OTHER_PATHS: each.reason
            for each in said.differences
        }

    def _figures(self, path: str) -> FieldFigures:
        fields = self.stats.fields
        if path not in fields and len(fields) >= MOST_PATHS:
            path = OTHER_PATHS
        return fields.setdefault(path, FieldFigures())


def fields_of(answer: Answered) -> dict[str, Any] | None:
    """What is compared of an answer: `status`, and `body` as a JSON document, as text, or as bytes. None when its body
    is in a coding that is not read here, or broken in it: two compressors make different bytes of one text.
    """
    headers = _headers(answer.head)
    try:
        body = _decoded(answer.body, headers.get("content-encoding", "identity").strip().lower())
    except (zlib.error, LookupError):
        return None
    if not body:
        return {"status": answer.status}
    kind = headers.get("content-type", "")
    if "json" in kind or (not kind and body[:1] in (b"{", b"[")):
        try:
            return {"status": answer.status, "body": msgspec.json.decode(body)}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    try:
        return {"status": answer.status, "body": body.decode()}
    except UnicodeDecodeError:
        return {"status": answer.status, "body": body}


def _decoded(body: bytes, coding: str) -> bytes:
    """Without its coding, as far as MOST_DECODED goes. Raises zlib.error, LookupError."""
    if not body or coding in ("identity", ""):
        return body
    bits = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}[coding]
    return zlib.decompressobj(bits).decompress(body, MOST_DECODED)


def _headers(head: bytes) -> CIMultiDict[str]:
    """Of a head in our own form: a line for each, behind the first one."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    return CIMultiDict((name, value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon)


def _sample(pair: AnsweredPair, paths: dict[str, str]) -> dict[str, Any]:
    """Without values, and without the query: an answer may hold what is secret, as a login's does."""
    line = pair.request.partition(b"\r\n")[0].decode("latin-1").rpartition(" ")[0]
    return {"id": pair.id, "request": line.partition("?")[0], "differences": dict(list(paths.items())[:SAMPLES])}


class Asking:
    """Sends requests of pairs to backends."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def __call__(self, url: str, pair: AnsweredPair) -> Answered:
        """The answer of a backend to the same request. Raises aiohttp.ClientError, TimeoutError, ValueError."""
        method, _, rest = pair.request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target = rest.rpartition(" ")[0]
        headers = CIMultiDict(
            (name, value) for name, value in _headers(pair.request).items() if name.lower() not in _HOP
        )
        headers["X-Crossfade-Role"] = "copy"
        address = URL(url.rstrip("/") + target, encoded=True)
        async with self._session.request(
            method,
            address,
            data=pair.body or None,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answer:
            body = b""
            async for part in answer.content.iter_any():
                body += part
                if len(body) > LONGEST:
                    raise ValueError("an answer of the second old is too long to be compared")
            lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            return Answered(answer.status, f"HTTP/1.1 {answer.status} \r\n{lines}".encode("latin-1", "replace"), body)


def answer_checks(settings: Settings, ask: Ask) -> dict[str, AnswerCheck]:
    """By name, of all routes whose answers are compared."""
    return {
        route.name: AnswerCheck(
            route,
            route.answers,
            settings.backends[route.old].url[0],
            ask,
            repeats_reads=route.compare_answers is not None,
        )
        for route in settings.routes
        if route.answers is not None
    }
