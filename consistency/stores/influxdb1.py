"""A database of InfluxDB 1.x, asked in InfluxQL over HTTP.

Answers are read as chunked JSON. CSV says too little: there a database that is missing, or an error in the middle, is
an empty answer, and an empty text looks like no value (seen with InfluxDB 1.6.7). JSON writes 5 for the float 5.0, so
types come from SHOW FIELD KEYS, asked anew for each reading: fields come and go. -0.0 is read as 0.0.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from statistics import median_low
from time import monotonic
from typing import Final
from urllib.parse import urlencode

import aiohttp

from config.stores import InfluxDB1Store as Settings
from consistency.rows import Key, Row, Span
from consistency.stores.chunked_json import Series, ask, error_of
from consistency.stores.errors import StoreChanged, StoreMissing, StoreRefused, StoreUnreachable
from consistency.stores.figures import FINGERPRINT, Figures, figures_questions
from consistency.stores.http import HttpSession, read_secret
from consistency.stores.influxql import (
    MAX_CONDITIONS,
    Ambiguous,
    Measurement,
    Question,
    rows_of,
    rows_questions,
    schema_of,
    schema_questions,
)
from consistency.stores.points import (
    PRECISIONS,
    batches,
    by_measurement,
    clusters,
    line_batches,
    missing,
    series_text,
    step_of,
    within,
    written_of,
)
from consistency.stores.protocol import CHUNK, Fingerprints, Traits
from consistency.stores.slices import MAX_ROWS, Overflow, in_slices

_MAX_QUESTIONS: Final = 100
_MAX_TEXT: Final = 256 * 1024
"""Questions of one request, and characters of them."""
_STEPS: Final = 60
"""Steps of the first page of fingerprints."""
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|h|m|s)")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_QUICK: Final = 0.5
"""Seconds: a page that took less makes the next one longer."""


class InfluxDB1Store:
    """One database. name: the store's, in the configuration."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.traits = Traits(
            is_keyed_by_time=True, precision=PRECISIONS[settings.precision], fingerprint=FINGERPRINT, is_writable=True
        )
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._opened: HttpSession | None = None

    async def open(self) -> None:
        """See that the database, the retention policy and the measurements are there."""
        await self.close()
        settings = self._settings
        password = read_secret(self.name, settings.password, settings.password_file) or ""
        # Packing answers would cost InfluxDB more than the way here costs us.
        headers, secrets = {"Accept-Encoding": "identity"}, [password]
        if settings.username is not None:
            headers["Authorization"] = aiohttp.encode_basic_auth(settings.username, password)
            secrets.append(headers["Authorization"].removeprefix("Basic "))
        self._opened = HttpSession(self.name, settings.timeout, headers, tuple(secrets))
        policies = [values[0] for part in await self._whole(["SHOW RETENTION POLICIES"]) for values in part.values]
        if settings.retention_policy not in (None, *policies):
            raise StoreMissing(
                self.name,
                f"database {settings.database!r} has no retention policy {settings.retention_policy!r}, it has "
                f"{', '.join(map(repr, policies))}",
            )
        await self._schema()

    async def keeps(self) -> float | None:
        """Seconds that its retention policy keeps points, None for ever. Once it was opened."""
        for part in await self._whole(["SHOW RETENTION POLICIES"]):
            for name, lasts, *_, is_default in part.values:
                if name == self._settings.retention_policy or (is_default and self._settings.retention_policy is None):
                    return seconds_of(str(lasts)) or None
        return None

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
        """See `Store.rows`. A slice of time is sorted in memory, a single instant comes as InfluxDB has it."""
        schema = await self._schema()
        wanted = None if series is None else by_measurement(series)

        def parts(piece: Span) -> AsyncGenerator[list[Row]]:
            return self._rows(rows_questions(self._settings.retention_policy, schema, piece, wanted), series)

        async def read(piece: Span) -> list[Row]:
            rows: list[Row] = []
            async with self._in_time(), aclosing(parts(piece)) as found:
                async for part in found:
                    rows += part
                    if len(rows) > MAX_ROWS:
                        raise Overflow(median_low([row.at for row in rows]))
            return rows

        async with aclosing(in_slices(within(span), read, parts)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        """See `Store.fetch`."""
        if not keys:
            return []
        schema = await self._schema()
        step = max(step, self.traits.precision)
        policy = self._settings.retention_policy
        steps = {step_of(key, step) for key in keys}
        questions = (
            question
            for cluster in clusters(keys, step, MAX_CONDITIONS)
            for question in rows_questions(policy, schema, cluster.span, {cluster.measurement: cluster.series})
        )
        found: list[Row] = []
        for batch in batches(questions, lambda question: len(question.text), _MAX_QUESTIONS, _MAX_TEXT):
            async with self._in_time(), aclosing(self._rows(batch, None)) as parts:
                async for part in parts:
                    found += [row for row in part if step_of(row.key, step) in steps]
        return found

    async def _rows(self, questions: Sequence[Question], series: frozenset[str] | None) -> AsyncGenerator[list[Row]]:
        """What the answers to questions hold, in lists of at most CHUNK. series: of these alone."""
        rows: list[Row] = []
        for batch in batches(questions, lambda question: len(question.text), _MAX_QUESTIONS, _MAX_TEXT):
            async with aclosing(self._ask([question.text for question in batch])) as answer:
                async for part in answer:
                    identity = series_text(part.measurement, part.tags)
                    if series is None or identity in series:
                        rows += self._rows_of(identity, batch[part.statement].measurement, part)
                    while len(rows) >= CHUNK:
                        yield rows[:CHUNK]
                        del rows[:CHUNK]
        if rows:
            yield rows

    def _rows_of(self, identity: str, measurement: Measurement, part: Series) -> list[Row]:
        try:
            return rows_of(identity, measurement, part)
        except Ambiguous as error:
            raise StoreChanged(self.name, f"{error}; check again") from None

    async def _schema(self) -> dict[str, Measurement]:
        names = self._settings.measurements
        answer = await self._whole(schema_questions(self._settings.retention_policy, names))
        try:
            schema = schema_of(answer)
        except Ambiguous as error:
            raise StoreChanged(self.name, str(error)) from None
        absent = [name for name in names if name not in schema]
        if absent:
            raise StoreMissing(
                self.name,
                f"database {self._settings.database!r} has no measurement {', '.join(map(repr, absent))}; mend its "
                "name, or write a first point",
            )
        return schema

    # fingerprints

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """See `Store.fingerprints`; what they say and leave unsaid: `figures`."""
        figures = Figures(await self._schema())
        span = within(span)
        start, steps = span.start, _STEPS
        while start < span.end:
            page = Span(start, min(start + steps * step, span.end))
            began = monotonic()
            try:
                async with asyncio.timeout(self._settings.timeout):
                    await self._figures(figures, page, step)
            except TimeoutError:
                if steps == 1:
                    raise self._too_late() from None
                steps = max(steps // 4, 1)
                continue
            start = page.end
            if monotonic() - began < _QUICK:
                steps *= 4
        return figures.fingerprints()

    async def _figures(self, figures: Figures, span: Span, step: int) -> None:
        """Ask for those of a span that begins with a step."""
        asked = figures_questions(self._settings.retention_policy, figures.schema, span, step)
        for batch in batches(asked, lambda each: len(each.text), _MAX_QUESTIONS, _MAX_TEXT):
            async with aclosing(self._ask([each.text for each in batch])) as answer:
                async for part in answer:
                    figures.add(batch[part.statement], part)

    # writing

    async def write(self, rows: Sequence[Row]) -> int:
        """See `Store.write`. InfluxDB has no write that spares what is there, so that is read before each batch: what
        somebody else writes under the same key in the moment between is written over.
        """
        written = 0
        for batch in line_batches(self.name, rows):
            there = await self.fetch([row.key for row, _ in batch])
            lines = missing(batch, there, self.traits.precision)
            if lines:
                await self._write(lines, written)
            written += len(lines)
        return written

    async def _write(self, lines: Sequence[bytes], before: int) -> None:
        """before: how many were written by batches before this one."""
        words = {"db": self._settings.database, "precision": "ns"}
        if self._settings.retention_policy is not None:
            words["rp"] = self._settings.retention_policy
        session = self._session
        answer = await session.ask("POST", f"{self._url}/write?{urlencode(words)}", b"\n".join(lines))
        if answer.status == 204:
            return
        said = error_of(answer.body)
        if answer.status in (400, 413):
            raise StoreRefused(self.name, session.shown(said), written_of(said, len(lines), before))
        raise session.refusal(answer.status, said, answer.headers.get("Retry-After"))

    # asking

    async def _ask(self, questions: Sequence[str]) -> AsyncGenerator[Series]:
        async with aclosing(ask(self._session, f"{self._url}/query", self._settings.database, questions)) as answer:
            async for part in answer:
                yield part

    async def _whole(self, questions: Sequence[str]) -> list[Series]:
        async with self._in_time():
            return [part async for part in self._ask(questions)]

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Of one question; a stream has its bound for each part of the answer instead."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                yield
        except TimeoutError:
            raise self._too_late() from None

    def _too_late(self) -> StoreUnreachable:
        return StoreUnreachable(self.name, f"no answer within {self._settings.timeout:g} s")


def seconds_of(lasts: str) -> float:
    """`168h0m0s` in seconds, as InfluxDB writes how long something lasts."""
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(lasts))
