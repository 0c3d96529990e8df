"""A session with a store that speaks HTTP: one question, one answer, and what went wrong as a StoreError.

Nothing is tried again here: the checker knows when it is worth it. Redirects are not followed, for a credential would
go where nobody sent it. Texts name the server without the address's query, and secrets in what it says are blanked.

    no connection, no answer in time, cut in the middle, 408, 429, 5xx   StoreUnreachable
    401, 403                                                             StoreDenied
    404, 410                                                             StoreMissing
    everything else that was not asked for                               StoreGarbage
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from yarl import URL

from consistency.stores.errors import StoreDenied, StoreError, StoreGarbage, StoreMissing, StoreUnreachable

MAX_ANSWER: Final = 64 * 2**20
"""Bytes of an answer that is taken as a whole."""

_SHOWN: Final = 300
"""Characters of what a server says that a message repeats."""
_MAX_SECRET: Final = 65_536
_CONNECTIONS: Final = 16


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read_secret(store: str, value: str | None, file: str | None) -> str | None:
    """A credential from its setting or its file, without a newline at the end; None when there is neither.

    Raises StoreDenied when the file cannot be used.
    """
    if file is None:
        if value is not None and not value.isprintable():
            raise StoreDenied(store, "its credential must be one line of text")
        return value
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(_MAX_SECRET + 1).decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise StoreDenied(store, f"cannot read the file of its credential, {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StoreDenied(store, f"the file of its credential, {file}, is not UTF-8 text") from None
    if not text or len(text) > _MAX_SECRET or not text.isprintable():
        raise StoreDenied(store, f"the file of its credential, {file}, must hold one line of text")
    return text


def streaming(timeout: float) -> aiohttp.ClientTimeout:
    """For each wait on the wire, seconds; none for an answer in all."""
    return aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)


class Wording:
    """Says what goes wrong with a store. store: its name; timeout: seconds; secrets: never repeated in a text."""

    def __init__(self, store: str, timeout: float, secrets: tuple[str, ...] = ()) -> None:
        self.store = store
        self.timeout = timeout
        self._secrets = tuple(sorted(filter(None, secrets), key=len, reverse=True))

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Say failures of the connection in terms of stores."""
        try:
            yield
        except TimeoutError:
            raise StoreUnreachable(self.store, f"no answer within {self.timeout:g} s") from None
        except aiohttp.ClientPayloadError:
            raise StoreUnreachable(self.store, "its connection ended in the middle of an answer") from None
        except aiohttp.InvalidURL:
            raise StoreMissing(self.store, "its url cannot be used: mend it in the configuration") from None
        except aiohttp.ClientConnectionError as error:
            raise StoreUnreachable(self.store, f"no connection: {self._reason(error)}") from None
        except aiohttp.ClientError as error:
            raise StoreGarbage(self.store, f"what it says is not HTTP ({type(error).__name__})") from None

    def _reason(self, error: aiohttp.ClientConnectionError) -> str:
        if isinstance(error, aiohttp.ClientConnectorError):
            return error.os_error.strerror or type(error.os_error).__name__
        return "it was closed" if isinstance(error, aiohttp.ServerDisconnectedError) else type(error).__name__

    def refusal(self, status: int, said: str | bytes, retry_after: str | None = None) -> StoreError:
        """The error that an unexpected status means. said: the answer's text; retry_after: that header's value."""
        text = f"status {status}" + (f": {shown}" if (shown := self.shown(said)) else "")
        if status in (401, 403):
            return StoreDenied(self.store, f"{text}; mend its credential, or what that may do")
        if status in (404, 410):
            return StoreMissing(self.store, f"{text}; mend its address or what is named there")
        if status in (408, 429) or status >= 500:
            wait = f" (it asks to wait {self.shown(retry_after)} s)" if retry_after else ""
            return StoreUnreachable(self.store, text + wait)
        if 300 <= status < 400:
            return StoreGarbage(self.store, f"{text}; redirects are not followed: configure the address it leads to")
        return StoreGarbage(self.store, text)

    def shown(self, said: str | bytes) -> str:
        """What a server says, fit for a message: short, on one line, without our credential."""
        text = said[: 4 * _SHOWN + _MAX_SECRET].decode("utf-8", "replace") if isinstance(said, bytes) else said
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class HttpSession(Wording):
    """Connections to one store. timeout: seconds for each question; headers: of every request."""

    def __init__(
        self, store: str, timeout: float, headers: Mapping[str, str] | None = None, secrets: tuple[str, ...] = ()
    ) -> None:
        super().__init__(store, timeout, secrets)
        # Waiting for the next byte is bounded here, the whole question by `ask`: a stream may take longer in all, as
        # long as it flows.
        self._session = aiohttp.ClientSession(
            timeout=streaming(timeout),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
        )

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def ask(
        self,
        method: str,
        url: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_ANSWER,
    ) -> Answer:
        """One question and its whole answer, whatever its status. limit: bytes; a longer one is StoreGarbage."""
        with self.translated():
            async with asyncio.timeout(self.timeout), self._stream(method, url, data, headers) as answer:
                body = bytearray()
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > limit:
                        raise StoreGarbage(self.store, f"its answer is longer than {limit >> 20} MiB: ask for less")
                return Answer(answer.status, answer.headers, bytes(body))

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer as it comes; its connection is given up when it is left before its end."""
        with self.translated():
            async with self._stream(method, url, data, headers) as answer:
                yield answer

    @contextlib.asynccontextmanager
    async def _stream(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # What is encoded stays so: another encoding would be another event. aiohttp wants long bodies as files.
        body = None if data is None else io.BytesIO(data)
        async with self._session.request(
            method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
        ) as answer:
            yield answer
