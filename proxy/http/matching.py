"""Which route takes a request: the first whose host, path and method all match."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from config.model import Match
from proxy.http.head import RequestHead

_NO_PARAMS: Mapping[str, str] = MappingProxyType({})


class HasMatch(Protocol):
    """Anything that stands under a match."""

    @property
    def match(self) -> Match:
        """When it takes a request."""

    @property
    def preview_host(self) -> str | None:
        """A further Host that it takes."""


R = TypeVar("R", bound=HasMatch)


def _pattern(path: str) -> re.Pattern[bytes]:
    """`/a/b` exactly, `/a/{id}` with a segment as parameter, `/a/*` and everything below."""
    prefix = path.endswith("/*")
    parts = re.split(r"\{([a-zA-Z_]\w*)\}", path[:-2] if prefix else path)
    text = "".join(re.escape(part) if i % 2 == 0 else f"(?P<{part}>[^/]+)" for i, part in enumerate(parts))
    return re.compile((text + ("(?:/.*)?" if prefix else "")).encode())


def _hosts(route: HasMatch) -> frozenset[bytes]:
    """The hosts that it takes; none for any."""
    if route.match.host is None:
        return frozenset()
    return frozenset(host.lower().encode() for host in (route.match.host, route.preview_host) if host)


class Matcher(Generic[R]):
    """First match wins. What was found is kept with the head, which is itself kept while it (all but) repeats."""

    def __init__(self, routes: Sequence[R]) -> None:
        self._rules = [
            (
                route,
                _hosts(route),
                frozenset(method.encode() for method in route.match.methods),
                _pattern(route.match.path),
            )
            for route in routes
        ]

    def find(self, head: RequestHead) -> tuple[R | None, Mapping[str, str]]:
        """The route and its path parameters; None when no route takes the request."""
        base = head.base or head
        found: tuple[R | None, Mapping[str, str]] | None = base.match
        if found is None:
            base.match = found = self._search(base)
        return found

    def _search(self, head: RequestHead) -> tuple[R | None, Mapping[str, str]]:
        host = re.sub(rb":\d+$", b"", head.host.lower())
        for route, hosts, methods, pattern in self._rules:
            if head.method not in methods or (hosts and host not in hosts):
                continue
            match = pattern.fullmatch(head.path)
            if match is not None:
                params = {name: value.decode("latin-1") for name, value in match.groupdict().items()}
                return route, params or _NO_PARAMS
        return None, _NO_PARAMS
