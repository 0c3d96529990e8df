"""`on_authority_down`: failover to old is always allowed; to new only at weight > 0 and not latched, else
accept; with copy off only if no byte was sent or the client itself gave the event an id."""

from __future__ import annotations

from itertools import product

import pytest

from proxy.core.authority_down import Remedy, remedy
from proxy.core.event import NEW, OLD

WEIGHTS = (0.0, 0.01, 50.0, 100.0)
FLAGS = (False, True)
SITUATIONS = list(product((OLD, NEW), WEIGHTS, FLAGS, FLAGS, FLAGS, FLAGS))


def apply(policy: str, situation: tuple[int, float, bool, bool, bool, bool]) -> Remedy:
    authority, weight, latched, copy_on, sent, client_id = situation
    return remedy(
        policy,
        authority=authority,
        weight=weight,
        latched=latched,
        copy_on=copy_on,
        sent=sent,
        client_id=client_id,
    )


# authority  weight  latched  copy  sent  client_id   remedy
SCRIPT = """
    new      50      no       on    yes   no          FAILOVER
    new      50      yes      on    yes   no          FAILOVER
    new      100     no       on    yes   no          FAILOVER
    new      0       yes      on    yes   no          FAILOVER
    new      50      no       off   no    no          FAILOVER
    new      50      no       off   yes   yes         FAILOVER
    new      50      no       off   no    yes         FAILOVER
    new      50      no       off   yes   no          FAIL
    new      100     no       off   yes   no          FAIL
    old      50      no       on    yes   no          FAILOVER
    old      0.01    no       on    yes   no          FAILOVER
    old      0       no       on    yes   no          ACCEPT
    old      0       no       on    no    yes         ACCEPT
    old      0       yes      on    yes   no          ACCEPT
    old      50      yes      on    yes   no          ACCEPT
    old      0       no       off   no    no          ACCEPT
    old      0       no       off   yes   no          ACCEPT
    old      50      no       off   no    no          FAILOVER
    old      50      no       off   yes   yes         FAILOVER
    old      50      no       off   yes   no          FAIL
"""


@pytest.mark.parametrize("line", [" ".join(line.split()) for line in SCRIPT.strip().splitlines()])
def test_failover(line: str) -> None:
    authority, weight, latched, copy, sent, client_id, expected = line.split()
    situation = (
        OLD if authority == "old" else NEW,
        float(weight),
        latched == "yes",
        copy == "on",
        sent == "yes",
        client_id == "yes",
    )
    assert apply("failover", situation) is Remedy[expected]


@pytest.mark.parametrize(("policy", "expected"), [("accept", Remedy.ACCEPT), ("fail", Remedy.FAIL)])
def test_the_other_policies_do_what_they_say_in_every_situation(policy: str, expected: Remedy) -> None:
    assert {apply(policy, situation) for situation in SITUATIONS} == {expected}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_rule_in_the_words_of_the_product(situation: tuple[int, float, bool, bool, bool, bool]) -> None:
    authority, weight, latched, copy_on, sent, client_id = situation
    other_may_answer = authority == NEW or (weight > 0 and not latched)
    cannot_come_twice = copy_on or not sent or client_id
    expected = Remedy.FAIL
    if not other_may_answer:
        expected = Remedy.ACCEPT
    elif cannot_come_twice:
        expected = Remedy.FAILOVER
    assert apply("failover", situation) is expected


def test_with_copy_on_a_failed_new_never_costs_the_client_an_answer() -> None:
    situations = [each for each in SITUATIONS if each[0] == NEW and each[3]]
    assert {apply("failover", situation) for situation in situations} == {Remedy.FAILOVER}
