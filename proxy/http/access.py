"""The access log: a line for an event that is answered, for some of them or for those that took long.

Off unless it is configured. Neither bodies nor headers are in it. Unless more is wanted, a query is shown by its names
alone, and what looks like a key in a path by its first characters.
"""

from __future__ import annotations

import logging
import re
import time
from random import random
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from config.log import Access
from proxy.core.event import SIDES

if TYPE_CHECKING:
    from proxy.http.exchange import Exchange

log = logging.getLogger(__name__)

_HEXADECIMAL: Final = frozenset("0123456789abcdefABCDEF-")
_VALUES: Final = re.compile(r"=[^&;]*")
_LEAST: Final = 20
_LONG: Final = re.compile(f"[0-9A-Za-z_-]{{{_LEAST},}}")
_GAP: Final = re.compile("[_-]")
_KEPT: Final = 4


def _looks_like_key(text: str) -> bool:
    """Did nobody make this up to be read? text: 20 characters or more of letters, digits, `_` and `-`.

    It is hexadecimal, or has a piece of digits and letters that is as long by itself or is of both cases.
    """
    if set(text) <= _HEXADECIMAL:
        return _has_both(text)
    return any(_has_both(piece) and (len(piece) >= _LEAST or _has_cases(piece)) for piece in _GAP.split(text))


def _has_both(piece: str) -> bool:
    return any(map(str.isdigit, piece)) and any(map(str.isalpha, piece))


def _has_cases(piece: str) -> bool:
    return piece.lower() != piece != piece.upper()


def shown_path(path: str) -> str:
    """A path as it may be logged: of segments in which something looks like a key the first characters."""
    return "/".join([f"{one[:_KEPT]}..." if _has_key(unquote(one)) else one for one in path.split("/")])


def _has_key(segment: str) -> bool:
    return any(_looks_like_key(found[0]) for found in _LONG.finditer(segment))


def shown_query(query: str) -> str:
    """A query as it may be logged: the names of its values, and what has no name not at all."""
    parts = [_VALUES.sub("=...", part, count=1) if "=" in part else "..." for part in re.split("[&;]", query)]
    return "&".join(parts)


class AccessLog:
    """Of one worker."""

    def __init__(self, settings: Access) -> None:
        self._share = settings.sample
        self._slow_ns = settings.slow * 1e9 if settings.slow is not None else float("inf")
        self._shows_path, self._shows_query = settings.path == "show", settings.query == "show"
        log.setLevel(logging.INFO)  # whatever the level of the others is: who wants it has said so

    def shown(self, target: str) -> str:
        """A request's target as it may be logged."""
        path, mark, query = target.partition("?")
        path = path if self._shows_path else shown_path(path)
        return path + mark + (query if self._shows_query or not mark else shown_query(query))

    def answered(self, exchange: Exchange, status: int) -> None:
        """An event's client is answered with this status."""
        event = exchange.event
        took = time.time_ns() - event.accepted_ns
        if took < self._slow_ns and random() >= self._share:
            return
        method, target, *_ = event.context.split(b" ", 2)
        log.info(
            "answered",
            extra={
                "route": event.route,
                "method": method.decode("latin-1"),
                "target": self.shown(target.decode("latin-1")),
                "status": status,
                "ms": round(took / 1e6, 3),
                "id": event.id,
                "epoch": event.epoch,
                "authority": SIDES[exchange.authority],
                "handed": [name for side, name in enumerate(SIDES) if exchange.handed >> side & 1],
            },
        )
