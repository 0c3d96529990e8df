"""Answers of both sides to one event, as a worker hands them to the checker, and what that says of them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

LONGEST: Final = 16 * 1024
"""Bytes of a body, of request or answer; what is longer is not compared."""
MOST: Final = 16
"""Pairs that a worker holds until its next report."""


class Answered(msgspec.Struct, array_like=True):
    """One side's whole answer. head: status line and header lines."""

    status: int
    head: bytes
    body: bytes


class AnsweredPair(msgspec.Struct, array_like=True):
    """Both answers to an event. request: request line and header lines, as old was sent them; body: the event's."""

    route: str
    id: str
    request: bytes
    body: bytes
    old: Answered
    new: Answered


class FieldFigures(msgspec.Struct):
    """A path of answers. different: events of which both sides say something else there; of those that old was asked
    twice, different_twice: the same, and noise: old itself said something else.
    """

    different: int = 0
    different_twice: int = 0
    noise: int = 0


class AnswerStats(msgspec.Struct):
    """What was found in the answers of a route, since the checker began.

    compared: events; unread: those that were not, for a coding that is not read here; different: those whose answers
    differ somewhere; beyond_noise: those that did so at a path where old differed from the second old much less often;
    noise_compared: events that were sent to old twice
    fields: by path, indexes of lists as `*`; samples: a few of them that differ, the latest last; trouble: why there is
    no estimate of noise, or empty
    """

    route: str
    compared: int = 0
    unread: int = 0
    different: int = 0
    beyond_noise: int = 0
    noise_compared: int = 0
    fields: dict[str, FieldFigures] = {}
    samples: list[dict[str, Any]] = []
    trouble: str = ""
