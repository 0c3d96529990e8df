"""Asks a running instance's admin API."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import aiohttp
import orjson

from config.model import Settings
from consistency.recorded import RecordsUnavailable

_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)


def socket_of(settings: Settings) -> Path:
    """Where the instance of these settings has its admin socket."""
    return Path(settings.admin.socket or Path(settings.state_dir) / "admin.sock")


class Admin:
    """The admin API on an instance's Unix socket; who may open that may ask."""

    def __init__(self, path: Path) -> None:
        self._socket = path
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(str(self._socket))
        self._session = aiohttp.ClientSession("http://localhost", connector=connector, timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def is_there(self) -> bool:
        """Whether somebody listens: an instance that was stopped may leave its socket behind."""
        with socket.socket(socket.AF_UNIX) as trial:
            try:
                trial.connect(str(self._socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:  # not for us to open, or its queue is full: somebody is there
                return True
        return True

    async def ask(self, path: str, **query: object) -> dict[str, Any]:
        """The answer to a GET below /api/v1. Raises RecordsUnavailable with what the instance says."""
        assert self._session is not None
        try:
            async with self._session.get(f"/api/v1/{path}?{urlencode(query)}") as answer:
                said = orjson.loads(await answer.read())
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror
            raise RecordsUnavailable(f"the instance at {self._socket} does not answer: {reason}") from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise RecordsUnavailable(f"the instance at {self._socket} does not say: {reason}") from None
        if answer.status != 200 or not isinstance(said, dict):
            detail = said.get("detail", "no reason given") if isinstance(said, dict) else "not a JSON object"
            raise RecordsUnavailable(f"the instance at {self._socket} answered {answer.status}: {detail}")
        return said
