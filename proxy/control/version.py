"""Which version of the code this process runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _version() -> str:
    try:
        return version("crossfade")
    except PackageNotFoundError:  # run from an unpacked source tree
        return "unreleased"


VERSION: Final = _version()
