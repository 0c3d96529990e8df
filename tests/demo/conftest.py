"""A toy backend process of its own for each test, in a directory of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.demo.toy import ToyBackend


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cf-"))
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture
async def toy(directory: Path) -> AsyncIterator[ToyBackend]:
    backend = ToyBackend("new", directory)
    try:
        await backend.ready()
        yield backend
    finally:
        await backend.stop()
