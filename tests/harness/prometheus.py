"""Debian's Prometheus and Alertmanager, with the files of deploy/prometheus and addresses of their own."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from deploy.packages import program
from proxy.demo.children import Child, free_port

EXAMPLES: Final = Path(__file__).parents[2] / "deploy" / "prometheus"
_START: Final = 30.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_FASTER: Final = {"scrape_interval: 5s": "scrape_interval: 1s", "evaluation_interval: 5s": "evaluation_interval: 1s"}
"""A minute of rates is what a user waits for; between two looks at it nobody learns anything."""


def promtool(*words: str, text: str = "") -> tuple[int, str]:
    """Its exit code, and what it said. text: what it reads."""
    command = [program("promtool", "prometheus"), *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


class Watchers:
    """Both of them. admin: the instance's admin address, as HOST:PORT; token: of the role hook; prometheus: where that
    is to listen.
    """

    def __init__(self, directory: Path, admin: str, token: str, prometheus: str) -> None:
        self._directory = directory
        alertmanager = f"127.0.0.1:{free_port()}"
        self._listen = {"alertmanager": alertmanager, "prometheus": prometheus}
        self._children: list[Child] = []
        (directory / "crossfade.token").write_text(token)
        (directory / "rules.yml").write_text((EXAMPLES / "rules.yml").read_text())
        addresses = {"127.0.0.1:9900": admin, "127.0.0.1:9093": alertmanager}
        for name, changes in (("prometheus", addresses | _FASTER), ("alertmanager", {"127.0.0.1:9900": admin})):
            text = (EXAMPLES / f"{name}.yml").read_text()
            for before, after in changes.items():
                assert text.count(before) == 1, f"{name}.yml: {before}"
                text = text.replace(before, after)
            (directory / f"{name}.yml").write_text(text)

    async def start(self) -> None:
        """Start both; they are ready then."""
        alertmanager = ["--cluster.listen-address=", f"--storage.path={self._directory / 'alertmanager'}"]
        prometheus = [f"--storage.tsdb.path={self._directory / 'prometheus'}"]
        for name, package, options in (
            ("alertmanager", "prometheus-alertmanager", alertmanager),
            ("prometheus", "prometheus", prometheus),
        ):
            command = [
                program(package, package),
                f"--config.file={self._directory / name}.yml",
                f"--web.listen-address={self._listen[name]}",
                *options,
            ]
            child = Child(name, command, self._directory / f"{name}.log")
            self._children.append(child)
            await child.until(lambda name=name: self._is_ready(name), _START)  # type: ignore[misc]

    async def _is_ready(self, name: str) -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.get(f"http://{self._listen[name]}/-/ready") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self) -> None:
        """End them in order."""
        while self._children:
            await self._children.pop().stop()

    async def alerts(self) -> list[dict[str, Any]]:
        """What Prometheus has pending or firing."""
        found: list[dict[str, Any]] = (await self.ask("alerts"))["alerts"]
        return found

    async def ask(self, path: str, **parameters: str) -> Any:
        """What Prometheus answers below /api/v1/; fails with its own words for what is wrong with a query."""
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(f"http://{self._listen['prometheus']}/api/v1/{path}", params=parameters) as answer,
        ):
            said = await answer.json()
            assert said["status"] == "success", f"{parameters}: {said.get('error')}"
            return said["data"]

    async def until(self, is_so: Callable[[list[dict[str, Any]]], bool], seconds: float) -> None:
        """Wait for the alerts to be like that; fails with both logs."""
        deadline = time.monotonic() + seconds
        while not is_so(found := await self.alerts()):
            assert time.monotonic() < deadline, f"{found}\n{self.logs()}"
            await asyncio.sleep(0.2)

    def logs(self) -> str:
        """What both said last."""
        return "\n".join(f"{child.name}:\n{child.tail()}" for child in self._children)


@asynccontextmanager
async def watchers(directory: Path, admin: str, token: str, prometheus: str) -> AsyncIterator[Watchers]:
    """Both, running."""
    made = Watchers(directory, admin, token, prometheus)
    try:
        await made.start()
        yield made
    except BaseException:
        print(made.logs())
        raise
    finally:
        await made.stop()
