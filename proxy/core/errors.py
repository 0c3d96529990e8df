"""Errors for the control plane and for people; on the data plane an expected failure is a value.

CrossfadeError
+-- RefuseToStart   a message for a person; the process exits with 2 and nothing was touched
+-- BadChange       a change of the live routing that is not allowed: 422, or 409 when blocked
"""

from __future__ import annotations


class CrossfadeError(Exception):
    """Root of what we raise ourselves."""


class RefuseToStart(CrossfadeError):
    """Something is wrong that only a person can mend: configuration, port, state directory, ledger."""


class BadChange(CrossfadeError):
    """A routing change that is not allowed. blocked: a latch or a freeze stands in the way."""

    def __init__(self, message: str, *, blocked: bool = False) -> None:
        super().__init__(message)
        self.blocked = blocked
