"""Fixtures of the control plane's tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.control.fakes import Plane
from tests.control.helpers import make_settings
from tests.control.web_server import Server


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A short directory: Unix socket paths have at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


MakePlane = Callable[..., Plane]


@pytest_asyncio.fixture
async def plane(state_dir: Path) -> AsyncIterator[Plane]:
    """A supervisor with its fakes, ready."""
    made = Plane(make_settings(state_dir))
    await made.start()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def make_plane(state_dir: Path) -> AsyncIterator[MakePlane]:
    """Makes planes of special settings; not started."""
    made: list[Plane] = []

    def make(**changes: Any) -> Plane:
        made.append(Plane(make_settings(state_dir, **changes)))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()
