"""The part of influxdb-client that is used: requests of its asynchronous half.

Not its parser, which cuts times to microseconds; not its writer that collects points, which drops them when it is
closed and hides errors. The client has no types, so they are given here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import orjson
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.domain.dialect import Dialect
from influxdb_client.domain.query import Query
from influxdb_client.rest import ApiException
from influxdb_client.service.query_service import QueryService

from config.stores import InfluxDB2Store as Settings
from consistency.stores.annotated import FluxFailed
from consistency.stores.errors import (
    StoreChanged,
    StoreError,
    StoreGarbage,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from consistency.stores.http import MAX_ANSWER, Wording, streaming
from consistency.stores.points import written_of

_REFUSED: Final = (400, 413, 422)
"""Statuses by which points are refused, all or some of them."""


class TooLong(Exception):
    """An answer is longer than what is taken as a whole."""


class FluxClient(Wording):
    """A connection to one bucket. store: its name in the configuration."""

    def __init__(self, store: str, settings: Settings, token: str | None) -> None:
        super().__init__(store, settings.timeout, (token or "",))
        self._bucket, self._org = settings.bucket, settings.org
        url = settings.url.rstrip("/")
        # The library reads the system's authorities, which takes a tenth of a second, wherever it is not given others.
        context = None if url.lower().startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # A token of no characters would send an Authorization header all the same.
        self._client: Any = InfluxDBClientAsync(
            url,
            token=token,  # type: ignore[arg-type] # None is its default
            org=settings.org,
            timeout=streaming(settings.timeout),
            allow_redirects=False,
            ssl_context=context,
        )
        self._service: Any = QueryService(self._client.api_client)  # type: ignore[no-untyped-call]
        self._dialect: Any = Dialect(annotations=["datatype", "group", "default"])  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """End the connections."""
        await self._client.close()

    async def ask(self, question: str) -> bytes:
        """The whole answer to a question in Flux. Raises TooLong, or a StoreError."""
        query: Any = Query(query=question, dialect=self._dialect)  # type: ignore[no-untyped-call]
        with self.translated():
            async with asyncio.timeout(self.timeout):
                answer: aiohttp.ClientResponse = await self._service.post_query_async(
                    org=self._org, query=query, async_req=False, _preload_content=False, _return_http_data_only=True
                )
                async with answer:
                    body = await _whole(answer)
        if answer.status != 200:
            raise self.refusal(answer.status, _message(body), answer.headers.get("Retry-After"))
        if "Transfer-Encoding" not in answer.headers and "Content-Length" not in answer.headers:
            # CSV has no end of its own, so a cut connection would look like one.
            raise StoreGarbage(self.store, "its answer says nowhere where it ends: something between must be mended")
        return body

    async def write(self, lines: Sequence[bytes], before: int) -> None:
        """Lines of line protocol, times in nanoseconds. before: how many were written before them."""
        try:
            with self.translated():
                async with asyncio.timeout(self.timeout):
                    await self._client.write_api().write(self._bucket, self._org, b"\n".join(lines))
        except ApiException as error:
            status, said = int(error.status or 0), _message(error.body or b"")
            if status not in _REFUSED:
                headers: Any = error.headers or {}
                raise self.refusal(status, said, headers.get("Retry-After")) from None
            raise StoreRefused(self.store, self.shown(said), written_of(said, len(lines), before)) from None

    def failure(self, error: FluxFailed) -> StoreError:
        """What an error in the middle of an answer means."""
        text = self.shown(str(error))
        if "schema collision" in text:
            return StoreChanged(
                self.store, f"{text}; a field has several types: write the points of one of them under another name"
            )
        if "could not find" in text or "not found" in text:
            return StoreMissing(self.store, f"{text}; mend what is named there, or create it")
        return StoreUnreachable(self.store, f"it failed to answer: {text}")


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > MAX_ANSWER:
            raise TooLong
    return bytes(body)


def _message(body: bytes) -> str:
    """What an answer that is a refusal says, without the JSON around it."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    is_error = isinstance(found, dict) and "message" in found
    return str(found["message"]) if is_error else body.decode("utf-8", "replace")
