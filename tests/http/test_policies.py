"""Every policy against everything that two backends can do: the client's status and the record of both sides."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import pytest

from proxy.core.event import NEW, OLD
from proxy.core.routing import Dials
from tests.http.oracle import POLICIES, WORDS, Policy, expect
from tests.http.rig import DUAL, LIVE, Rig, event_bytes, key_for, make_route, running
from tests.http.script import Script

BACKEND = {"response_timeout": "800ms", "connections": 512}  # long beside SLOW, also on a machine that stalls
Words: TypeAlias = Callable[[int], list[tuple[str, str]]]
_NOT_ENDS = str.maketrans("", "", "AO")


async def check_event(
    rig: Rig, script: Script, policy: Policy, side: int, dials: Dials, words: tuple[str, str], said: Counter[int]
) -> str:
    """Send one event and compare; what is wrong, or empty. words: what the authority and the copy do; said: gets the
    hundreds of the answer's status.
    """
    authority, copy = words
    event_id = f"{dials.stage}-{side}-{authority}-{copy}"
    names = ("old", "new") if side == OLD else ("new", "old")
    answer = await rig.ask(event_bytes(event_id, key=key_for(side, dials), **dict(zip(names, words, strict=True))))
    said[answer.status // 100] += 1
    was_safe = policy.durability == "off" or not 200 <= answer.status < 300 or script.is_safe(event_id)
    await rig.settled()
    story = rig.story(event_id)
    ends = [text.translate(_NOT_ENDS)[-1:].upper() for text in (story[side], story[1 - side])]
    wanted = expect(policy, authority, copy, can_fail_over=side == NEW or dials.weight > 0)
    is_right = answer.status in wanted.statuses and ends[0] in wanted.authority and ends[1] in wanted.copy
    if is_right and was_safe:
        return ""
    return f"{event_id}: {answer.status} {story} safe={was_safe}, wanted {wanted}"


async def check_all(rig: Rig, policy: Policy, words: Words) -> None:
    """Send an event for each pair of words and each way to have an authority, all at the same time.

    words: what the authority and the copy may do, given the authority's side.
    """
    script = Script(rig)
    wrong = []
    said: Counter[int] = Counter()
    batches: list[tuple[Dials, tuple[int, ...]]] = [(LIVE, (OLD, NEW))]
    if (policy.ack, policy.on_authority_down) == ("authority", "failover"):
        batches.append((DUAL, (OLD,)))  # at weight 0 nothing fails over to new
    for dials, sides in batches:
        rig.turn(dials)
        events = [(side, pair) for side in sides for pair in words(side)]
        wrong += await asyncio.gather(
            *(check_event(rig, script, policy, side, dials, pair, said) for side, pair in events)
        )
    assert [text for text in wrong if text] == []
    route = rig.plane.routes[0]
    assert (route.accepted, route.failed, route.answered_else) == (said[2], said[5], said[4])
    rig.check_ends()
    if policy.durability == "before-send":
        assert script.early == []
    if policy.ack == "accepted":
        assert rig.old.seen == rig.new.seen == []


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", POLICIES, ids=str)
async def test_every_policy_against_everything_that_two_sides_do(policy: Policy) -> None:
    pairs = [(authority, copy) for authority in WORDS for copy in WORDS]
    async with running(make_route(**policy._asdict()), backend=BACKEND) as rig:
        await check_all(rig, policy, lambda side: pairs)


@pytest.mark.asyncio
@pytest.mark.parametrize("down", [("old",), ("new",), ("old", "new")], ids="-and-".join)
@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.ack != "accepted"], ids=str)
async def test_every_policy_while_a_side_refuses_connections(policy: Policy, down: tuple[str, ...]) -> None:
    def words(side: int) -> list[tuple[str, str]]:
        names = ("old", "new") if side == OLD else ("new", "old")
        first, second = (["refused"] if name in down else ["200", "400", "500"] for name in names)
        return [(authority, copy) for authority in first for copy in second]

    async with running(make_route(**policy._asdict()), backend=BACKEND, down=down) as rig:
        await check_all(rig, policy, words)
