"""References to the environment: what they become, and where a bad one stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.environment import expand
from tests.config.cases import BASE, errors, marked, route, settings, top

ENVIRON = {"A": "one", "EMPTY": "", "N": "3", "DOLLAR": "${A}"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "one"),
        ("x-${A}-${N}", "x-one-3"),
        ("${NONE:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-http://h:1}", "http://h:1"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$${A}", "$one"),
        ("$A 5$ $", "$A 5$ $"),
        ("${DOLLAR}", "${A}"),
    ],
)
def test_expanded(text: str, expanded: str) -> None:
    assert expand(text, ENVIRON) == (expanded, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${NONE}", "the environment variable NONE is not set"),
        ("${A", "without its '}'"),
        ("${}", "expected ${NAME}"),
        ("${1A}", "expected ${NAME}"),
        ("${A-b}", "expected ${NAME}"),
        ("${A:?b}", "expected ${NAME}"),
    ],
)
def test_bad_references(text: str, said: str) -> None:
    expanded, (fault,) = expand(f"${{A}} {text}", ENVIRON)
    assert said in fault.message
    assert fault.number == 1
    assert expanded == f"one {text}"


@given(st.text(alphabet="${}:-Aab", max_size=12))
def test_escaping_protects_everything(text: str) -> None:
    assert expand(text.replace("$", "$$"), ENVIRON) == (text, [])


def test_unquoted_reference_has_the_type_of_its_value() -> None:
    text = top("workers: ${N}\nlog: {level: '${LEVEL:-debug}'}\nledger:\n  retain_bodies: ${KEEP:-true}")
    loaded = settings(text, ENVIRON)
    assert (loaded.workers, loaded.log.level, loaded.ledger.retain_bodies) == (3, "debug", True)


def test_quoted_reference_stays_a_string() -> None:
    assert settings(BASE.replace("a-salt-of-the-tests", '"${SALT}"'), {"SALT": "12345678"}).salt == "12345678"
    (error,) = errors(top('workers: "${N}"'), ENVIRON)
    assert "expected a whole number, not '3'" in error.message


def test_value_cannot_bring_yaml_with_it() -> None:
    (error,) = errors(route("key: ${KEY}"), {"KEY": "client\nstage: complete"})
    assert "expected json:/pointer" in error.message


def test_keys_are_not_expanded() -> None:
    (error,) = errors(top("${A}: 1"), ENVIRON)
    assert "unknown key '${A}'" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "salt: §${NONE}",
        "salt: x${A}§${NONE}",
        'salt: "é${A} §${NONE} $$ §${ALSO}"',
        "salt: >\n  some words\n  more §${NONE}\n",
        "salt: 'it''s §${NONE}'",
    ],
)
def test_bad_reference_is_at_its_place(text: str) -> None:
    plain, places = marked(BASE.replace("salt: a-salt-of-the-tests", text))
    assert [(error.line, error.column) for error in errors(plain, ENVIRON)] == places


def test_bad_reference_behind_an_escape_is_at_its_string() -> None:
    plain, places = marked(BASE.replace("a-salt-of-the-tests", r'§"a salt \x24{NONE}"'))
    assert [(error.line, error.column) for error in errors(plain)] == places
