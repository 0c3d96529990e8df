"""Where a request came from, when a hop before us says so: believed from listed networks alone.

    client -> 198.51.100.7 -> proxy 10.0.0.9 -> us
              X-Forwarded-For: 203.0.113.5, 198.51.100.7    the first from the right that is not ours

`X-Forwarded-For` is read before `Forwarded` (RFC 7239). Whatever a client wrote to the left of its own address is
passed on and never believed. What cannot be read is no address: the hop before it counts as the client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

_MAX_HOPS: Final = 64
"""Addresses of a chain that are looked at; nobody has more hops of his own."""
_PORT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::\d{1,5})?")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_ELEMENT: Final = re.compile(r'\s*(?:([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:([^";,\s]*)|"((?:[^"\\]|\\.)*)"))?\s*(;|,|\Z)')


class Origin(NamedTuple):
    """client: its address; chain: X-Forwarded-For for the backend; proto: http(s); host: of its URL, or empty."""

    client: str
    chain: bytes
    proto: bytes
    host: bytes


class Trust:
    """The networks whose word is taken. networks: such as `10.0.0.0/8` or `::1`."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(text) for text in networks]
        self.is_trusted = lru_cache(4096)(self._is_trusted)

    def _is_trusted(self, address: str) -> bool:
        """Is this one of our hops? What is no address is not."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        plain = getattr(found, "ipv4_mapped", None) or found
        return any(plain in network for network in self._networks if network.version == plain.version)

    def origin(self, wanted: Mapping[bytes, bytes] | None, hop: str, proto: bytes) -> Origin:
        """What a trusted hop says. wanted: the request's headers of `FORWARDING`; hop, proto: what we see ourselves."""
        headers = wanted or {}
        hops, said_proto, host = _said(headers)
        client = hop
        for address in reversed(hops[-_MAX_HOPS:]):
            if not self.is_trusted(client):
                break
            if not _is_address(address):
                break
            client = address
        written = headers.get(b"x-forwarded-for") or ", ".join(hops).encode("latin-1", "replace")
        chain = b"%b, %b" % (written, hop.encode()) if written else hop.encode()
        return Origin(client, chain, said_proto or proto, host)


def _said(headers: Mapping[bytes, bytes]) -> tuple[list[str], bytes, bytes]:
    """Addresses from the client on, protocol and host, as the headers have them; empty where they say nothing."""
    proto = headers.get(b"x-forwarded-proto", b"").rpartition(b",")[2].strip().lower()
    host = headers.get(b"x-forwarded-host", b"").partition(b",")[0].strip()
    chain = headers.get(b"x-forwarded-for")
    if chain is not None:
        hops = [_bare(part.strip()) for part in chain.decode("latin-1").split(",")]
    else:
        hops, other_proto, other_host = _forwarded(headers.get(b"forwarded", b"").decode("latin-1"))
        proto, host = proto or other_proto.encode("latin-1"), host or other_host.encode("latin-1")
    return hops, proto if proto in (b"http", b"https") else b"", host if _HOST.fullmatch(host) else b""


def _forwarded(text: str) -> tuple[list[str], str, str]:
    """The same of a Forwarded header; nothing at all of one that is malformed."""
    hops: list[str] = []
    proto = host = ""
    at = 0
    here: dict[str, str] = {}
    while at < len(text):
        match = _ELEMENT.match(text, at)
        if match is None or match.end() == at:
            return [], "", ""
        name, plain, quoted, end = match.groups()
        if name is not None:
            here[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        at = match.end()
        if end != ";":
            hops.append(_bare(here.get("for", "")))
            proto, host = here.get("proto", "").lower(), host or here.get("host", "")
            here = {}
    return hops, proto, host


def _bare(text: str) -> str:
    """An address without brackets and port; what is none as it is."""
    if _is_address(text):
        return text
    match = _PORT.fullmatch(text)
    return (match[1] or match[2]) if match else text


@lru_cache(4096)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
