"""How long a test may take.

pytest-timeout raises from a signal, and uvloop takes that for a failed callback: it is told in the log, the callback is
lost, and the test waits for it for ever. So what coroutine tests do is bounded by their own loop; their fixtures, and
those of Hypothesis, have the signal alone.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

LEEWAY: Final = 60.0
"""Seconds after which the signal comes all the same: for a loop that stands still."""


def limit_of(item: pytest.Item) -> float:
    """Seconds that a test may take: by its mark, the command line or the configuration; 0 is no bound."""
    mark = item.get_closest_marker("timeout")
    if mark is not None and (given := mark.args[0] if mark.args else mark.kwargs.get("timeout")) is not None:
        return float(given)
    given = item.config.getoption("timeout", None)
    return float(given if given is not None else item.config.getini("timeout") or 0.0)


def bound(item: pytest.Item, least: float = 0.0) -> None:
    """Let a test fail by itself when it takes too long. least: seconds that it may take in any case."""
    limit = limit_of(item)
    if not limit or not isinstance(item, pytest.Function):
        return
    limit = max(limit, least)
    if inspect.iscoroutinefunction(item.obj) and not hasattr(item.obj, "hypothesis"):
        item.obj = bounded(item.obj, limit)
        limit += LEEWAY
    item.add_marker(pytest.mark.timeout(limit), append=False)


def bounded(test: Callable[..., Awaitable[Any]], seconds: float) -> Callable[..., Awaitable[Any]]:
    """The test, which raises TimeoutError where it waits after so long."""

    @functools.wraps(test)
    async def run(*arguments: Any, **named: Any) -> Any:
        async with asyncio.timeout(seconds):
            return await test(*arguments, **named)

    return run
