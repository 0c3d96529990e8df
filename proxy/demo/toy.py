"""A toy backend seen from outside: start it, break it, read what it stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from config.units import Address
from proxy.core.errors import CrossfadeError
from proxy.demo.children import Child, free_port, python
from proxy.demo.store import Stored, damage_store, read_store

_START_SECONDS = 15.0
_CONTROL_TIMEOUT = aiohttp.ClientTimeout(total=10)


class ToyBackend:
    """One `proxy.demo.backends` process; its file and log lie in `directory`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.address = Address("127.0.0.1", free_port())
        self.url = f"http://{self.address.host}:{self.address.port}"
        self._db = directory / f"{name}.db"
        self._log = directory / f"{name}.log"
        self._control = free_port()
        self.control_url = f"http://127.0.0.1:{self._control}/control"
        self.child = self._start()

    def _start(self) -> Child:
        ports = ["--port", str(self.address.port), "--control-port", str(self._control)]
        command = python("proxy.demo.backends", "--name", self.name, "--db", str(self._db), *ports)
        return Child(f"backend {self.name}", command, self._log)

    async def ready(self) -> None:
        """Wait until it serves; raises ChildError."""
        await self.child.until(self._answers, _START_SECONDS)

    async def _answers(self) -> bool:
        try:
            await self.state()
        except aiohttp.ClientError:
            return False
        return True

    async def state(self) -> dict[str, Any]:
        """Its fault, and how many rows it has."""
        return await self._request("GET", None)

    async def fault(self, kind: str, **fields: float) -> None:
        """Inject a fault of `proxy.demo.backends.Fault`; `none` ends it."""
        await self._request("POST", {"fault": kind} | fields)

    async def _request(self, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(timeout=_CONTROL_TIMEOUT) as session,
            session.request(method, self.control_url, json=body) as answer,
        ):
            result: dict[str, Any] = await answer.json()
            if answer.status != 200:
                raise CrossfadeError(f"backend {self.name} refused {body}: {result}")
            return result

    def stored(self) -> list[Stored]:
        """Every row, in order of arrival, read from the file itself."""
        return read_store(self._db)

    def damage(self, lost: int, different: int) -> None:
        """Delete so many of the newest events from the file and spoil the bodies of so many others."""
        damage_store(self._db, lost, different)

    async def restart(self) -> None:
        """Start a stopped backend again with the same file and ports."""
        self.child = self._start()
        await self.ready()

    async def stop(self) -> None:
        """End the process."""
        await self.child.stop()
