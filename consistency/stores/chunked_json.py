"""Answers of InfluxDB 1.x, as chunked JSON: one document on each line.

    {"results":[{"statement_id":0,"series":[...],"partial":true}]}    more of this question comes
    {"results":[{"statement_id":0,"series":[...]}]}                   its end

An answer is whole when every question has come to its end: not when the connection has, and not where the server cuts
(`max-row-limit`), which it marks by `partial` on a series that nothing comes after. The answer to SHOW TAG KEYS comes
in several results that all look like the end (1.6.7), so the connection's own end is waited for too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import aiohttp
import orjson

from consistency.stores.errors import StoreDenied, StoreError, StoreGarbage, StoreMissing, StoreUnreachable
from consistency.stores.http import MAX_ANSWER, HttpSession
from consistency.stores.protocol import CHUNK


class Series(NamedTuple):
    """A part of an answer. statement: the number of its question, from 0; values: rows of the columns asked for."""

    statement: int
    measurement: str
    tags: Mapping[str, str]
    values: Sequence[Sequence[Any]]


_FORM: Final = {"epoch": "ns", "chunked": "true", "chunk_size": str(CHUNK)}
_HEADERS: Final = {"Content-Type": "application/x-www-form-urlencoded"}


async def ask(session: HttpSession, url: str, database: str, questions: Sequence[str]) -> AsyncGenerator[Series]:
    """The series of all questions, question by question. url: of the server's query endpoint.

    Ends only when all that was asked for has come; raises a StoreError otherwise.
    """
    form = urlencode({"db": database, "q": "; ".join(questions), **_FORM}).encode()
    ended: set[int] = set()
    async with session.stream("POST", url, form, _HEADERS) as answer:
        if answer.status != 200:
            said = await answer.content.read(MAX_ANSWER >> 10)
            raise session.refusal(answer.status, error_of(said), answer.headers.get("Retry-After"))
        async for line in _lines(session, answer.content):
            for result in _results(session, line):
                if "error" in result:
                    raise _failure(session, str(result["error"]))
                number = int(result.get("statement_id", 0))
                goes_on = bool(result.get("partial"))
                for series in result.get("series", ()):
                    if series.get("partial") and not goes_on:
                        raise StoreGarbage(
                            session.store, "it cuts its answers short: raise max-row-limit, or set it to 0"
                        )
                    yield Series(number, series.get("name", ""), series.get("tags") or {}, series.get("values", ()))
                if not goes_on:
                    ended.add(number)
    if len(ended) != len(questions):
        raise StoreUnreachable(
            session.store, f"its answer ended early, with {len(ended)} of {len(questions)} questions answered"
        )


async def _lines(session: HttpSession, content: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    # StreamReader.readline gives lines of 128 KiB up, and one with all points of a chunk is longer.
    rest = bytearray()
    async for part in content.iter_any():
        rest += part
        if b"\n" in part:
            *lines, last = rest.split(b"\n")
            rest = last
            for line in lines:
                if line:
                    yield bytes(line)
        if len(rest) > MAX_ANSWER:
            raise StoreGarbage(session.store, f"a line of its answer is longer than {MAX_ANSWER >> 20} MiB")
    if rest.strip():
        yield bytes(rest)


def _results(session: HttpSession, line: bytes) -> list[dict[str, Any]]:
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise StoreGarbage(session.store, f"its answer is not JSON: {session.shown(line)}") from None
    if isinstance(said, dict) and "error" in said:
        raise _failure(session, str(said["error"]))
    results = said.get("results") if isinstance(said, dict) else None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise StoreGarbage(session.store, f"its answer is none of InfluxDB 1.x: {session.shown(line)}")
    return results


def error_of(said: bytes) -> str:
    """What an answer that is a refusal says, without the JSON around it."""
    try:
        found = orjson.loads(said)
    except orjson.JSONDecodeError:
        found = None
    return str(found["error"]) if isinstance(found, dict) and "error" in found else said.decode("utf-8", "replace")


def _failure(session: HttpSession, error: str) -> StoreError:
    """What a question met that InfluxDB had begun to answer: most often a failure of its own that may pass."""
    shown = session.shown(error)
    if "not found" in error:
        return StoreMissing(session.store, f"{shown}; mend what is named there, or create it")
    if "authoriz" in error or "privilege" in error:
        return StoreDenied(session.store, f"{shown}; mend its credential, or what that may do")
    return StoreUnreachable(session.store, f"it failed to answer: {shown}")
