"""What the control plane's tests share: settings, short directories, patience with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
PATIENCE = 20.0
"""Seconds until a test gives up on something that should have happened."""


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


def wait_for(condition: Callable[[], Any], what: str = "it") -> Any:
    """Poll until the condition holds; its value. Fails the test after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {PATIENCE:g} s")
        time.sleep(0.01)
    return value


async def eventually(condition: Callable[[], Any], what: str = "it") -> Any:
    """The same for the loop."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {PATIENCE:g} s")
        await asyncio.sleep(0.005)
    return value
