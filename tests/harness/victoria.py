"""VictoriaMetrics from its Debian package: it takes what influxdb-client writes, and says what it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import aiohttp

from deploy.packages import program
from proxy.demo.children import Child, free_port

_START: Final = 20.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)


class VictoriaMetrics:
    """One server on files of its own. It keeps numbers and milliseconds, and has no Flux."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._child: Child | None = None

    async def start(self) -> None:
        """It serves then."""
        command = [
            program("victoria-metrics", "victoria-metrics"),
            f"-storageDataPath={self._directory / 'victoria'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=100y",
            "-memory.allowedBytes=128MB",
            "-search.latencyOffset=0s",
            "-loggerLevel=ERROR",
        ]
        self._child = Child("victoria-metrics", command, self._directory / "victoria.log")
        await self._child.until(self._answers, _START)

    async def _answers(self) -> bool:
        try:
            async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(f"{self.url}/health") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self) -> None:
        """End it in order."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    async def samples(self) -> dict[tuple[tuple[str, str], ...], list[tuple[int, float]]]:
        """Times (milliseconds) and values by labels; `__name__` is measurement_field."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            # What was written a moment ago is searched only after it was flushed.
            async with session.get(f"{self.url}/internal/force_flush") as answer:
                assert answer.status == 200
            words = {"match[]": '{__name__!=""}'}
            async with session.post(f"{self.url}/api/v1/export", data=words) as answer:
                lines: list[dict[str, Any]] = [json.loads(line) for line in (await answer.text()).splitlines()]
        return {
            tuple(sorted(line["metric"].items())): list(zip(line["timestamps"], line["values"], strict=True))
            for line in lines
        }
