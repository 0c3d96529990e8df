"""What a person sees of the demo: lines, and on a terminal a few more below them that are redrawn."""

from __future__ import annotations

import time
from typing import TextIO

_CLEAR_LINE = "\x1b[2K"
_UP = "\x1b[{}A"


class View:
    """Plain lines, each with the seconds since the start."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """One thing that happened, and why."""
        self._write(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def end(self, text: str) -> None:
        """A line without a time: results, commands to try."""
        self._write(text)

    def show(self, lines: list[str]) -> None:
        """The present figures; a plain view has no place for them."""

    def _write(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class LiveView(View):
    """The same lines scrolling by above the present figures, for a terminal. width: columns."""

    def __init__(self, out: TextIO, width: int) -> None:
        super().__init__(out)
        self._width = width
        self._shown: list[str] = []

    def show(self, lines: list[str]) -> None:
        """Redraw the figures."""
        self._erase()
        self._shown = [line[: self._width - 1] for line in lines]
        self._draw()

    def end(self, text: str) -> None:
        """A closing line; the figures go."""
        self._erase()
        self._shown = []
        print(text, file=self._out, flush=True)

    def _write(self, line: str) -> None:
        self._erase()
        print(line, file=self._out)
        self._draw()

    def _erase(self) -> None:
        if self._shown:
            self._out.write(_UP.format(len(self._shown)) + "\x1b[J")

    def _draw(self) -> None:
        self._out.write("".join(f"{_CLEAR_LINE}{line}\n" for line in self._shown))
        self._out.flush()
