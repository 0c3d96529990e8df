"""A Home Assistant that runs; with a failure, what it said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.home_assistant.core import HomeAssistant


@asynccontextmanager
async def running(directory: Path, integrations: dict[str, Any] | None = None) -> AsyncIterator[HomeAssistant]:
    core = HomeAssistant(directory, integrations)
    try:
        await core.start()
        yield core
    except BaseException:
        print(core.log.read_text(errors="replace")[-20_000:] if core.log.exists() else "no log")
        raise
    finally:
        await core.stop()
