"""What a backend with `deliver.http` gets of an event: a request made by templates.

    context --(rewrite of the backend)--> lines --+
    body --decoded--> Values --templates----------+--> Rendered(method, context, body) | Unfit

Done at delivery, by workers and by the ledger alike, as a `Rewrite` is: the record keeps what the client sent. An
event that came by WebSocket has the handshake's lines, and after an empty one what is no header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from config.deliver import HttpForm
from proxy.core.batch import entry_of
from proxy.core.event import Event
from proxy.core.pointer import Places
from proxy.core.template import HeaderTemplate, JsonTemplate, PathTemplate, Unfit, Values
from proxy.http.coding import decoded
from proxy.http.rewrite import Rewrite

_END: Final = b"\r\n\r\n"
_CODING: Final = re.compile(rb"(?mi)^content-encoding:[ \t]*([^\r\n]*?)[ \t]*\r$")
_OF_HANDSHAKES: Final = ("Sec-WebSocket-Protocol",)
_OF_BODIES: Final = (
    "Content-Type",
    "Content-Encoding",
    "Content-Language",
    "Content-MD5",
    "Digest",
    "Content-Digest",
    "Repr-Digest",
)
"""They speak of the body that came, and mean nothing for another one."""
_KEPT_IN_BATCHES: Final = re.compile(rb"(?mi)^(?:host|via):[^\r\n]*+\r\n")
_HAS_TYPE: Final = re.compile(rb"(?mi)^content-type:")


class Rendered(NamedTuple):
    """A request but for its framing and Crossfade's own headers. context: request line and header lines."""

    method: bytes
    context: bytes
    body: bytes


class Rendering:
    """One backend's templates, compiled."""

    __slots__ = (
        "_body", "_foreign", "_form", "_headers", "_is_json", "_method", "_path", "_places", "_replaced", "is_batched",
    )  # fmt: skip

    def __init__(self, settings: HttpForm) -> None:
        self._method = settings.method.encode() if settings.method is not None else b""
        self._path = PathTemplate(settings.path) if settings.path is not None else None
        self._body = JsonTemplate(settings.body, settings.missing) if settings.body != "raw" else None
        self._headers = [HeaderTemplate(name, value, settings.missing) for name, value in settings.headers.items()]
        templates = [each for each in (self._path, self._body, *self._headers) if each is not None]
        self._places = Places(frozenset().union(*(each.pointers for each in templates)))
        self.is_batched = settings.batch is not None
        self._form = settings.batch.form if settings.batch is not None else None
        self._is_json = self._form == "array" or (self._body is not None and not self.is_batched)
        self._foreign = _lines_of((*_OF_HANDSHAKES, *(_OF_BODIES if self._body is not None else ())))
        """Of the client's lines, those that are for nobody else."""
        self._replaced = _lines_of(tuple(settings.headers)) if settings.headers else None

    def render(self, event: Event, rewrite: Rewrite | None, max_decoded: int) -> Rendered | Unfit:
        """The request for one event, or why there can be none.

        max_decoded: bytes of a compressed body that are read, and that a made body may have.
        """
        context = event.context.partition(_END)[0]
        if not context.endswith(b"\r\n"):
            context += b"\r\n"
        text = read_body(event, context, max_decoded)
        values = Values(event.id, event.key, text or b"", self._places)
        context = self._without_foreign(context)  # before the backend's own lines are added
        line, _, lines = (context if rewrite is None else rewrite.apply(context)).partition(b"\r\n")
        method, target, version = line.split(b" ", 2)
        if self._path is not None:
            path = self._path.render(values)
            if isinstance(path, Unfit):
                return path
            target = path.encode()
        body = self._body_of(event, text, values, max_decoded)
        if isinstance(body, Unfit):
            return body
        if self._replaced is not None:
            lines = self._replaced.sub(b"", lines)
        for template in self._headers:
            header = template.render(values)
            if isinstance(header, Unfit):
                return header
            lines += header
        if self._is_json and not _HAS_TYPE.search(lines):
            lines += b"Content-Type: application/json\r\n"
        method = self._method or (b"POST" if event.transport == "websocket" else method)
        return Rendered(method, b"%b %b %b\r\n%b" % (method, target, version, lines), body)

    def _body_of(self, event: Event, text: bytes | None, values: Values, longest: int) -> bytes | Unfit:
        """The body, as it stands in a batch where there is one. text: what came, decoded."""
        if self._body is not None:
            made = self._body.render(values, longest)
            if isinstance(made, Unfit):
                return made
            text = made
        elif self._form is None:
            return event.body
        if text is None:
            return Unfit("its body cannot be decoded")
        return text if self._form is None else entry_of(text, self._form)

    def _without_foreign(self, context: bytes) -> bytes:
        """A context with what this backend may have of the client's lines."""
        if not self.is_batched:
            return self._foreign.sub(b"", context)
        line, end, lines = context.partition(b"\r\n")
        return line + end + b"".join(_KEPT_IN_BATCHES.findall(lines))


def _lines_of(names: Sequence[str]) -> re.Pattern[bytes]:
    """Finds the lines of headers with these names."""
    return re.compile(b"(?mi)^(?:%b):[^\r\n]*+\r\n" % b"|".join(re.escape(name.encode()) for name in names))


def read_body(event: Event, context: bytes, max_decoded: int) -> bytes | None:
    """The body as templates read it; None when it is compressed and cannot be decoded. context: its header lines."""
    found = _CODING.search(context) if event.transport == "http" else None
    return event.body if found is None else decoded(event.body, found[1], max_decoded)
