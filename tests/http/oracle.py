"""What PRODUCT's promises make of an event, worked out from the policies and from what each side does.

Written for itself, not after the code: sets, because who is first is not ours to say when both sides
are asked at the same time.
"""

from __future__ import annotations

from typing import NamedTuple

FAILURES = {"500": 500, "timeout": 504, "closed": 502, "refused": 502}
"""What a side does that counts as a failure of the authority, and the status that tells it."""
SUCCESSES = {"200": 200, "slow": 201}
NO = ("400", "401", "429")
WORDS = (*SUCCESSES, *NO, "500", "timeout", "closed")
"""What a scripted side can do with one event; `refused` is a port where nobody listens."""


class Policy(NamedTuple):
    """A route's dials for what happens to an event."""

    durability: str
    ack: str
    copy_order: str
    on_authority_down: str

    def __str__(self) -> str:
        return "-".join(self)


POLICIES = [
    Policy(durability, ack, order, down)
    for durability in ("before-send", "before-ack", "off")
    for ack in ("authority", "both", "accepted")
    for order in ("parallel", "sequential")
    for down in ("failover", "accept", "fail")
]


class Expected(NamedTuple):
    """statuses for the client; ends of the authority and of the copy.

    D delivered, R refused, X discarded, L lost, H in the ledger's hands.
    """

    statuses: set[int]
    authority: set[str]
    copy: set[str]


def status_of(word: str) -> int:
    """The status by which a side's answer, or the want of one, is told."""
    return (SUCCESSES | FAILURES).get(word) or int(word)


def expect(policy: Policy, authority: str, copy: str, *, can_fail_over: bool) -> Expected:
    """authority, copy: what the sides do; can_fail_over: the copy's side may be the authority now."""
    if policy.ack == "accepted":
        return Expected({202}, {"H"}, {"H"})
    if authority in SUCCESSES:
        status = status_of(authority)
        if policy.ack == "both" and copy not in SUCCESSES:
            status = status_of(copy)
        return Expected({status}, {"D"}, _end(policy, copy))
    if authority in NO:
        return Expected({status_of(authority)}, {"R"}, _end_after_no(policy, copy))
    failure = status_of(authority)
    if policy.ack == "both":
        return Expected({failure}, {"H"}, _end_unless_unsent(policy, copy))
    if policy.on_authority_down == "fail":
        return Expected({failure}, {"X"}, _end_after_no(policy, copy))
    if policy.on_authority_down == "accept" or not can_fail_over:
        return Expected({202}, {"H"}, _end_unless_unsent(policy, copy))
    return _failed_over(policy, copy)


def _gone(policy: Policy) -> str:
    return "L" if policy.durability == "off" else "H"


def _end(policy: Policy, copy: str) -> set[str]:
    """A copy of an event that the authority has."""
    return {"D"} if copy in SUCCESSES else {"R"} if copy == "400" else {_gone(policy)}


def _end_unless_unsent(policy: Policy, copy: str) -> set[str]:
    """A copy that stays owed; in sequence it was never sent."""
    return {_gone(policy)} if policy.copy_order == "sequential" else _end(policy, copy)


def _end_after_no(policy: Policy, copy: str) -> set[str]:
    """The client was told no: what has not happened does not happen any more."""
    if policy.copy_order == "sequential":
        return {"X"}
    if copy in SUCCESSES:
        return {"D"}
    if copy == "400":
        return {"R"}
    return {"X", "L"} if policy.durability == "off" else {"X"}


def _failed_over(policy: Policy, copy: str) -> Expected:
    """The other side answers for the authority, unless it fails too."""
    if copy in SUCCESSES:
        return Expected({status_of(copy)}, {"H"}, {"D"})
    if copy == "400":
        return Expected({400}, {"X"}, {"R"})
    if copy in NO:
        answered = Expected({status_of(copy)}, {"X"}, {"R"})
        if policy.copy_order == "sequential":
            return answered
        # When the copy's refusal came first, it was a copy's: to be tried again.
        return Expected({202} | answered.statuses, {"H"} | answered.authority, {_gone(policy)} | answered.copy)
    return Expected({202}, {"H"}, {"H"} if policy.copy_order == "sequential" else {"H", _gone(policy)})
