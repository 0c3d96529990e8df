"""Keys as they are pressed, without Enter."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from typing import Any, Self


class Keys:
    """The terminal of stdin, which gives keys at once within the `with` block, and is as before after it."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)  # Ctrl-C interrupts as ever
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def next(self, patience: float) -> str:
        """The next key; empty when none came within so many seconds, and for arrows and the like."""
        ready, _, _ = select.select([self._descriptor], [], [], patience)
        if not ready:
            return ""
        data = os.read(self._descriptor, 64)
        if not data:
            return "q"  # the terminal is gone
        return data.decode(errors="replace") if len(data) == 1 else ""
