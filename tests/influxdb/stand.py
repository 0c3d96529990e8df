"""The example configuration in front of two InfluxDBs, and what must hold between them at the end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml

import config
from deploy.influxdb import DATABASE, InfluxDB
from proxy.demo.admin import Admin, SideLedger
from proxy.demo.children import free_port
from proxy.demo.instance import Instance
from tests.harness.ledger import Receipt
from tests.harness.scene import ANSWERS_NEVER_REVERT, settled

EXAMPLE = Path(config.__file__).parent / "examples" / "influxdb.yaml"
SALT = "a salt for these tests"


class Said(NamedTuple):
    """An answer. error: InfluxDB's own word of what was wrong, or empty."""

    status: int
    error: str
    body: bytes


class Stand:
    """Everything that runs, seen from a test."""

    def __init__(self, directory: Path, old: InfluxDB, new: InfluxDB, instance: Instance) -> None:
        self.directory = directory
        self.old = old
        self.new = new
        self.instance = instance
        self.url = f"http://127.0.0.1:{instance.address.port}"
        self._session: aiohttp.ClientSession | None = None

    @property
    def admin(self) -> Admin:
        """The daemon's admin API."""
        return self.instance.admin

    async def start(self) -> None:
        """Both InfluxDBs with a database, then the daemon."""
        await asyncio.gather(self.old.start(), self.new.start())
        await asyncio.gather(self.old.prepare(), self.new.prepare(), self.instance.start())
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))

    async def post(self, data: Any, path: str = f"/write?db={DATABASE}&precision=ns", **headers: str) -> Said:
        """A write by the proxy. data: bytes, or pieces that are sent in chunks; headers: `_` stands for `-`."""
        assert self._session is not None
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.post(f"{self.url}{path}", data=data, headers=named) as answer:
            return Said(answer.status, answer.headers.get("X-Influxdb-Error", ""), await answer.read())

    async def get(self, path: str) -> bytes:
        """What the proxy answers to a GET."""
        assert self._session is not None
        async with self._session.get(f"{self.url}{path}") as answer:
            return await answer.read()

    async def settled(self, least: int = 0) -> list[Receipt]:
        """Wait until nothing is pending; the receipts, with which the ledger's sums agree."""
        return (await settled(self.admin, least))[1]

    async def status_when(self, is_so: Callable[[dict[str, Any]], bool], within: float = 15) -> dict[str, Any]:
        """The whole status as soon as something shows in it; processes tell of themselves four times a second. within:
        seconds.
        """
        async with asyncio.timeout(within):
            while not is_so(found := await self.admin.ask("GET", "/api/v1/status")):
                await asyncio.sleep(0.05)
        return dict(found)

    async def balance(self) -> dict[str, SideLedger]:
        """The sums of the route, by side."""
        status = await self.admin.status()
        assert status.ledger.balanced
        return {name: side.ledger for name, side in status.routes[0].sides.items()}

    async def close(self) -> None:
        """Stop everything."""
        if self._session is not None:
            await self._session.close()
        try:
            await self.instance.stop()
        finally:
            await self.old.stop()
            await self.new.stop()


def configuration(old: InfluxDB, new: InfluxDB, backend: dict[str, Any], route: dict[str, Any]) -> dict[str, Any]:
    """The example with addresses and clocks of these tests. backend: more of each one under its name."""
    document: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    document |= {
        "listen": [f"127.0.0.1:{free_port()}"],
        "state_dir": "state",
        "salt": SALT,
        "ledger": {"retry_initial": "50ms", "retry_max": "500ms"},
        "admin": {"tcp": "off"},
        "log": {"format": "text"},
    }
    for name, influx in (("old", old), ("new", new)):
        quick = {"health": {"path": "/ping", "interval": "250ms"}, "breaker": {"failures": 5, "reset": "500ms"}}
        document["backends"][name] |= {"url": influx.url} | quick | backend.get(name, {})
    document["routes"][0] |= {"trigger": ANSWERS_NEVER_REVERT} | route
    return document


def check_of(old: InfluxDB, new: InfluxDB, **check: Any) -> dict[str, Any]:
    """A check of both databases. check: more keys of it."""
    stores = {"old": old, "new": new}.items()
    sides = {side: {"influxdb1": {"url": influx.url, "database": DATABASE}} for side, influx in stores}
    return {"routes": ["points"], "identity": "none"} | sides | check


def with_check(opened: Stand, **check: Any) -> Path:
    """A configuration beside the instance's, with a check of both databases."""
    document = yaml.safe_load(opened.instance.config_path.read_text())
    document["consistency"] = [check_of(opened.old, opened.new, **check)]
    path = opened.directory / "verify.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@asynccontextmanager
async def stand(
    *,
    backend: dict[str, Any] | None = None,
    passwords: tuple[str, str] = ("", ""),
    live: dict[str, Any] | None = None,
    **route: Any,
) -> AsyncIterator[Stand]:
    """A running stand. route: keys of the example's first route; passwords: of old and new, whom all may enter without;
    live: keys of a check that goes on all the time, none without.

    With passwords the daemon adds each side's credential, unless `backend` says otherwise.
    """
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    old, new = (InfluxDB(name, directory, password) for name, password in zip(("old", "new"), passwords, strict=True))
    more = dict(backend or {})
    for influx, password in ((old, passwords[0]), (new, passwords[1])):
        if password:
            more[influx.name] = {"authorization": influx.authorization} | more.get(influx.name, {})
    document = configuration(old, new, more, route)
    if live is not None:
        document["consistency"] = [check_of(old, new, **live)]
    opened = Stand(directory, old, new, Instance(directory, document))
    try:
        await opened.start()
        yield opened
    except BaseException:
        print(opened.instance.log.read_text(errors="replace")[-20_000:] if opened.instance.log.exists() else "no log")
        raise
    finally:
        await opened.close()
        shutil.rmtree(directory)
