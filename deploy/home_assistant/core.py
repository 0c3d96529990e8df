"""One Home Assistant core, a process on the loopback with a folder of its own: its configuration, its life, its API."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from deploy.home_assistant.install import prepare
from deploy.home_assistant.recorded import Recorded, read_recorded
from deploy.home_assistant.session import CLIENT_NAME, ApiError, Session
from deploy.home_assistant.settings import of_all
from proxy.demo.children import Child, ChildError, free_port

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
_SAVED_SECONDS: Final = 20.0
_ENVIRON: Final = {"NO_PROXY": "*"}
"""Its `influxdb` integration would go by a proxy that the environment names, even to the loopback."""


class HomeAssistant:
    """A Home Assistant whose files and log lie in `directory`; a second one on the same folder goes on where it was.

    integrations: more of its configuration, by name; `settings` has some. It never reaches for the network: of all that
    comes by default nothing but `automation` and its like is set up, and what is missing is not installed.
    """

    def __init__(self, directory: Path, integrations: dict[str, Any] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = directory / "home-assistant"
        self.log = directory / "home-assistant.log"
        self.token_file = directory / "home-assistant.token"
        self._session: Session | None = None
        self._child: Child | None = None
        self.folder.mkdir(exist_ok=True)
        settings = of_all(self.port) | (integrations or {})
        (self.folder / "configuration.yaml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))

    @property
    def pid(self) -> int:
        """Of its only process."""
        assert self._child is not None, "it does not run"
        return self._child.pid

    @property
    def api(self) -> Session:
        """Its API, with its owner's token."""
        assert self._session is not None, "it does not run"
        return self._session

    async def start(self) -> None:
        """Start it: everything is set up then, and its owner has a long-lived token.

        Raises ChildError with its log's tail, InstallError.
        """
        assert self._child is None, "it runs already"
        python = await asyncio.to_thread(prepare)
        command = [str(python), "-I", "-m", "homeassistant", "--skip-pip", "--config", str(self.folder)]
        self._child = Child("Home Assistant", command, self.log, environ=_ENVIRON)
        self._session = Session(self.url, self.token_file.read_text() if self.token_file.exists() else "")
        await self._child.until(self._serves, START_SECONDS)
        if not self._session.token:
            await self._onboard()
        await self._child.until(self._is_running, START_SECONDS)

    async def _onboard(self) -> None:
        """An owner and a token, which are on disk then: Home Assistant saves them only after a second."""
        await self.api.create_owner(secrets.token_urlsafe())
        saved = self.folder / ".storage" / "auth"
        deadline = time.monotonic() + _SAVED_SECONDS
        while not (saved.is_file() and CLIENT_NAME in saved.read_text()):
            if time.monotonic() > deadline:
                raise ChildError(f"Home Assistant has not saved its token in {saved} within {_SAVED_SECONDS:g} s")
            await asyncio.sleep(0.1)
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.api.token)

    async def _serves(self) -> bool:
        try:
            await self.api.ask("GET", "/api/onboarding")
        except (aiohttp.ClientError, ApiError):  # it listens before everything has its path
            return False
        return True

    async def _is_running(self) -> bool:
        return bool((await self.api.ask("GET", "/api/config"))["state"] == "RUNNING")

    async def stop(self) -> int:
        """End it in order, if it runs: everything is recorded and written then. The exit code."""
        child = await self._let_go()
        return await child.stop(STOP_SECONDS) if child is not None else 0

    async def kill(self) -> None:
        """kill -9; what it has committed stays."""
        child = await self._let_go()
        assert child is not None, "it does not run"
        child.signal(signal.SIGKILL)
        await child.ended(STOP_SECONDS)

    async def _let_go(self) -> Child | None:
        if self._session is not None:
            await self._session.close()
        child, self._child, self._session = self._child, None, None
        return child

    def recorded(self) -> list[Recorded]:
        """Every state change that it has recorded; while it runs, up to a second ago."""
        return read_recorded(self.folder / "home-assistant_v2.db")
