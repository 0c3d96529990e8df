"""What a backend with `deliver.websocket` gets of an event: a message of a session that is the ledger's own.

body, decoded --(wrap)--> Wrapped(kind, payload) | Unfit
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from config.deliver import WebSocketForm
from config.model import WebSocket
from config.units import parse_backend_url
from proxy.core.event import Event
from proxy.core.pointer import Places
from proxy.core.template import JsonTemplate, Unfit, Values
from proxy.http.rendering import read_body
from proxy.websocket.context import unpack_context
from proxy.websocket.frames import BINARY, TEXT
from proxy.websocket.replies import Replies


class Wrapped(NamedTuple):
    """A message. kind: TEXT or BINARY."""

    kind: int
    payload: bytes


class Wrapping:
    """One backend's, compiled. url: where the backend is, for the handshake's Host."""

    __slots__ = ("_places", "_template", "handshake", "replies", "settings")

    def __init__(self, form: WebSocketForm, url: str) -> None:
        self._template = JsonTemplate(form.wrap, form.missing) if form.wrap != "raw" else None
        self._places = Places(self._template.pointers if self._template is not None else ())
        self.settings = WebSocket(receipt=form.receipt, reply=form.reply)
        self.settings = self.settings.model_copy(update={"redeliver_window": form.redeliver_window})
        self.replies = Replies(form.reply) if form.reply is not None else None
        host = parse_backend_url(url).authority
        self.handshake = f"GET {form.path} HTTP/1.1\r\nHost: {host}\r\nVia: 1.1 crossfade\r\n".encode()

    def wrap(self, event: Event, max_decoded: int) -> Wrapped | Unfit:
        """The message for one event, or why there can be none. max_decoded: bytes, as for a `Rendering`."""
        body = read_body(event, event.context, max_decoded)
        if self._template is not None:
            made = self._template.render(Values(event.id, event.key, body or b"", self._places), max_decoded)
            return made if isinstance(made, Unfit) else Wrapped(TEXT, made)
        if body is None:
            return Unfit("its body cannot be decoded")
        return Wrapped(_kind_of(event, body), body)


def _kind_of(event: Event, body: bytes) -> int:
    """That of the message that came; of a request TEXT, if its body is text."""
    if event.transport == "websocket":
        try:
            return unpack_context(event.context)[1].kind
        except (ValueError, msgspec.DecodeError):
            pass
    try:
        body.decode()
    except UnicodeDecodeError:
        return BINARY
    return TEXT
