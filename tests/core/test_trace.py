"""`traceparent` as W3C has it, and who is drawn."""

from __future__ import annotations

import random

import pytest

from proxy.core.trace import RANDOM_BITS, Sampler, TraceParent, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_valid_one(value: str, is_sampled: bool) -> None:
    assert parse_traceparent(value.encode()) == TraceParent(TRACE, SPAN, is_sampled)


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00{TRACE}{SPAN}01",
    ],
)
def test_what_is_none(value: str) -> None:
    assert parse_traceparent(value.encode()) is None


def test_whoever_follows_goes_by_the_flag() -> None:
    sampler = Sampler(0.0, follows=True)
    assert [sampler.takes(TraceParent(TRACE, SPAN, flag)) for flag in (True, False)] == [True, False]


@pytest.mark.parametrize(("share", "taken"), [(0.0, 0), (1.0, 1000)])
def test_none_and_all(share: float, taken: int) -> None:
    sampler, draws = Sampler(share, follows=False), random.Random(1)
    ids = [f"{draws.getrandbits(128):032x}" for _ in range(1000)]
    assert sum(sampler.takes(TraceParent(each, SPAN, True)) for each in ids) == taken


def test_a_share_is_drawn_by_the_id_alone_and_a_smaller_one_is_part_of_it() -> None:
    draws = random.Random(2)
    ids = [TraceParent(f"{draws.getrandbits(128):032x}", SPAN, False) for _ in range(20_000)]
    tenth = {each.trace for each in ids if Sampler(0.1, follows=False).takes(each)}
    hundredth = {each.trace for each in ids if Sampler(0.01, follows=False).takes(each)}
    assert 1800 < len(tenth) < 2200
    assert hundredth < tenth
    assert Sampler(0.1, follows=False).threshold == round(0.9 * 2**RANDOM_BITS)
