"""End to end, what runs is what is installed: the wheel, whose hot modules are compiled."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks import compiled


@pytest.fixture(scope="package", autouse=True)
def _wheel() -> Iterator[None]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(compiled.build())
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
