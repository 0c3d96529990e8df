"""The conversation with any server that sends JSON messages: said first, filtered, named, acknowledged by settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import orjson

from config.placeholders import names_of
from config.sources import WebSocketSource
from proxy.core.pointer import Places
from proxy.core.template import JsonTemplate, Unfit, Values
from proxy.http.values import as_text, is_safe_id, resolve
from proxy.sources.event import SourceEvent
from proxy.sources.pieces import entries

_LONGEST_ACKNOWLEDGEMENT: Final = 2**20
"""Bytes."""


class PlainServer:
    """A `Conversation`. count: of things by name."""

    def __init__(self, settings: WebSocketSource, count: Callable[[str], None]) -> None:
        self._settings = settings
        self._count = count
        self._acknowledge = None if settings.acknowledge is None else JsonTemplate(settings.acknowledge, "reject")
        self._places = Places(() if self._acknowledge is None else self._acknowledge.pointers)
        self.outbox = [*settings.hello]
        self.is_ready = True
        self.trouble = ""
        self._names_id = "id" in names_of(settings.acknowledge)

    def ping(self) -> bool:
        """With a Ping of the protocol: what else it would answer is not known."""
        return False

    def wake(self) -> None:
        """Nothing is waited for."""

    def take(self, message: str | bytes) -> Iterator[SourceEvent]:
        """The events of a message, or of each of a list, made as they are asked for."""
        for body in entries(message if isinstance(message, bytes) else message.encode()):
            yield from self._event(bytes(body))

    def _event(self, body: bytes) -> list[SourceEvent]:
        settings, only = self._settings, self._settings.only
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict):
            self._count("unreadable")
            return []
        if only is not None and as_text(resolve(said, only.pointer)) != only.equals:
            self._count("unknown")
            return []
        event_id = as_text(resolve(said, settings.id)) or "" if settings.id is not None else ""
        if settings.id is not None and not is_safe_id(event_id):
            self._count("without_id")
            event_id = ""
        if self._names_id and not event_id:
            self._count("unacknowledgeable")  # our own id would tell it nothing
            return [SourceEvent(event_id, body)]
        return [SourceEvent(event_id, body, acknowledgement=self._acknowledgement(event_id, body))]

    def _acknowledgement(self, event_id: str, body: bytes) -> str:
        if self._acknowledge is None:
            return ""
        made = self._acknowledge.render(Values(event_id, "", body, self._places), _LONGEST_ACKNOWLEDGEMENT)
        if isinstance(made, Unfit):
            self._count("unacknowledgeable")
            return ""
        return made.decode()
