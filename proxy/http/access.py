"""The access log: a line for an event that is answered, for some of them or for those that took long.

Off unless it is configured. Neither bodies nor headers are in it, and of a query the names alone unless more is wanted.
"""

from __future__ import annotations

import logging
import re
import time
from random import random
from typing import TYPE_CHECKING, Final

from config.log import Access
from proxy.core.event import SIDES

if TYPE_CHECKING:
    from proxy.http.exchange import Exchange

log = logging.getLogger(__name__)

_VALUES: Final = re.compile(r"=[^&;]*")


def shown_target(target: str, *, with_values: bool) -> str:
    """A request's target as it may be logged: of a query the names of its values, and what has no name not at all."""
    path, mark, query = target.partition("?")
    if with_values or not mark:
        return target
    parts = [_VALUES.sub("=...", part, count=1) if "=" in part else "..." for part in re.split("[&;]", query)]
    return f"{path}?{'&'.join(parts)}"


class AccessLog:
    """Of one worker."""

    def __init__(self, settings: Access) -> None:
        self._share = settings.sample
        self._slow_ns = settings.slow * 1e9 if settings.slow is not None else float("inf")
        self._with_values = settings.query == "show"
        log.setLevel(logging.INFO)  # whatever the level of the others is: who wants it has said so

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
                "target": shown_target(target.decode("latin-1"), with_values=self._with_values),
                "status": status,
                "ms": round(took / 1e6, 3),
                "id": event.id,
                "epoch": event.epoch,
                "authority": SIDES[exchange.authority],
                "handed": [name for side, name in enumerate(SIDES) if exchange.handed >> side & 1],
            },
        )
