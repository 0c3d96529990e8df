"""Checkpoints of a probe: what has to be seen of its event between sending and storing, in JSON or a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from config.probe import Checkpoint, filled
from consistency.shown import shown
from consistency.stores import pointers
from consistency.stores.errors import StoreError
from consistency.stores.http import HttpSession, read_secret


class Watch:
    """One checkpoint of one event. values: of its placeholders; timeout: seconds of one question."""

    def __init__(self, checkpoint: Checkpoint, values: Mapping[str, str], timeout: float) -> None:
        self.name = checkpoint.name
        self._checkpoint = checkpoint
        self._values = values
        self._url = filled(checkpoint.url, values)
        self._timeout = timeout
        self._session: HttpSession | None = None
        self._before: float | None = None
        self._unread = ""
        """Why nobody knows what a metric was before."""

    async def begin(self) -> None:
        """Before the event is sent."""
        if self._checkpoint.metric is not None:
            try:
                self._before = await self._sum()  # it may come to be with this event
            except StoreError as error:
                self._unread = _without_name(error, self.name)

    async def look(self) -> str:
        """Why it is not passed yet, or empty."""
        if self._unread:
            return f"what it was before is not known: {self._unread}"
        try:
            if self._checkpoint.metric is not None:
                return self._risen(await self._sum())
            return self._stands(await self._asked())
        except StoreError as error:
            return _without_name(error, self.name)

    async def close(self) -> None:
        """End its connection."""
        if self._session is not None:
            await self._session.close()

    def _risen(self, now: float | None) -> str:
        checkpoint = self._checkpoint
        if now is None:
            return f"there is no metric {checkpoint.metric}"
        before = self._before or 0.0
        return "" if now - before >= checkpoint.rises_by else f"{checkpoint.metric} was {before:g} and is {now:g}"

    def _stands(self, said: bytes) -> str:
        checkpoint = self._checkpoint
        assert checkpoint.pointer is not None
        try:
            value = pointers.resolve(orjson.loads(said), pointers.parse(checkpoint.pointer))
        except ValueError:
            return "what it says is not JSON"
        place = checkpoint.pointer or "the whole"
        if value is pointers.MISSING:
            return f"{place} is not there"
        wanted = checkpoint.equals
        if wanted is None:
            return "" if value is not None else f"{place} is null"
        wanted = filled(wanted, self._values) if isinstance(wanted, str) else wanted
        is_equal = value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
        return "" if is_equal else f"{place} is {shown(value)!r}, expected {wanted!r}"

    async def _sum(self) -> float | None:
        """Over all series of the metric that have its labels; None when there is none. Raises StoreError."""
        try:
            (wanted,) = _samples(f"{self._checkpoint.metric} 0\n")
            found = [
                each.value
                for each in _samples((await self._asked()).decode())
                if each.name == wanted.name and wanted.labels.items() <= each.labels.items()
            ]
        except ValueError as error:
            raise StoreError(self.name, f"no exposition of metrics: {error}") from None
        return sum(found) if found else None

    async def _asked(self) -> bytes:
        """Raises StoreError."""
        session = self._opened()
        answer = await session.ask("GET", self._url)
        if answer.status != 200:
            raise session.refusal(answer.status, answer.body)
        return answer.body

    def _opened(self) -> HttpSession:
        if self._session is None:
            checkpoint = self._checkpoint
            secret = read_secret(self.name, checkpoint.authorization, checkpoint.authorization_file)
            headers = checkpoint.headers | ({"Authorization": secret} if secret else {})
            self._session = HttpSession(self.name, self._timeout, headers, (secret,) if secret else ())
        return self._session


def _samples(text: str) -> list[Any]:
    """Raises ValueError."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def _without_name(error: StoreError, name: str) -> str:
    return str(error).removeprefix(f"store {name}: ")
