"""What one backend gets differently: another path, headers set or removed, a credential.

    context --(rewrite of the backend)--> context     body, event id, role and attempt are the same for both

Done at delivery, by workers and by the ledger alike: the record keeps what the client sent, so a credential that
was changed since goes with the next attempt, and none of ours is ever on disk.
"""

from __future__ import annotations

import re
from typing import Final

from config.model import Backend

_TARGET: Final = re.compile(rb"\A([^ ]+) ([^ ]+)")


class Rewrite:
    """The rewriting of one backend's requests, compiled. The same context again costs one comparison."""

    __slots__ = ("_added", "_dropped", "_from", "_last", "_last_out", "_to")

    def __init__(self, settings: Backend) -> None:
        headers = dict(settings.headers.set)
        if settings.authorization is not None:
            headers["Authorization"] = settings.authorization
        names = [*headers, *settings.headers.remove]
        self._dropped = (
            re.compile(rb"(?mi)^(?:" + b"|".join(re.escape(name.encode()) for name in names) + rb"):[^\r\n]*+\r\n")
            if names
            else None
        )
        self._added = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        prefix = settings.rewrite_prefix
        self._from = prefix.prefix.encode() if prefix is not None else None
        self._to = prefix.to.rstrip("/").encode() if prefix is not None else b""
        self._last = self._last_out = b""

    @classmethod
    def of(cls, settings: Backend) -> Rewrite | None:
        """A backend's rewriting; None when it gets what all get."""
        made = cls(settings)
        return made if made._dropped is not None or made._from is not None else None

    def apply(self, context: bytes) -> bytes:
        """A request line and header lines, as `proxy.http.request.context_of` makes them, for this backend."""
        if context is self._last:
            return self._last_out
        line, end, lines = context.partition(b"\r\n")
        if self._from is not None:
            line = self._rewritten(line)
        if self._dropped is not None:
            lines = self._dropped.sub(b"", lines) + self._added
        self._last, self._last_out = context, line + end + lines
        return self._last_out

    def _rewritten(self, line: bytes) -> bytes:
        """The request line with another prefix of whole path segments; as it was when it does not begin with it."""
        match = _TARGET.match(line)
        assert match is not None
        assert self._from is not None
        target, prefix = match[2], self._from.rstrip(b"/")
        path, mark, query = target.partition(b"?")
        if path != prefix and not path.startswith(prefix + b"/"):
            return line
        changed = (self._to + path[len(prefix) :]) or b"/"
        return b"%b %b%b" % (match[1], changed + mark + query, line[match.end() :])
