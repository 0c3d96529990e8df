"""Where the events go."""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from config.units import Address, UnitError

DEFAULT_PATH = "/api/v1/events"


class Target(NamedTuple):
    """host: the Host header's value; path: request target; tls: None for plain HTTP."""

    address: Address
    host: str
    path: str
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """As a person would write it."""
        return f"{'http' if self.tls is None else 'https'}://{self.host}{self.path}"


def plain(address: Address, path: str = DEFAULT_PATH) -> Target:
    """A target without TLS."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return Target(address, f"{host}:{address.port}", path)


def parse_target(text: str, *, ca: str | None = None) -> Target:
    """Read `http://host[:port][/path][?query]` or https; `DEFAULT_PATH` when it has no path.

    ca: file of certificates to believe instead of the system's. Raises UnitError for what is no such URL, OSError for
    a file that cannot be read.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UnitError(f"expected http://host:port/path, not {text!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnitError(f"expected http://host:port/path, not {text!r}", "" if "://" in text else f"http://{text}")
    if parts.username is not None or parts.password is not None:
        raise UnitError("a URL must not carry credentials: say --header 'Authorization: ...'")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise UnitError(f"a URL is printable ASCII without blanks, unlike {text!r}")
    path = (parts.path or ("/" if parts.query else DEFAULT_PATH)) + (f"?{parts.query}" if parts.query else "")
    tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
    return Target(Address(parts.hostname, port or (80 if tls is None else 443)), parts.netloc, path, tls)
