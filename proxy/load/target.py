"""Where the events go."""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from config.units import Address, UnitError

DEFAULT_PATH = "/api/v1/events"
DEFAULT_SESSION_PATH = "/api/v1/stream"
_SCHEMES = {"http": 80, "https": 443, "ws": 80, "wss": 443}
"""With their ports."""


class Target(NamedTuple):
    """host: the Host header's value; path: request target; tls: None for none; is_session: WebSocket, else HTTP."""

    address: Address
    host: str
    path: str
    tls: ssl.SSLContext | None = None
    is_session: bool = False

    @property
    def url(self) -> str:
        """As a person would write it."""
        scheme = "ws" if self.is_session else "http"
        return f"{scheme}{'' if self.tls is None else 's'}://{self.host}{self.path}"


def plain(address: Address, path: str = DEFAULT_PATH) -> Target:
    """A target without TLS."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return Target(address, f"{host}:{address.port}", path)


def parse_target(text: str, *, ca: str | None = None) -> Target:
    """Read `http://host[:port][/path][?query]`, https, ws or wss; a path of the toy backends when it has none.

    ca: file of certificates to believe instead of the system's. Raises UnitError for what is no such URL, OSError for
    a file that cannot be read.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UnitError(f"expected http://host:port/path or ws://…, not {text!r}: {error}") from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        suggestion = "" if "://" in text else f"http://{text}"
        raise UnitError(f"expected http://host:port/path or ws://…, not {text!r}", suggestion)
    if parts.username is not None or parts.password is not None:
        raise UnitError("a URL must not carry credentials: say --header 'Authorization: ...'")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise UnitError(f"a URL is printable ASCII without blanks, unlike {text!r}")
    is_session = parts.scheme in ("ws", "wss")
    default = DEFAULT_SESSION_PATH if is_session else DEFAULT_PATH
    path = (parts.path or ("/" if parts.query else default)) + (f"?{parts.query}" if parts.query else "")
    tls = ssl.create_default_context(cafile=ca) if parts.scheme in ("https", "wss") else None
    return Target(Address(parts.hostname, port or _SCHEMES[parts.scheme]), parts.netloc, path, tls, is_session)
