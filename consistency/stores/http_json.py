"""A JSON API over HTTP that lists events of a time span, page by page.

With a cursor, pages may come in any order: a slice of time is read whole and sorted. Without one they must be in order
of time, and the next page begins with the last one's time; the rows of that time are taken from the next page alone,
so that none is lost or comes twice. Where more rows than a page holds have one time, nothing goes on, which is said.

Bounds of the span are filtered here too: an API may take its {end} as within. A name whose value is null is left out.
Without `event_url` a row is found only near the time of its key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import pairwise
from statistics import median_low
from typing import Any, Final, TypeVar

from config.stores import NEAR
from config.stores import HttpStore as Settings
from consistency.rows import Key, Row, Span
from consistency.stores.errors import StoreError, StoreGarbage, StoreRefused, StoreUnreachable
from consistency.stores.http import Answer, HttpSession, read_secret
from consistency.stores.json_events import Events, NoEvent, filled, parse_json, secrets_of
from consistency.stores.protocol import CHUNK, Fingerprints, Traits
from consistency.stores.slices import MAX_ROWS, Overflow, in_slices
from consistency.stores.table import clamped, first_of_each

_AT_ONCE: Final = 8
"""Requests on their way, at most."""
_NEAR: Final = round(NEAR * 1e9)
_LONGEST: Final = 60 * 10**9
"""Nanoseconds: how far from its key's time a row is looked for in the list, and how much of that is read at once."""
_NO_REFUSAL: Final = (401, 403, 404, 408, 410, 429)
"""Statuses that speak of the credential, the address or the moment, not of the event."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class HttpStore:
    """One API. name: the store's, in the configuration."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.traits = Traits(is_writable=settings.write_url is not None)
        self._settings = settings
        self._events = Events(settings)
        self._opened: HttpSession | None = None

    async def open(self) -> None:
        """See that the list answers, with a list."""
        await self.close()
        settings = self._settings
        secret = read_secret(self.name, settings.authorization, settings.authorization_file)
        known = secrets_of(settings, secret or "")
        headers = {"Accept": "application/json", **settings.headers}
        if secret is not None:
            headers["Authorization"] = secret
        self._opened = HttpSession(self.name, settings.timeout, headers, known)
        await self._page(Span(0, _NEAR), "")

    async def close(self) -> None:
        """End the connections."""
        session, self._opened = self._opened, None
        if session is not None:
            await session.close()

    @property
    def _session(self) -> HttpSession:
        if self._opened is None:
            raise StoreUnreachable(self.name, "it was not opened")
        return self._opened

    # reading

    async def rows(self, span: Span, series: frozenset[str] | None = None) -> AsyncGenerator[list[Row]]:
        """See `Store.rows`; all rows are of the series ""."""
        if series is not None and "" not in series:
            return
        span = clamped(span)
        by_cursor = self._settings.cursor is not None
        pages = in_slices(span, self._slice, self._by_cursor) if by_cursor else self._by_time(span)
        async with aclosing(pages) as found:
            async for rows in found:
                for start in range(0, len(rows), CHUNK):
                    yield rows[start : start + CHUNK]

    async def _slice(self, span: Span) -> list[Row]:
        rows: list[Row] = []
        async with aclosing(self._by_cursor(span)) as pages:
            async for page in pages:
                rows += page
                if len(rows) > MAX_ROWS:
                    raise Overflow(median_low([row.at for row in rows]))
        return rows

    async def _by_cursor(self, span: Span) -> AsyncGenerator[list[Row]]:
        cursor = ""
        seen: set[str] = set()
        while True:
            rows, answer = await self._page(span, cursor)
            yield [row for row in rows if span.start <= row.at < span.end]
            try:
                following = self._events.cursor(answer)
            except NoEvent as error:
                raise StoreGarbage(self.name, str(error)) from None
            if following is None:
                return
            if following in seen:
                raise StoreGarbage(self.name, "its cursor leads back to a page that was read: pages would never end")
            seen.add(following)
            cursor = following

    async def _by_time(self, span: Span) -> AsyncGenerator[list[Row]]:
        start, size = span.start, self._settings.page_size
        while start < span.end:
            rows, _ = await self._page(Span(start, span.end), "")
            if any(one.at > other.at for one, other in pairwise(rows)):
                raise StoreGarbage(
                    self.name, "its events are not in order of time, and pages go on by time: order them, or set cursor"
                )
            is_last = len(rows) < size
            until = span.end if is_last else min(rows[-1].at, span.end)
            yield [row for row in rows if start <= row.at < until]
            if is_last:
                return
            if until < span.end and until - until % self._events.unit <= start - start % self._events.unit:
                raise StoreGarbage(
                    self.name,
                    f"a page of {len(rows)} events does not get beyond {self._events.time_text(start)}, so reading "
                    "cannot go on: raise page_size, use a finer time_format, or set cursor",
                )
            start = until

    async def _page(self, span: Span, cursor: str) -> tuple[list[Row], Any]:
        """One page's events, all of them, and its whole answer."""
        events = self._events
        # Times are written as coarse as the API takes them, and the last one must be within.
        end = span.end + -span.end % events.unit
        url = filled(
            self._settings.url,
            start=events.time_text(span.start),
            end=events.time_text(end),
            cursor=cursor,
            limit=str(self._settings.page_size),
        )
        session = self._session
        answer = await session.ask("GET", url)
        if answer.status != 200:
            raise self._refusal(answer)
        document = self._parsed(answer)
        listed = events.listed(document)
        if listed is None:
            raise StoreGarbage(self.name, f"its answer has no list at {self._settings.events!r}: {self._start(answer)}")
        return self._rows(listed), document

    def _rows(self, listed: Iterable[Any]) -> list[Row]:
        try:
            return [self._events.row(event) for event in listed]
        except NoEvent as error:
            raise StoreGarbage(self.name, self._session.shown(str(error))) from None

    def _parsed(self, answer: Answer) -> Any:
        try:
            return parse_json(answer.body)
        except NoEvent as error:
            raise StoreGarbage(self.name, f"{error}; it begins with {self._start(answer)!r}") from None

    def _start(self, answer: Answer) -> str:
        return self._session.shown(answer.body)[:80]

    def _refusal(self, answer: Answer) -> StoreError:
        return self._session.refusal(answer.status, answer.body, answer.headers.get("Retry-After"))

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        """See `Store.fetch`; without `event_url` rows are found within a second of their key's time."""
        wanted = {key.identity for key in keys}
        if self._settings.event_url is not None:
            found, failures = await _each(sorted(wanted), self._events_of)
        else:
            found, failures = await _each(list(_spans(key.at for key in keys)), self._near)
        if failures:
            raise failures[0]
        return [row for rows in found for row in rows if row.identity in wanted]

    async def _events_of(self, identity: str) -> list[Row]:
        assert self._settings.event_url is not None
        answer = await self._session.ask("GET", filled(self._settings.event_url, identity=identity))
        if answer.status in (404, 410):
            return []
        if answer.status != 200:
            raise self._refusal(answer)
        document = self._parsed(answer)
        listed = self._events.listed(document)
        rows = self._rows([document] if listed is None else listed)
        if any(row.identity != identity for row in rows):
            raise StoreGarbage(self.name, f"event_url gives another event than the one asked for, {identity[:80]!r}")
        return rows

    async def _near(self, span: Span) -> list[Row]:
        return [row async for rows in self.rows(span) for row in rows]

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """Never asked for: `traits.fingerprint` is empty."""
        raise NotImplementedError("a JSON API has no figures")

    # writing

    async def write(self, rows: Sequence[Row]) -> int:
        """See `Store.write`. Rows are looked for first, as not every API answers 409; PUT says If-None-Match too."""
        if self._settings.write_url is None:
            raise StoreRefused(self.name, "it has no write_url", 0)
        try:
            documents = {row.identity: self._events.document(row) for row in first_of_each(rows)}
        except NoEvent as error:
            raise StoreRefused(self.name, self._session.shown(str(error)), 0) from None
        for row in await self.fetch([row.key for row in rows]):
            documents.pop(row.identity, None)
        results, failures = await _each(list(documents.items()), self._written)
        written = sum(results)
        for failure in failures:
            if isinstance(failure, StoreRefused):
                failure.written = written
            raise failure
        return written

    async def _written(self, event: tuple[str, bytes]) -> bool:
        """Whether it was written: False when it was there."""
        identity, document = event
        settings = self._settings
        assert settings.write_url is not None
        headers = {"Content-Type": "application/json"}
        if settings.write_method == "PUT":
            headers["If-None-Match"] = "*"
        url = filled(settings.write_url, identity=identity)
        answer = await self._session.ask(settings.write_method, url, document, headers)
        if 200 <= answer.status < 300:
            return True
        if answer.status in (409, 412):
            return False
        if 400 <= answer.status < 500 and answer.status not in _NO_REFUSAL:
            said = self._session.shown(answer.body)
            raise StoreRefused(self.name, f"event {identity[:80]!r}: status {answer.status}: {said}")
        raise self._refusal(answer)


async def _each(
    items: Sequence[_Item], ask: Callable[[_Item], Awaitable[_Result]]
) -> tuple[list[_Result], list[BaseException]]:
    """What came of all, some at a time, and failures; none is begun after one."""
    results: list[_Result] = []
    failures: list[BaseException] = []
    for start in range(0, len(items), _AT_ONCE):
        for result in await asyncio.gather(*map(ask, items[start : start + _AT_ONCE]), return_exceptions=True):
            if isinstance(result, BaseException):
                failures.append(result)
            else:
                results.append(result)
        if failures:
            break
    return results, failures


def _spans(times: Iterable[int]) -> Iterator[Span]:
    """Around all of these times, joined where they meet."""
    start = end = None
    for at in sorted(set(times)):
        if start is not None and end is not None and at - _NEAR <= end and at - start <= _LONGEST:
            end = at + _NEAR + 1
            continue
        if start is not None and end is not None:
            yield Span(start, end)
            start = max(at - _NEAR, end)
        else:
            start = at - _NEAR
        end = at + _NEAR + 1
    if start is not None and end is not None:
        yield Span(start, end)
