"""Every key of the model is classified, and a changed file says what it changes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from config.changes import (
    ABSENT,
    EVERYBODY,
    HIDDEN,
    OTHER,
    PRESENT,
    RULES,
    changes,
    digest,
    flatten,
    redacted,
    rule_of,
    touched,
)
from config.describe import keys, sections
from config.loader import load
from config.model import Settings

KEYS = [f"{section.path}.{key.name}".lstrip(".") for section in sections() for key in keys(section.model)]

FILE: dict[str, Any] = {
    "version": 1,
    "listen": ["127.0.0.1:8080"],
    "salt": "0123456789abcdef",
    "backends": {"old": {"url": "http://127.0.0.1:9001"}, "new": {"url": "http://127.0.0.1:9002"}},
}


def settings(**other: Any) -> Settings:
    return load("crossfade.yaml", text=yaml.safe_dump(FILE | {"routes": [route()]} | other), environ={})


def route(**other: Any) -> dict[str, Any]:
    return {"name": "events", "match": {"path": "/api/v1/events"}} | other


def changed(before: Settings, after: Settings) -> list[tuple[str, str, str, str]]:
    return [(each.key, each.before, each.after, each.rule.kind) for each in changes(flatten(before), flatten(after))]


def in_a_file(key: str) -> str:
    """A key of the reference as one of a file: `routes[].match.path` is `routes.x.match.path` there."""
    return re.sub(r"\[\]|\.NAME", ".x", key)


def is_named(key: str) -> bool:
    """Does a rule say of this very key, or of what it stands in, what it needs?"""
    return rule_of(in_a_file(key)).pattern != ""


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_classified(key: str) -> None:
    assert is_named(key), f"config.changes.RULES says nothing of {key}"


def test_a_new_section_would_be_missed() -> None:
    assert not is_named("novelty.key")
    assert rule_of("novelty.key").kind == "startup", "whoever is replaced reads everything anew"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.pattern)
def test_every_rule_is_of_a_key(rule: Any) -> None:
    found = [key for key in KEYS if f"{in_a_file(key)}.".startswith(f"{rule.pattern.replace('*', 'x')}.")]
    assert found, "no key begins so"
    assert (rule.kind == "fixed") == bool(rule.why), "what is refused is explained"
    if rule.kind == "startup":
        assert rule.processes == EVERYBODY


@pytest.mark.parametrize(
    ("key", "kind", "processes"),
    [
        ("routes.events.copy_wait", "live", {"supervisor", "workers"}),
        ("routes.events.trigger.error_rate", "live", {"supervisor"}),
        ("routes.events.durability", "startup", EVERYBODY),
        ("routes.copy_wait", "startup", EVERYBODY),  # a route of that name
        ("backends.old.response_timeout", "live", {"supervisor", "workers", "ledger"}),
        ("backends.old.url", "startup", EVERYBODY),
        ("backends.old.health.interval", "live", {"supervisor", "workers"}),
        ("listen.0.tls.cert", "startup", EVERYBODY),
        ("listen.1", "startup", EVERYBODY),
        ("ledger.retain", "live", {"supervisor", "ledger"}),
        ("consistency.0.old.sqlite.file", "live", {"supervisor", "checker"}),
        ("salt", "fixed", set()),
    ],
)
def test_rules(key: str, kind: str, processes: set[str]) -> None:
    assert (rule_of(key).kind, set(rule_of(key).processes)) == (kind, set(processes))


def test_nothing_changed() -> None:
    assert changes(flatten(settings()), flatten(settings())) == ()
    assert digest(flatten(settings())) == digest(flatten(settings()))


def test_values_are_shown_as_they_are_written() -> None:
    after = settings(workers=3, ledger={"retain": "7d"}, routes=[route(copy_wait="20ms", weight=25, stage="live")])
    assert changed(settings(), after) == [
        ("workers", "2", "3", "startup"),
        ("routes.events.stage", "off", "live", "live"),
        ("routes.events.weight", ABSENT, "25", "live"),
        ("routes.events.copy_wait", "5ms", "20ms", "live"),
        ("ledger.retain", "1d", "7d", "live"),
    ]
    assert digest(flatten(after)) != digest(flatten(settings()))


def test_what_comes_or_goes_is_one_change() -> None:
    more = settings(
        routes=[route(), route(name="more", match={"path": "/more"})],
        backends=FILE["backends"] | {"third": {"url": "http://127.0.0.1:9003"}},
    )
    came = changed(settings(), more)
    assert came == [
        ("routes", "[events]", "[events, more]", "startup"),
        ("backends.third", ABSENT, PRESENT, "startup"),
        ("routes.more", ABSENT, PRESENT, "startup"),
    ]
    went = changed(more, settings())
    assert ("routes.more", PRESENT, ABSENT, "startup") in went
    assert not [key for key, *_ in went if key.startswith("routes.more.")]


def test_an_optional_mapping_that_comes() -> None:
    backends = {**FILE["backends"], "old": {"url": "http://127.0.0.1:9001", "health": {"path": "/alive"}}}
    assert changed(settings(), settings(backends=backends)) == [("backends.old.health", ABSENT, PRESENT, "live")]


def test_the_order_of_routes_is_a_change() -> None:
    first, second = route(), route(name="more", match={"path": "/more"})
    assert changed(settings(routes=[first, second]), settings(routes=[second, first])) == [
        ("routes", "[events, more]", "[more, events]", "startup")
    ]


def test_secrets_are_not_shown_and_not_kept() -> None:
    def with_secret(value: str) -> Settings:
        return settings(backends=FILE["backends"] | {"old": {"url": "http://127.0.0.1:9001", "authorization": value}})

    before, after = flatten(with_secret("Bearer first")), flatten(with_secret("Bearer second"))
    (change,) = changes(before, after)
    assert (change.key, change.before, change.after) == ("backends.old.authorization", HIDDEN, OTHER)
    (came,) = changes(flatten(settings()), before)
    assert (came.before, came.after) == (ABSENT, HIDDEN)
    for told in (before, redacted(before)):
        assert "first" not in repr(told)
        assert FILE["salt"] not in repr(told)
    assert redacted(before)["salt"] == HIDDEN


def test_another_salt_is_refused() -> None:
    (change, *_) = changes(flatten(settings()), flatten(settings(salt="another one, long enough")))
    assert (change.key, change.rule.kind) == ("salt", "fixed")
    assert "start it with a new state_dir" in change.rule.why


def test_who_is_touched() -> None:
    found = changes(flatten(settings()), flatten(settings(ledger={"retain": "7d"}, admin={"tcp": "off"})))
    assert touched(found) == {"supervisor", "ledger"}


def test_a_key_that_another_version_does_not_know_is_no_change() -> None:
    now = flatten(settings())
    earlier = {key: value for key, value in now.items() if not key.startswith("drain") and not key.endswith(".pins")}
    del earlier["routes.events.copy_wait"], earlier["ledger.retain"]
    assert changes(earlier, now) == ()
    assert changes(now, earlier) == ()
    assert digest(earlier) != digest(now)


def test_a_list_that_gets_its_first_entry() -> None:
    receiver = {"name": "chat", "url": "http://127.0.0.1:9095/hook"}
    assert changed(settings(), settings(notifications=[receiver])) == [("notifications.chat", ABSENT, PRESENT, "live")]
    assert changed(settings(notifications=[receiver]), settings()) == [("notifications.chat", PRESENT, ABSENT, "live")]
