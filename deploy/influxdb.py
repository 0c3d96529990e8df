"""InfluxDB 1.x from its Debian package: started on files of its own, written to and asked over HTTP."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any, Final

import aiohttp

from deploy.packages import program
from proxy.demo.children import Child, free_port

DATABASE: Final = "home"
USER: Final = "admin"
_START: Final = 20.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A measurement with its tags in order."""
Points = dict[Series, dict[int, dict[str, Any]]]
"""By series and time (nanoseconds), the fields."""


class InfluxError(Exception):
    """It refused a query."""


class InfluxDB:
    """One server.

    password: of its administrator, without whose credential nobody gets in; empty: open to all
    max_rows: what it cuts answers at that are not chunked; 0: it cuts none
    """

    def __init__(self, name: str, directory: Path, password: str = "", max_rows: int = 0) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._password = password
        self._child: Child | None = None
        self._config = directory / f"{name}.toml"
        self._log = directory / f"{name}.log"
        root = directory / f"influxdb-{name}"
        self._config.write_text(
            f"""reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
  dir = "{root}/meta"
[data]
  dir = "{root}/data"
  wal-dir = "{root}/wal"
[http]
  bind-address = "127.0.0.1:{self.port}"
  auth-enabled = {"true" if password else "false"}
  log-enabled = false
  max-row-limit = {max_rows}
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[retention]
  enabled = false
[shard-precreation]
  enabled = false
[continuous_queries]
  enabled = false
"""
        )

    @property
    def authorization(self) -> str:
        """Its administrator's credential, as a header has it."""
        return aiohttp.encode_basic_auth(USER, self._password)

    async def start(self) -> None:
        """Start it, again on the same files after a stop; it serves then."""
        command = [program("influxd", "influxdb"), "-config", str(self._config)]
        self._child = Child(f"influxd {self.name}", command, self._log)
        await self._child.until(self._answers, _START)

    async def _answers(self) -> bool:
        try:
            async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(f"{self.url}/ping") as answer:
                return answer.status == 204
        except aiohttp.ClientError:
            return False

    async def prepare(self) -> None:
        """Create the administrator, if there is to be one, and the database."""
        if self._password:
            await self.query(f"CREATE USER {USER} WITH PASSWORD '{self._password}' WITH ALL PRIVILEGES")
        await self.query(f"CREATE DATABASE {DATABASE}")

    async def stop(self) -> None:
        """End it in order."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    async def kill(self) -> None:
        """kill -9; what it had confirmed is in its log on disk."""
        child, self._child = self._child, None
        assert child is not None
        child.signal(signal.SIGKILL)
        await child.ended(10)

    async def freeze(self) -> None:
        """Stop it where it is: its connections stay open and get no answer until `thaw`."""
        assert self._child is not None
        self._child.signal(signal.SIGSTOP)
        while not _is_stopped(self._child.pid):
            await asyncio.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._child is not None
        self._child.signal(signal.SIGCONT)

    async def query(self, text: str, database: str = DATABASE) -> list[dict[str, Any]]:
        """The series that a query gives; raises InfluxError."""
        words = {"q": text, "db": database, "epoch": "ns"}
        headers = {"Authorization": self.authorization} if self._password else {}
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session,
            session.post(f"{self.url}/query", params=words) as answer,
        ):
            said = await answer.json()
        (result,) = said.get("results") or [said]
        if "error" in result:
            raise InfluxError(result["error"])
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    async def points(self, database: str = DATABASE) -> Points:
        """Everything that is in a database."""
        found: Points = {}
        for series in await self.query("SELECT * FROM /.*/ GROUP BY *", database):
            tags = tuple(sorted((name, value) for name, value in series.get("tags", {}).items() if value))
            rows = found.setdefault((series["name"], tags), {})
            names = series["columns"][1:]
            for at, *values in series["values"]:
                rows[at] = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        return found


def _is_stopped(pid: int) -> bool:
    """Whether all its threads are: a signal takes its time to reach them."""
    return all(map(_is_thread_stopped, Path(f"/proc/{pid}/task").glob("*/stat")))


def _is_thread_stopped(stat: Path) -> bool:
    """By the state that follows its name; one that has ended runs no more either."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return True
