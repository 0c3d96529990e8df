"""The addresses behind a backend's urls, looked up again and again; a failed lookup keeps the last answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from config.units import BackendUrl, parse_backend_url
from proxy.net.lookup import Address, Answer, Lookup, LookupFailed

log = logging.getLogger(__name__)

_LEAST: Final = 1.0
"""Seconds between two lookups of a name whose records live for less."""


class Names:
    """One backend's names. interval: longest time in seconds between two lookups.

    changed: called with all addresses when they are others than before. `check` has to be called now and then;
    a lookup runs beside, one at a time.
    """

    def __init__(
        self,
        backend: str,
        urls: Sequence[str],
        lookup: Lookup,
        interval: float,
        changed: Callable[[tuple[Address, ...]], None],
    ) -> None:
        self._backend = backend
        self._urls = [parse_backend_url(url) for url in urls]
        self._lookup = lookup
        self._interval = interval
        self._changed = changed
        self._answers: dict[BackendUrl, tuple[Address, ...]] = {}
        self._due: dict[BackendUrl, float] = dict.fromkeys(self._urls, 0.0)
        self._task: asyncio.Task[None] | None = None
        self.addresses: tuple[Address, ...] = ()
        self.trouble = ""
        """Why the last lookup failed, empty when none did."""
        self.failures = 0
        """Lookups that failed, ever."""
        self._is_fixed = all(url.is_literal for url in self._urls)

    @property
    def is_known(self) -> bool:
        """Whether every url was looked up once, well or not."""
        return all(self._due.values())

    def check(self, now: float) -> None:
        """Begin to look up what is due."""
        if self._task is None and any(due <= now for due in self._due.values()):
            self._task = asyncio.get_running_loop().create_task(self._look_up(now))

    async def _look_up(self, now: float) -> None:
        try:
            due = [url for url, at in self._due.items() if at <= now]
            found = await asyncio.gather(*(self._ask(url) for url in due))
            for url, answer in zip(due, found, strict=True):
                self._take(url, answer)
            if not any(isinstance(answer, LookupFailed) for answer in found):
                self.trouble = ""
            self._tell()
        finally:
            self._task = None

    async def _ask(self, url: BackendUrl) -> Answer | LookupFailed:
        try:
            return await self._lookup.find(url)
        except LookupFailed as error:
            return error

    def _take(self, url: BackendUrl, answer: Answer | LookupFailed) -> None:
        now = monotonic()
        if isinstance(answer, LookupFailed):
            self.failures += 1
            self._due[url] = now + self._interval
            if str(answer) != self.trouble:
                self.trouble = str(answer)
                kept = ", ".join(each.text for each in self._answers.get(url, ())) or "nothing"
                log.warning("%s: cannot look up its address: %s; going on with %s", self._backend, self.trouble, kept)
            return
        self._answers[url] = answer.addresses
        live = self._interval if answer.ttl is None else max(answer.ttl, _LEAST)
        self._due[url] = float("inf") if url.is_literal else now + min(live, self._interval)

    def _tell(self) -> None:
        """Tell of all addresses if they are others; also once when there is none at all, for who waits for some."""
        addresses = tuple(dict.fromkeys(each for url in self._urls for each in self._answers.get(url, ())))
        if addresses == () or set(addresses) != set(self.addresses):
            self.addresses = addresses
            if not self._is_fixed and addresses:
                log.info("%s has new addresses", self._backend, extra={"addresses": [each.text for each in addresses]})
            self._changed(addresses)

    def close(self) -> None:
        """Look up nothing more."""
        if self._task is not None:
            self._task.cancel()
