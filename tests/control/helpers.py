"""What the control plane's tests share: settings, short directories, patience with a deadline."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from config.model import Settings

CHECK = {
    "routes": ["events"],
    **{
        side: {"sqlite": {"file": f"/nowhere/{side}.db", "table": "event", "identity": ["id"], "time": "at"}}
        for side in ("old", "new")
    },
}
"""A consistency check of the one route, whose stores nobody opens."""
PATIENCE = float(os.environ.get("CROSSFADE_PATIENCE", "40"))
"""Seconds until a test gives up on something that should have happened; more where the machine is busy."""


def make_settings(state_dir: Any, **changes: Any) -> Settings:
    """Small valid settings: one route `events`, backends old and new, nothing on TCP but port 0."""
    document: dict[str, Any] = {
        "version": 1,
        "listen": ["127.0.0.1:0"],
        "workers": 2,
        "state_dir": str(state_dir),
        "salt": "a-salt-for-tests",
        "backends": {"old": {"url": "http://127.0.0.1:9"}, "new": {"url": "http://127.0.0.1:9"}},
        "routes": [{"name": "events", "match": {"path": "/api/v1/events"}}],
        "admin": {"tcp": "off"},
        "log": {"format": "text"},
        "stop_grace": "5s",
    }
    document.update(changes)
    return Settings.model_validate(document, strict=False)


def wait_for(condition: Callable[[], Any], what: str = "it", patience: float = PATIENCE) -> Any:
    """Poll until the condition holds; its value. Fails the test after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {patience:g} s")
        time.sleep(0.01)
    return value


@contextmanager
def stuck_pool() -> Iterator[None]:
    """Every thread of the running loop's default pool hangs meanwhile, and so does whoever is to be next."""
    go_on = threading.Event()
    loop = asyncio.get_running_loop()
    stuck = [loop.run_in_executor(None, go_on.wait, 60) for _ in range(64)]
    try:
        yield
    finally:
        go_on.set()
        for each in stuck:
            each.cancel()


async def eventually(condition: Callable[[], Any], what: str = "it") -> Any:
    """The same for the loop."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {PATIENCE:g} s")
        await asyncio.sleep(0.005)
    return value
