"""Fixtures of the transport's tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.certificates import Authority


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory for certificates."""
    path = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def ca(directory: Path) -> Authority:
    """An authority that writes there."""
    return Authority(directory)
