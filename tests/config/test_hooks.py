"""What may pause and revert from outside: what is wrong with it is said with line and column."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.config.cases import errors, marked, settings, top

RULE = "{labels: {alertname: A}, route: events, action: revert}"


def hooks(rules: str) -> str:
    return top(f"hooks:\n  alertmanager:\n    rules: [{rules}]")


def test_a_good_one() -> None:
    found = settings(hooks(f"{RULE}, {{labels: {{severity: critical}}, route: '*', action: pause}}")).hooks
    assert found.webhook is None
    assert found.alertmanager is not None
    assert found.alertmanager.max_age == 86400
    assert [(rule.route, rule.action) for rule in found.alertmanager.rules] == [("events", "revert"), ("*", "pause")]


def test_the_rules_of_the_example_ask_for_the_route_that_they_are_about() -> None:
    """An alert of another route would act on this one."""
    text = (Path(__file__).parents[2] / "deploy" / "prometheus" / "alertmanager.yml").read_text()
    head = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#   ")]
    hook = settings(top(textwrap.dedent("\n".join(head)))).hooks.alertmanager
    assert hook is not None
    assert [(rule.action, rule.labels.get("route"), rule.route) for rule in hook.rules] == [
        ("revert", "events", "events"),
        ("pause", "events", "events"),
    ]


@pytest.mark.parametrize(
    ("text", "says", "suggestion"),
    [
        (hooks(RULE.replace("events", "§evens")), "there is no route 'evens'; there is events", "events"),
        (hooks(RULE.replace("events", '§"**"')), "expected a route's name", ""),
        (hooks(RULE.replace("revert", "§rever")), "expected", "revert"),
        (hooks("§" + RULE.replace("route: events, ", "")), "missing key 'route'", ""),
        (hooks(RULE.replace("{alertname: A}", "§{}")), "at least one is needed", ""),
        (hooks(RULE.replace("alertname: A", "§alert-name: A")), "a label's name is", ""),
        (hooks(RULE.replace("A}", "§5}")), "expected a string", ""),
        (hooks(f"{RULE}, {RULE.replace('{alertname: A}', '§{alertname: A, b: c}')}"), "rule 1 takes every alert", ""),
        (top("hooks: {alertmanager: §{}}"), "missing key 'rules'", ""),
        (top("hooks: {webhook: {routes: [§evens]}}"), "there is no route 'evens'", "events"),
        (top("hooks: {webhook: {actions: [§raise]}}"), "expected", "pause"),
        (top("hooks: {§alertmanger: {}}"), "unknown key 'alertmanger'", "alertmanager"),
    ],
)
def test_a_bad_one(text: str, says: str, suggestion: str) -> None:
    plain, places = marked(text)
    (error,) = errors(plain)
    assert [(error.line, error.column)] == places, error
    assert says in error.message
    assert error.suggestion == suggestion
