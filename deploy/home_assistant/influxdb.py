"""A database of an InfluxDB 1.x, or a bucket of a 2.x, as a backend writes to it: it has a point once that is said."""

from __future__ import annotations

from typing import Final

import aiohttp

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)


class NotStored(Exception):
    """The point is not there; status: what to answer with, 422 for a point that InfluxDB will never take."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Database:
    """One database. url: of its server; org: of an InfluxDB 2.x, whose bucket `name` is then; token: lets us in."""

    def __init__(self, url: str, name: str, org: str = "", token: str = "") -> None:
        self._url = url
        self._write = f"{url}/api/v2/write" if org else f"{url}/write"
        self._words = {"precision": "ns"} | ({"org": org, "bucket": name} if org else {"db": name})
        headers = {"Authorization": f"Token {token}"} if token else {}
        self._http = aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()

    async def write(self, line: bytes) -> None:
        """Write one point, with its time in nanoseconds. Raises NotStored."""
        try:
            async with self._http.post(self._write, params=self._words, data=line) as answer:
                if answer.status == 204:
                    return
                refused = answer.status == 400
                text = (await answer.text()).strip()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotStored(503, f"InfluxDB: {str(error) or type(error).__name__}") from None
        raise NotStored(422 if refused else 503, f"InfluxDB: {text}")

    async def is_there(self) -> bool:
        """Whether its server answers."""
        try:
            async with self._http.get(f"{self._url}/ping") as answer:
                return answer.status == 204
        except (aiohttp.ClientError, TimeoutError):
            return False
