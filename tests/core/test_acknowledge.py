"""When the client is answered: the whole table for each `ack`, and what must hold whatever the table says."""

from __future__ import annotations

import pytest

from proxy.core.acknowledge import (
    ABSENT,
    FAILED,
    OK,
    REFUSED,
    SAFE,
    STANDINGS,
    WAITING,
    Answer,
    answer,
    tabulate,
)

ACKS = ("authority", "both", "accepted")
PAIRS = [(authority, other) for authority in STANDINGS for other in STANDINGS]

# Rows: what is known of the authority; columns: what is known of the other side.
#   .  nothing yet              A  the authority's answer     O  the other side's answer
#   2  202 Accepted             D  the authority is down
TABLES = {
    "authority": """
                 ABSENT WAITING OK REFUSED FAILED SAFE
        ABSENT   .      .       .  .       .      .
        WAITING  .      .       .  .       .      .
        OK       A      .       A  A       .      A
        REFUSED  A      A       A  A       A      A
        FAILED   D      D       D  D       D      D
        SAFE     2      .       2  2       .      2
    """,
    "both": """
                 ABSENT WAITING OK REFUSED FAILED SAFE
        ABSENT   .      .       .  .       .      .
        WAITING  .      .       .  .       .      .
        OK       A      .       A  O       O      O
        REFUSED  A      A       A  A       A      A
        FAILED   D      D       D  D       D      D
        SAFE     A      .       A  A       A      A
    """,
    "accepted": """
                 ABSENT WAITING OK REFUSED FAILED SAFE
        ABSENT   .      .       .  .       .      .
        WAITING  .      .       .  .       .      .
        OK       2      .       2  2       .      2
        REFUSED  A      A       A  A       A      A
        FAILED   .      .       .  .       .      .
        SAFE     2      .       2  2       .      2
    """,
}
LETTERS = {
    ".": Answer.WAIT,
    "A": Answer.AUTHORITY,
    "O": Answer.OTHER,
    "2": Answer.ACCEPTED,
    "D": Answer.DOWN,
}
STANDING = {"ABSENT": ABSENT, "WAITING": WAITING, "OK": OK, "REFUSED": REFUSED, "FAILED": FAILED, "SAFE": SAFE}


def read(ack: str) -> list[tuple[str, int, int, Answer]]:
    """The table of one `ack` as (ack, authority, other, answer)."""
    columns, *rows = (line.split() for line in TABLES[ack].strip().splitlines())
    return [
        (ack, STANDING[row[0]], STANDING[column], LETTERS[letter])
        for row in rows
        for column, letter in zip(columns, row[1:], strict=True)
    ]


SCRIPT = [case for ack in ACKS for case in read(ack)]


@pytest.mark.parametrize(("ack", "authority", "other", "expected"), SCRIPT)
def test_the_table(ack: str, authority: int, other: int, expected: Answer) -> None:
    assert answer(ack, authority, other) is expected


def test_the_table_is_whole() -> None:
    assert len(SCRIPT) == len({case[:3] for case in SCRIPT}) == 3 * 6 * 6


@pytest.mark.parametrize("ack", ACKS)
def test_the_hot_path_reads_the_same_rule(ack: str) -> None:
    table = tabulate(ack)
    assert len(table) == 36
    for authority, other in PAIRS:
        assert table[authority * 6 + other] is answer(ack, authority, other)


def is_promise(ack: str, authority: int, other: int) -> bool:
    """Is the client told a 2xx? The authority's answer is one when its standing is OK; the other's likewise."""
    said = answer(ack, authority, other)
    return (
        said is Answer.ACCEPTED
        or (said is Answer.AUTHORITY and authority == OK)
        or (said is Answer.OTHER and other == OK)
    )


@pytest.mark.parametrize("ack", ACKS)
@pytest.mark.parametrize(("authority", "other"), PAIRS)
def test_a_2xx_means_that_no_side_can_lose_the_event(ack: str, authority: int, other: int) -> None:
    if is_promise(ack, authority, other):
        assert authority in (OK, SAFE)
        assert other in (OK, REFUSED, SAFE, ABSENT)


@pytest.mark.parametrize(("authority", "other"), PAIRS)
def test_both_promises_only_what_both_gave(authority: int, other: int) -> None:
    # ABSENT: nothing is due at the other side (copy off), so the authority is all there is.
    assert is_promise("both", authority, other) == (authority == OK and other in (OK, ABSENT))


@pytest.mark.parametrize(("authority", "other"), PAIRS)
def test_both_never_says_202(authority: int, other: int) -> None:
    assert answer("both", authority, other) is not Answer.ACCEPTED


@pytest.mark.parametrize(("authority", "other"), PAIRS)
def test_accepted_never_gives_the_other_sides_answer_nor_asks_for_a_remedy(authority: int, other: int) -> None:
    assert answer("accepted", authority, other) not in (Answer.OTHER, Answer.DOWN)


@pytest.mark.parametrize("ack", ["authority", "both"])
@pytest.mark.parametrize("other", STANDINGS)
def test_a_failed_authority_always_asks_for_a_remedy(ack: str, other: int) -> None:
    assert answer(ack, FAILED, other) is Answer.DOWN


# What may become known next. FAILED may still turn into anything better while it is tried again, SAFE
# into what the delivery brought; an answer and an absence are final.
LATER = {
    ABSENT: (),
    WAITING: (OK, REFUSED, FAILED, SAFE),
    FAILED: (OK, REFUSED, SAFE),
    SAFE: (OK, REFUSED),
    OK: (),
    REFUSED: (),
}


@pytest.mark.parametrize("ack", ACKS)
@pytest.mark.parametrize(("authority", "other"), PAIRS)
def test_more_knowledge_never_takes_an_answer_back(ack: str, authority: int, other: int) -> None:
    if answer(ack, authority, other) in (Answer.WAIT, Answer.DOWN):
        return
    later = [(then, other) for then in LATER[authority]] + [(authority, then) for then in LATER[other]]
    assert not [pair for pair in later if answer(ack, *pair) in (Answer.WAIT, Answer.DOWN)]


@pytest.mark.parametrize("ack", ACKS)
@pytest.mark.parametrize(("authority", "other"), PAIRS)
def test_nobody_waits_once_both_sides_are_settled_or_safe(ack: str, authority: int, other: int) -> None:
    if authority in (OK, REFUSED, SAFE) and other in (OK, REFUSED, SAFE, ABSENT):
        assert answer(ack, authority, other) not in (Answer.WAIT, Answer.DOWN)
