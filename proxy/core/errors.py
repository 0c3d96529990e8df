"""Errors for the control plane and for people; on the data plane an expected failure is a value.

CrossfadeError
+-- RefuseToStart   a message for a person; the process exits with 2 and nothing was touched
+-- BadChange       a change of the live routing that is not allowed: 422, or 423 when blocked
    +-- BadPlan     a plan of a rollout that cannot be followed, and where it says so
    +-- Frozen      not before the freeze of the route ends; who waits may try again then
    +-- Drilled     not before the drill of the route ends; as with a freeze
    +-- NoDrill     a drill that would cost events, or that clients would feel
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


class BadPlan(BadChange):
    """A plan that names what is not there. at: where, as keys and numbers from 0."""

    def __init__(self, message: str, at: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.at = at


class Frozen(BadChange):
    """The route is frozen: until then its routing only goes back."""

    def __init__(self, message: str, route: str) -> None:
        super().__init__(message, blocked=True)
        self.route = route


class Drilled(BadChange):
    """A drill fails the copies of the route: until it ends its routing only goes back."""

    def __init__(self, message: str, route: str) -> None:
        super().__init__(message, blocked=True)
        self.route = route


class NoDrill(BadChange):
    """A drill that would cost events, or that clients would feel."""

    def __init__(self, message: str) -> None:
        super().__init__(message, blocked=True)
