"""A directory for each test, and two InfluxDBs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.home_assistant import install
from deploy.influxdb import InfluxDB


@pytest.fixture(scope="package", autouse=True)
def _python() -> None:
    if not install.runs_here():
        pytest.skip("Home Assistant 2024.3 does not run on this Python")


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cf-"))
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture
async def influxes(directory: Path) -> AsyncIterator[tuple[InfluxDB, InfluxDB]]:
    """Old's and new's, each with its database."""
    old, new = InfluxDB("old", directory), InfluxDB("new", directory)
    try:
        for influx in (old, new):
            await influx.start()
            await influx.prepare()
        yield old, new
    finally:
        await old.stop()
        await new.stop()
