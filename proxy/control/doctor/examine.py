"""Asks everybody, at the same time, and puts together what they found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from config.model import ListenTls, Settings
from config.secret_files import unreadable
from proxy.control.doctor import backends, clocks, disk, host, record, running, stores
from proxy.control.doctor.finding import AREAS, BACKENDS, DISK, INSTANCE, RECORD, STORES, Finding, fail, judged, ok
from proxy.control.inherit import places_of
from proxy.control.instance import Instance
from proxy.control.threads import begin
from proxy.core.errors import RefuseToStart
from proxy.net.server_tls import Described, ServerTls

PATIENCE: Final = 15.0
"""Seconds for each look at a running instance, whose API is waited for no longer than 20."""
ALONE: Final = 60.0
"""The same without one: the machine may be busy, and only a person waits."""
_EXPIRES: Final = 14 * 86400.0
Look = Callable[[], Awaitable[list[Finding]]]


class Examination:
    """Of one configuration, and of the instance that runs by it, if one does."""

    def __init__(self, settings: Settings, config: Path, instance: Instance | None = None) -> None:
        self._settings = settings
        self._config = config
        self._instance = instance
        self._places = places_of(settings)
        self._patience = ALONE if instance is None else PATIENCE

    async def run(self) -> list[Finding]:
        """All findings, in the order of the areas."""
        looks: dict[str, Look] = {
            RECORD: self._record,
            DISK: self._disk,
            BACKENDS: self._backends,
        }
        if self._settings.consistency:
            looks[STORES] = lambda: stores.look(self._config, self._patience * 0.8)
        if self._instance is not None:
            looks[INSTANCE] = self._running
        found = await asyncio.gather(*(_within(area, look, self._patience) for area, look in looks.items()))
        whole = [clocks.ntp(clocks.kernel_time()), *self._host(), *self._listeners(), *self._secrets()]
        whole += [finding for part in found for finding in part]
        return sorted(whole, key=lambda each: AREAS.index(each.area))

    def _host(self) -> list[Finding]:
        found = [
            host.open_files(self._settings, host.limit_of_open_files()),
            *host.limits(self._settings, host.kernel()),
        ]
        if self._instance is not None:
            found += host.in_use(running.processes(self._instance))
        return found

    async def _disk(self) -> list[Finding]:
        return await _in_thread("doctor: disk", lambda: disk.look(self._settings, self._places.root))

    async def _record(self) -> list[Finding]:
        found = await _in_thread("doctor: ledger", lambda: record.files(self._settings, self._places))
        if self._instance is not None:
            return [*record.process(self._instance.tally.ledger), *found]
        if record.is_running(self._places):
            found.append(ok(RECORD, "instance", "one runs here: proxyctl doctor without a file asks that one, too"))
        return found

    async def _backends(self) -> list[Finding]:
        seen = await backends.look(self._settings)
        return [*clocks.beside_backends(seen.dates), *seen.findings]

    async def _running(self) -> list[Finding]:
        instance = self._instance
        assert instance is not None
        wall, monotonic = instance.began
        return [clocks.stepped(time.time() - wall, time.monotonic() - monotonic), *running.look(instance)]

    def _secrets(self) -> list[Finding]:
        """Files of secrets, which receivers, gates, stores and sources read only when they are needed."""
        advice = "put it there, or let the user of the instance read it"
        return [
            fail(INSTANCE, f"secret of {'.'.join(map(str, loc))}", why, advice)
            for loc, why in unreadable(self._settings)
        ]

    def _listeners(self) -> list[Finding]:
        """Certificates that clients are shown."""
        return [
            found
            for listen in self._settings.listen
            if listen.tls is not None
            for found in _certificates(listen.address, listen.tls)
        ]


def _certificates(address: str, settings: ListenTls) -> list[Finding]:
    name = f"certificate of {address}"
    try:
        tls = ServerTls(settings, address)
    except RefuseToStart as refusal:
        return [fail(INSTANCE, name, str(refusal), "mend its files: no instance starts with them")]
    return [_certificate(name, each) for each in tls.certificates]


def _certificate(name: str, described: Described) -> Finding:
    left = described.expires_at - time.time()
    seen = f"{', '.join(described.names)}: expires in {left / 86400:.0f} days" if left > 0 else "has expired"
    return judged(INSTANCE, name, -left, (-_EXPIRES, 0.0), seen, f"renew {described.file}: clients refuse to connect")


_under_way: dict[str, Future[list[Finding]]] = {}
"""Looks at what may hang, one of each kind at most: a dead disk keeps one thread, however often it is looked at."""


async def _in_thread(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What a look finds that blocks, in a thread of its own; what still hangs is waited for, and not begun again."""
    looking = _under_way.get(name)
    if looking is None or looking.done():
        looking = _under_way[name] = begin(name, look)
    return await asyncio.wrap_future(looking)


async def _within(area: str, look: Look, patience: float) -> list[Finding]:
    """What a look finds, or that it took too long or broke off: the others say what they have found all the same."""
    try:
        async with asyncio.timeout(patience):
            return await look()
    except TimeoutError:
        return [fail(area, "looked at", f"no end within {patience:g} s", "something there hangs: look at it by hand")]
    except Exception as error:  # noqa: BLE001 - one broken look must not hide what the others found
        return [fail(area, "looked at", f"broke off: {error!r}", "report this")]
