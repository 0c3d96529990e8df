"""Who asks: tokens, streams, hooks, and what is answered to what cannot be done."""

from __future__ import annotations

import msgspec


class Welcome(msgspec.Struct):
    """The first event of a stream. role: what its caller may do, viewer or operator; token: its name, empty without."""

    role: str
    token: str


class HookOutcome(msgspec.Struct):
    """What became of a trigger at a route. outcome: reverted, paused or nothing."""

    route: str
    action: str
    outcome: str
    detail: str


class HookDone(msgspec.Struct):
    """What a hook did. idle: how many alerts did nothing, by the reason: resolved, unmatched, known (they did it
    before) or ignored (older than max_age).
    """

    outcomes: list[HookOutcome]
    idle: dict[str, int]
    dry_run: bool


class TokenView(msgspec.Struct):
    """A token without its secret."""

    name: str
    role: str
    created_at: str


class TokenList(msgspec.Struct):
    """All tokens."""

    tokens: list[TokenView]


class TokenCreated(msgspec.Struct):
    """A new token; its secret is shown this once. Empty on a dry run."""

    name: str
    role: str
    token: str
    dry_run: bool


class TokenRevoked(msgspec.Struct):
    """A token that is worthless now."""

    name: str
    dry_run: bool


class ProblemView(msgspec.Struct):
    """An error, RFC 9457; some have further members, such as epoch or routes."""

    type: str
    title: str
    status: int
    detail: str
