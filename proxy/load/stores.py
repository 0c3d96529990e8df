"""Stores that can be asked what of a run they hold."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Holding(NamedTuple):
    """events: distinct ids; duplicates: rows beyond the first of each."""

    events: int
    duplicates: int


class Store(Protocol):
    """Where one side's events end up."""

    name: str

    def stored(self, run: str) -> Holding:
        """What it holds of the events whose id starts with `run`. Raises OSError when it cannot be asked."""
