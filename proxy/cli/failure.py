"""Exit codes, and the one exception that carries one of them to the way out in `main`."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.core.errors import CrossfadeError

OK = 0
FAILED = 1
USAGE = 2
"""Usage or configuration."""
ROLLED_BACK = 3
TIMEOUT = 4
CONFLICT = 5
"""The epoch is not the one that was expected."""
UNREACHABLE = 6
BLOCKED = 7
"""A guard, such as a latch, stands in the way."""
INTERRUPTED = 130
"""Ctrl-C, as shells number it: 128 + SIGINT."""

WORST_FIRST = (ROLLED_BACK, FAILED, TIMEOUT, UNREACHABLE, CONFLICT, BLOCKED, USAGE)
"""Which of several instances' failures the exit code tells: first what says that new is bad, then what may have been
done by half or unseen, then what was not even asked, last what was refused with everything as it was."""


class Failure(CrossfadeError):
    """A command that did not do what was asked.

    message: what happened. hint: what to do next, one line or several. lines: printed before the message as they
    are, for tools that read `file:line:column:`. details: further JSON values for `-o json`.
    """

    def __init__(
        self, code: int, message: str, *, hint: str = "", lines: Iterable[str] = (), **details: object
    ) -> None:
        super().__init__(message)
        self.lines = tuple(lines)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details

    def as_dict(self) -> dict[str, object]:
        """The error as one JSON object; empty parts are left out."""
        hint = {"hint": self.hint} if self.hint else {}
        return {"code": self.code, "message": self.message} | hint | self.details
