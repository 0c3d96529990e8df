"""InfluxDB 1.x for the suite of stores: a database of its own for each stand, in a server that they share."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import aiohttp

from config.stores import InfluxDB1Store as Settings
from consistency.rows import Row
from consistency.stores.errors import StoreChanged, StoreDenied, StoreMissing, StoreUnreachable
from consistency.stores.influxdb1 import InfluxDB1Store
from consistency.stores.points import line_of, series_text
from consistency.stores.protocol import Traits
from deploy.influxdb import InfluxDB
from tests.consistency.stores.stand import VALUES, Damage

USER: Final = "checker"
PASSWORD: Final = "of the checker, it's"
_numbers = itertools.count()


class InfluxStand:
    """See `stand.Stand`. has_user: the server lets users in alone, and the store is one of them."""

    # JSON of InfluxDB has -0 for -0.0, and what is read is an integer that becomes 0.0.
    values: Sequence[tuple[str, Any]] = (*(each for each in VALUES if repr(each[1]) != "-0.0"), ("note", ""))
    damages: ClassVar[Mapping[str, Damage]] = {}
    """DAMAGES, of a server with users DAMAGES_WITH_USERS; its test classes name them."""

    def __init__(self, server: InfluxDB, precision: str = "ns", *, has_user: bool = False) -> None:
        self.server = server
        self.database = f"db {next(_numbers)}"
        self.traits = Traits(True, {"ns": 1, "s": 10**9}[precision], "points", True)
        self.secrets: tuple[str, ...] = ()
        self._settings: dict[str, Any] = {"url": server.url, "database": self.database, "precision": precision}
        if has_user:
            self.secrets = (PASSWORD, aiohttp.encode_basic_auth(USER, PASSWORD).removeprefix("Basic "))
            self._settings |= {"username": USER, "password": PASSWORD}
        self._headers = {"Authorization": server.authorization} if has_user else {}
        self._stores: list[InfluxDB1Store] = []
        self._filled: list[Row] = []

    def identity(self, name: str) -> str:
        # Line protocol has no way to write a tag that ends with a backslash.
        return series_text("event", {"name": f"{name}.", "of": "stand"})

    async def fill(self, rows: Sequence[Row]) -> None:
        self._filled += rows
        await self.write(b"\n".join(line_of(row) for row in rows))

    async def write(self, lines: bytes, policy: str = "") -> None:
        words = {"db": self.database, "precision": "ns"} | ({"rp": policy} if policy else {})
        async with (
            aiohttp.ClientSession(headers=self._headers) as session,
            session.post(f"{self.server.url}/write", params=words, data=io.BytesIO(lines)) as answer,
        ):
            assert answer.status == 204, await answer.text()

    def store(self, timeout: float = 10.0, **changes: Any) -> InfluxDB1Store:
        settings = Settings.model_validate({"timeout": f"{timeout:g}s"} | self._settings | changes)
        store = InfluxDB1Store("old", settings)
        self._stores.append(store)
        return store

    async def query(self, text: str) -> list[dict[str, Any]]:
        return await self.server.query(text, self.database)

    async def create(self) -> None:
        await self.query(f'CREATE DATABASE "{self.database}"')
        if self.secrets:
            await self.grant()

    async def drop(self) -> None:
        await self.query(f'DROP DATABASE "{self.database}"')

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    # damages and how they are mended

    async def stop(self) -> None:
        await self.server.stop()

    async def start(self) -> None:
        await self.server.start()

    async def freeze(self) -> None:
        await self.server.freeze()

    async def thaw(self) -> None:
        self.server.thaw()

    async def fill_again(self) -> None:
        await self.create()
        await self.write(b"\n".join(line_of(row) for row in self._filled))

    async def grant(self) -> None:
        await self.query(f'GRANT READ ON "{self.database}" TO {USER}')

    async def revoke(self) -> None:
        await self.query(f'REVOKE READ ON "{self.database}" FROM {USER}')

    async def change_password(self) -> None:
        await self.query(f"SET PASSWORD FOR {USER} = 'another one'")

    async def set_password(self) -> None:
        await self.query(f"SET PASSWORD FOR {USER} = '{PASSWORD.replace(chr(39), chr(92) + chr(39))}'")

    async def confuse(self) -> None:
        """Another type in another shard, which InfluxDB takes."""
        await self.write(b'event,name=other whole="many" 5')

    async def drop_confusion(self) -> None:
        (found,) = [each for each in await self.query("SHOW SHARDS") if each["name"] == self.database]
        await self.query(f"DROP SHARD {min(found['values'], key=lambda shard: shard[4])[0]}")


_SEEN: Final = ("open", "rows", "fetch", "fingerprints")

DAMAGES: Final = {
    "stopped": Damage(StoreUnreachable, ("no connection",), InfluxStand.stop, InfluxStand.start, _SEEN),
    "frozen": Damage(StoreUnreachable, ("no answer within 0.3 s",), InfluxStand.freeze, InfluxStand.thaw, _SEEN, 0.3),
    "dropped": Damage(StoreMissing, ("database not found",), InfluxStand.drop, InfluxStand.fill_again, _SEEN),
    "two types": Damage(
        StoreChanged, ("'whole'", "'event'", "integer"), InfluxStand.confuse, InfluxStand.drop_confusion, _SEEN
    ),
}
DAMAGES_WITH_USERS: Final = {
    "unknown": Damage(
        StoreDenied,
        ("authorization failed", "credential"),
        InfluxStand.change_password,
        InfluxStand.set_password,
        _SEEN,
    ),
    "not allowed": Damage(StoreDenied, ("not authorized",), InfluxStand.revoke, InfluxStand.grant, _SEEN),
}
