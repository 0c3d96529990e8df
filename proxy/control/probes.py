"""Active health: asks each endpoint of each backend that has `health:`, and its dependencies, again and again.

An endpoint changes its standing only after several answers in a row (`healthy`, `unhealthy`); before the
first verdict it has none, and nobody is told anything about it. A backend is healthy while one endpoint is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import aiohttp

from config.model import Backend, Health, Settings
from config.units import parse_address
from proxy.net.client_tls import ClientTls
from proxy.net.live_context import reason
from proxy.net.lookup import Address, Lookup
from proxy.net.names import Names

log = logging.getLogger(__name__)

DEPENDENCY_EVERY: Final = 5.0
DEPENDENCY_TIMEOUT: Final = 2.0
"""Seconds, for dependencies of a backend without `health:`."""
_PATIENCE: Final = Health(path="/")
"""For the same: how many answers in a row change a standing."""
_FIRST_LOOKUP: Final = 0.05
"""Seconds between two looks whether a backend's names are known."""


class Finding:
    """One look: ok or not, and what was seen."""

    __slots__ = ("detail", "ok")

    def __init__(self, ok: bool, detail: str) -> None:
        self.ok = ok
        self.detail = detail


class ProbeTrouble(NamedTuple):
    """Why an endpoint is not well. detail: of its last failure; failures: so many in a row; lasts: seconds since the
    first of them began.
    """

    detail: str
    failures: int
    lasts: float


class Standing:
    """Healthy or not, with patience. is_healthy: None before the first verdict."""

    def __init__(self, healthy: int, unhealthy: int) -> None:
        self._needed = {True: healthy, False: unhealthy}
        self._last: bool | None = None
        self._row = 0
        self._detail = ""
        self._since = 0.0
        """When the first of the row began."""
        self.is_healthy: bool | None = None

    def take(self, ok: bool, detail: str = "", begun: float = 0.0) -> bool:
        """Take one finding, of a probe that began then (monotonic seconds); true when the verdict changed."""
        if ok != self._last:
            self._row, self._since = 0, begun
        self._row += 1
        self._last, self._detail = ok, detail
        if ok == self.is_healthy or self._row < self._needed[ok]:
            return False
        self.is_healthy = ok
        return True

    def trouble(self, now: float) -> ProbeTrouble | None:
        """Why the last ones failed; None where the very last did not."""
        return ProbeTrouble(self._detail, self._row, now - self._since) if self._last is False else None


@dataclass
class Dependency:
    """A named service behind a backend. standing: with the patience of the backend's own probe; healthy: by the last
    look alone, None before the first.
    """

    backend: str
    name: str
    address: str
    standing: Standing
    healthy: bool | None = None
    detail: str = "not asked yet"


class Probes:
    """All probes of an instance. on_change gets backends and endpoints with their verdicts when one changes."""

    def __init__(
        self, settings: Settings, on_change: Callable[[dict[str, bool], dict[str, dict[str, bool]]], None]
    ) -> None:
        self._lookup = Lookup(settings.resolver)
        self._backends = settings.backends
        # Only where it is needed: the authorities of the system take a tenth of a second to read.
        self._tls = {name: ClientTls(name, each.tls) for name, each in settings.backends.items() if _needs_tls(each)}
        self._on_change = on_change
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self.standings: dict[str, dict[str, Standing]] = {
            name: {} for name, backend in settings.backends.items() if backend.health is not None
        }
        """By backend, then by the address of its endpoint."""
        self.answers: dict[str, bool] = {}
        """By backend, whether one of its endpoints was well when they were asked last, without any patience."""
        self.failures: Counter[str] = Counter()
        """By backend, how often none of them was."""
        self.dependencies = [
            Dependency(backend, name, address, _standing(each.health or _PATIENCE))
            for backend, each in settings.backends.items()
            for name, address in each.dependencies.items()
        ]

    @property
    def healthy(self) -> dict[str, bool]:
        """Backends with a verdict: healthy while one endpoint is, unhealthy when none is."""
        verdicts = {name: [each.is_healthy for each in found.values()] for name, found in self.standings.items()}
        return {name: True in seen for name, seen in verdicts.items() if True in seen or (seen and None not in seen)}

    @property
    def endpoints(self) -> dict[str, dict[str, bool]]:
        """The verdicts of each backend's endpoints, by address."""
        return {
            name: {address: each.is_healthy for address, each in found.items() if each.is_healthy is not None}
            for name, found in self.standings.items()
        }

    def trouble(self, name: str, now: float) -> ProbeTrouble | None:
        """Of a backend's endpoints, what the one that fails for the shortest time has: with it the backend was down.

        None where one of them was well when it was asked last.
        """
        found = [each.trouble(now) for each in self.standings.get(name, {}).values()]
        troubles = [each for each in found if each is not None]
        return min(troubles, key=lambda each: each.lasts) if troubles and len(troubles) == len(found) else None

    async def start(self) -> list[asyncio.Task[None]]:
        """Begin to probe; the tasks, none of which ever ends by itself."""
        # A fresh connection each time: a backend that no longer accepts any is down, whatever an old one says.
        # Names by the system's own means: aiohttp prefers aiodns where it is installed, which knows DNS alone.
        connector = aiohttp.TCPConnector(force_close=True, limit=0, resolver=aiohttp.ThreadedResolver())
        self._session = aiohttp.ClientSession(connector=connector)
        for name, backend in self._backends.items():
            if backend.health is not None:
                self._tasks.append(asyncio.create_task(self._watch(name, backend, backend.health)))
        self._tasks.extend(asyncio.create_task(self._follow(each)) for each in self.dependencies)
        return self._tasks

    async def close(self) -> None:
        """Stop probing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        await self._lookup.close()

    async def _watch(self, name: str, backend: Backend, health: Health) -> None:
        names = Names(name, backend.url, self._lookup, backend.resolve_interval, lambda _: None)
        try:
            while True:
                names.check(time.monotonic())
                self._look_again(name)
                before = self.healthy.get(name)
                addresses, begun = names.addresses, time.monotonic()
                findings = await asyncio.gather(
                    *(self._ask_endpoint(name, backend, health, each) for each in addresses)
                )
                if findings:
                    self.answered(name, any(finding.ok for finding in findings))
                found = {address.text: finding for address, finding in zip(addresses, findings, strict=True)}
                if self._take(name, health, found, begun):
                    self._tell(name, before)
                # The first lookup is not waited for as long as a probe: until it is over nothing can be asked.
                await asyncio.sleep(health.interval if names.is_known else min(health.interval, _FIRST_LOOKUP))
        finally:
            names.close()

    def answered(self, name: str, is_well: bool) -> None:
        """A backend was asked: one of its endpoints was well, or none."""
        self.answers[name] = is_well
        self.failures[name] += not is_well

    def patience(self, name: str) -> int:
        """How many failures in a row make an endpoint of this backend unhealthy."""
        health = self._backends[name].health
        return 1 if health is None else health.unhealthy

    def _tell(self, name: str, before: bool | None) -> None:
        after = self.healthy.get(name)
        if after is not None and after != before:
            log.log(logging.INFO if after else logging.WARNING, "%s is %s", name, "healthy" if after else "unhealthy")
        self._on_change(self.healthy, self.endpoints)

    def _look_again(self, backend: str) -> None:
        if backend in self._tls:
            self._tls[backend].live.look()

    async def _ask_endpoint(self, name: str, backend: Backend, health: Health, address: Address) -> Finding:
        host = "" if address.name == address.host else address.name
        if not backend.is_tls:
            return await self.ask(f"http://{address.text}{health.path}", health.timeout, host=host)
        server_name = backend.tls.server_name or address.name
        return await self.ask(
            f"https://{address.text}{health.path}", health.timeout, self._tls[name], server_name, host
        )

    def _take(self, name: str, health: Health, findings: dict[str, Finding], begun: float) -> bool:
        """Take what was found at each address; true when a verdict changed or an address is gone. begun: when they were
        asked, monotonic seconds.
        """
        standings = self.standings[name]
        has_changed = False
        for address in standings.keys() - findings.keys():
            has_changed |= standings.pop(address).is_healthy is not None
        for address, finding in findings.items():
            standing = standings.setdefault(address, _standing(health))
            if standing.take(finding.ok, finding.detail, begun):
                has_changed = True
                level = logging.INFO if finding.ok else logging.WARNING
                said = "healthy" if finding.ok else "unhealthy"
                log.log(level, "%s at %s is %s: %s", name, address, said, finding.detail)
        return has_changed

    async def _follow(self, dependency: Dependency) -> None:
        health = self._backends[dependency.backend].health
        every, timeout = (health.interval, health.timeout) if health else (DEPENDENCY_EVERY, DEPENDENCY_TIMEOUT)
        while True:
            self._look_again(dependency.backend)
            begun = time.monotonic()
            finding = await self.ask(dependency.address, timeout, self._tls.get(dependency.backend))
            dependency.standing.take(finding.ok, finding.detail, begun)
            if finding.ok != dependency.healthy:
                level = logging.INFO if finding.ok else logging.WARNING
                log.log(level, "%s of %s: %s", dependency.name, dependency.backend, finding.detail)
            dependency.healthy, dependency.detail = finding.ok, finding.detail
            await asyncio.sleep(every)

    async def ask(
        self,
        address: str,
        timeout: float,
        tls: ClientTls | None = None,
        server_name: str | None = None,
        host: str = "",
    ) -> Finding:
        """One look at `http(s)://...` (any 2xx or 3xx is well) or `tcp://host:port` (a connection is). Never raises.

        tls: for https; server_name: the name to ask for and check, where it is not the address's host; host: the Host.
        """
        begun = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                ok, seen = await self._look(address, tls, server_name, host)
        except TimeoutError:
            return Finding(False, f"no answer within {timeout:g} s")
        except aiohttp.ClientConnectorError as error:
            return Finding(False, reason(error.os_error))
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return Finding(False, str(error) or type(error).__name__)
        return Finding(ok, f"{seen} after {(time.monotonic() - begun) * 1000:.0f} ms")

    async def _look(self, address: str, tls: ClientTls | None, server_name: str | None, host: str) -> tuple[bool, str]:
        if address.startswith("tcp://"):
            host, port = parse_address(address.removeprefix("tcp://"))
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True, "connected"
        assert self._session is not None
        context = tls.live.context if tls is not None else True
        headers = {"Host": host} if host else None
        asking = self._session.get(
            address, allow_redirects=False, ssl=context, server_hostname=server_name, headers=headers
        )
        async with asking as answer:
            return 200 <= answer.status < 400, f"status {answer.status}"


def _standing(health: Health) -> Standing:
    return Standing(health.healthy, health.unhealthy)


def _needs_tls(backend: Backend) -> bool:
    return backend.is_tls or any(address.lower().startswith("https:") for address in backend.dependencies.values())
