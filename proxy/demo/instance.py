"""The real daemon, started as a user would, in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import yaml

from config.units import Address
from proxy.demo.admin import Admin
from proxy.demo.backends import STREAM_PATH
from proxy.demo.children import Child, ChildError, free_port, python

_START_SECONDS = 90.0
_ORPHANS_SECONDS = 30.0
_ROLES = {
    "proxy.worker.ledger_process": "ledger",
    "proxy.control.supervisor": "supervisor",
    "proxy.worker": "worker",
    "consistency.live": "checker",
}


class Instance:
    """A daemon of its own configuration file and state directory, both in `directory`."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        """config: the configuration as the YAML file will have it, with `listen` and `state_dir`."""
        self.config_path = directory / "crossfade.yaml"
        self.config_path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        host, _, port = config["listen"][0].rpartition(":")
        self.address = Address(host, int(port))
        self.state_dir = directory / str(config["state_dir"])
        self.log = directory / "crossfade.log"
        self.admin = Admin(self.state_dir / "admin.sock")
        self.launcher: Child | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready; raises ChildError with its log's tail."""
        self.launcher = self._launched(python("proxy.cli.main", "run", str(self.config_path)))
        await self.launcher.until(self.admin.is_ready, _START_SECONDS)

    def _launched(self, command: list[str]) -> Child:
        return Child("crossfade", command, self.log)

    def check(self) -> None:
        """Raise ChildError when the launcher has ended."""
        if self.launcher is not None:
            self.launcher.check()

    def processes(self) -> dict[int, str]:
        """Its living processes but the launcher: launcher's children, or orphans it left. pid -> role."""
        wanted = f"CROSSFADE_CONFIG_PATH={self.config_path}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and wanted in _read(entry / "environ").split(b"\0"):
                words = _read(entry / "cmdline").decode().split("\0")
                module = words[words.index("-m") + 1] if "-m" in words else ""
                if module in _ROLES:
                    found[int(entry.name)] = _ROLES[module]
        return found

    def pids(self, role: str) -> list[int]:
        """The processes of a role: worker, ledger or supervisor."""
        return sorted(pid for pid, its_role in self.processes().items() if its_role == role)

    async def stop(self) -> int:
        """SIGTERM, and wait until all its processes are gone; the launcher's exit code.

        Raises ChildError when some outlived it, after they were killed.
        """
        if self.launcher is None:
            return 0
        code = await self.launcher.stop()
        await self.gone(_ORPHANS_SECONDS)
        self.launcher = None
        return code

    async def gone(self, seconds: float) -> None:
        """Wait until none of its processes is left; kills what stays and raises ChildError."""
        deadline = time.monotonic() + seconds
        while left := self.processes():
            if time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                raise ChildError(f"still running {seconds:g} s after the launcher ended: {left}; see {self.log}")
            await asyncio.sleep(0.02)


def _read(path: Path) -> bytes:
    """A file of /proc; empty when the process has gone, or is another user's."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def basic_config(old: str, new: str, **route: Any) -> dict[str, Any]:
    """A configuration with two backends (URLs), one event route, two workers, and fast clocks.

    route: further keys of the route. Ports are free ones; the admin API has its Unix socket only.
    """
    backend = {
        "health": {"path": "/health", "interval": "250ms", "timeout": "500ms"},
        "response_timeout": "1s",
        "breaker": {"failures": 5, "reset": "500ms"},
    }
    return {
        "version": 1,
        "listen": [f"127.0.0.1:{free_port()}"],
        "workers": 2,
        "state_dir": "state",
        "salt": "a salt for demonstrations",
        "backends": {"old": {"url": old} | backend, "new": {"url": new} | backend},
        "routes": [
            {
                "name": "events",
                "match": {"path": "/api/v1/events", "methods": ["POST"]},
                "key": "json:/entity_id",
                "identities": ["json:/context/id"],
            }
            | route
        ],
        "ledger": {"retry_initial": "50ms", "retry_max": "500ms"},
        "admin": {"tcp": "off"},
        "log": {"format": "text"},
    }


def add_sessions(config: dict[str, Any]) -> None:
    """Add a route of WebSocket sessions to such a configuration.

    Its backends are toys, which answer a Ping once everything before it is committed: nothing that was ponged has to be
    sent again, so it is settled at once instead of after a window.
    """
    config["routes"].append(
        {
            "name": "stream",
            "match": {"path": STREAM_PATH},
            "key": "json:/entity_id",
            "event_id": ["json:/id"],
            "websocket": {"redeliver_window": "0s"},
        }
    )
