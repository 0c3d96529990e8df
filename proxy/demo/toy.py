"""A toy backend seen from outside: start it, break it, read what it stored."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import aiohttp

from config.units import Address
from proxy.core.errors import CrossfadeError
from proxy.demo.children import Child, free_port, python
from proxy.demo.store import Stored, damage_store, read_store

_START_SECONDS = 60.0
_KILLED_SECONDS = 10.0
_CONTROL_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Breakable:
    """One process that takes events at a port, and faults at another one; its log lies in `directory`.

    command: the words that start it, but for the options of its two ports.
    """

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self.address = Address("127.0.0.1", free_port())
        self.url = f"http://{self.address.host}:{self.address.port}"
        self._log = directory / f"{name}.log"
        control = free_port()
        self._command = [*command, "--port", str(self.address.port), "--control-port", str(control)]
        self.control_url = f"http://127.0.0.1:{control}/control"
        self.child = self._start()

    def _start(self) -> Child:
        return Child(f"backend {self.name}", self._command, self._log)

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
        """Its fault, when an event met it first (`met_at`, monotonic seconds or None), and how many rows it has."""
        return await self._request("GET", None)

    async def fault(self, kind: str, **fields: float | str) -> None:
        """Inject a fault of `proxy.demo.faults.Fault`; `none` ends it."""
        await self._request("POST", {"fault": kind, **fields})

    async def _request(self, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(timeout=_CONTROL_TIMEOUT) as session,
            session.request(method, self.control_url, json=body) as answer,
        ):
            result: dict[str, Any] = await answer.json()
            if answer.status != 200:
                raise CrossfadeError(f"backend {self.name} refused {body}: {result}")
            return result

    async def restart(self) -> None:
        """Start a stopped backend again with the same file and ports."""
        self.child = self._start()
        await self.ready()

    async def stop(self) -> None:
        """End the process."""
        await self.child.stop()

    async def kill(self) -> None:
        """kill -9."""
        self.child.signal(signal.SIGKILL)
        await self.child.ended(_KILLED_SECONDS)


class ToyBackend(Breakable):
    """One `proxy.demo.backends` process; its file lies in `directory` as well. host: where it takes events, too."""

    def __init__(self, name: str, directory: Path, host: str = "127.0.0.1") -> None:
        self._db = directory / f"{name}.db"
        options = ["--name", name, "--db", str(self._db), "--host", host]
        super().__init__(name, python("proxy.demo.backends", *options), directory)

    def stored(self) -> list[Stored]:
        """Every row, in order of arrival, read from the file itself."""
        return read_store(self._db)

    def damage(self, lost: int, different: int) -> dict[str, list[str]]:
        """Delete so many of the newest events from the file and spoil the bodies of so many others; their ids."""
        return damage_store(self._db, lost, different)
