"""A bucket of InfluxDB 2.x, asked in Flux through influxdb-client.

Tested: writing and its wire format against VictoriaMetrics, which takes what influxdb-client writes; reading against a
server of our own that speaks the documented /api/v2/query and /api/v2/write, and keeps points in InfluxDB 1.6.7. Not
tested against InfluxDB 2.x itself. As documented, InfluxDB takes carriage returns before newlines out of what it says:
a text with them is read without.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from statistics import median_low
from typing import Any, Final, TypeVar

from config.stores import InfluxDB2Store as Settings
from consistency.rows import Key, Row, Span
from consistency.stores.annotated import BadTable, FluxFailed, Value, column_of, values_of
from consistency.stores.errors import StoreGarbage, StoreMissing, StoreUnreachable
from consistency.stores.flux import (
    MAX_CONDITIONS,
    measurements_question,
    retention_question,
    rows_question,
    together,
)
from consistency.stores.flux_client import FluxClient, TooLong
from consistency.stores.http import MAX_ANSWER, read_secret
from consistency.stores.points import PRECISIONS, by_measurement, clusters, line_batches, missing, step_of, within
from consistency.stores.protocol import CHUNK, Fingerprints, Traits
from consistency.stores.slices import MAX_ROWS, Overflow, in_slices

_CLUSTERS: Final = 20
"""Spans that one question asks for."""

_Parsed = TypeVar("_Parsed")


class InfluxDB2Store:
    """One bucket. name: the store's, in the configuration."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.traits = Traits(is_keyed_by_time=True, precision=PRECISIONS[settings.precision])
        self._settings = settings
        self._opened: FluxClient | None = None

    async def open(self) -> None:
        """See that the bucket and the measurements are there."""
        await self.close()
        settings = self._settings
        token = read_secret(self.name, settings.token, settings.token_file)
        self._opened = FluxClient(self.name, settings, token)
        if not settings.measurements:
            self._rows(await self._ask(rows_question(settings.bucket, Span(0, 1), (), None)))
            return
        found = self._parsed(_names, await self._ask(measurements_question(settings.bucket)))
        absent = [name for name in settings.measurements if name not in found]
        if absent:
            raise StoreMissing(
                self.name,
                f"bucket {settings.bucket!r} has no measurement {', '.join(map(repr, absent))}; mend its name, or "
                "write a first point",
            )

    async def keeps(self) -> float | None:
        """Seconds that its bucket keeps points, None for ever or where it does not say. Once it was opened."""
        periods = self._parsed(_periods, await self._ask(retention_question(self._settings.bucket)))
        return int(periods[0]) / 1e9 or None if periods and periods[0].isdigit() else None

    async def close(self) -> None:
        """End the connections."""
        client, self._opened = self._opened, None
        if client is not None:
            await client.close()

    @property
    def _client(self) -> FluxClient:
        if self._opened is None:
            raise StoreUnreachable(self.name, "it was not opened")
        return self._opened

    # reading

    async def rows(self, span: Span, series: frozenset[str] | None = None) -> AsyncGenerator[list[Row]]:
        """See `Store.rows`. Slices of time are read whole and sorted; so is one instant, of 64 MiB at most.

        series: as identities have them; "" for all, as there are no fingerprints that would name them
        """
        wanted = None
        if series is not None and "" in series:
            series = None
        if series is not None:
            known = by_measurement(series)
            wanted = [(name, tags) for name, found in known.items() if self._is_ours(name) for tags in found.values()]
            if not wanted:
                return

        async def read(piece: Span) -> list[Row]:
            question = rows_question(self._settings.bucket, piece, self._settings.measurements, wanted)
            try:
                body = await self._client.ask(question)
            except TooLong:
                raise Overflow((piece.start + piece.end) // 2) from None
            rows = [row for row in self._rows(body) if series is None or row.identity in series]
            if len(rows) > MAX_ROWS and piece.end - piece.start > 1:
                raise Overflow(median_low([row.at for row in rows]))
            return rows

        async def stream(piece: Span) -> AsyncGenerator[list[Row]]:
            try:
                rows = await read(piece)
            except Overflow:
                raise self._too_long() from None
            for start in range(0, len(rows), CHUNK):
                yield rows[start : start + CHUNK]

        async with aclosing(in_slices(within(span), read, stream)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        """See `Store.fetch`."""
        step = max(step, self.traits.precision)
        steps = {step_of(key, step) for key in keys}
        found = [each for each in clusters(keys, step, MAX_CONDITIONS) if self._is_ours(each.measurement)]
        rows: list[Row] = []
        for first in range(0, len(found), _CLUSTERS):
            questions = (
                rows_question(
                    self._settings.bucket, each.span, (), [(each.measurement, tags) for tags in each.series.values()]
                )
                for each in found[first : first + _CLUSTERS]
            )
            body = await self._ask(together(questions))
            rows += [row for row in self._rows(body) if step_of(row.key, step) in steps]
        return rows

    def _is_ours(self, measurement: str) -> bool:
        return not self._settings.measurements or measurement in self._settings.measurements

    def _rows(self, body: bytes) -> list[Row]:
        points: dict[tuple[str, int], dict[str, Any]] = {}
        for identity, at, field, value in self._parsed(_values, body):
            points.setdefault((identity, at), {})[field] = value
        return [Row(identity, at, fields) for (identity, at), fields in points.items()]

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """Never asked for: `traits.fingerprint` is empty."""
        raise NotImplementedError("figures of InfluxDB 2.x are not made")

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
                await self._client.write(lines, written)
            written += len(lines)
        return written

    # asking

    async def _ask(self, question: str) -> bytes:
        try:
            return await self._client.ask(question)
        except TooLong:
            raise self._too_long() from None

    def _parsed(self, parse: Callable[[bytes], _Parsed], body: bytes) -> _Parsed:
        try:
            return parse(body)
        except BadTable as error:
            start = self._client.shown(body)[:80]
            raise StoreGarbage(
                self.name, f"{self._client.shown(str(error))}; its answer begins with {start!r}"
            ) from None
        except FluxFailed as error:
            raise self._client.failure(error) from None

    def _too_long(self) -> StoreGarbage:
        return StoreGarbage(
            self.name,
            f"its answer is longer than {MAX_ANSWER >> 20} MiB, for an instant or few keys: name measurements",
        )


def _values(body: bytes) -> list[Value]:
    return list(values_of(body))


def _periods(body: bytes) -> list[str]:
    return column_of(body, "retentionPeriod")


def _names(body: bytes) -> list[str]:
    return column_of(body, "_value")
