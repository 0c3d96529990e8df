"""What a probe is made of, and what is said of one that cannot be sent."""

from __future__ import annotations

import pytest

from config.probe import filled
from tests.config.cases import BASE, errors, settings

STORES = """\
consistency:
  - routes: [events]
    old: {sqlite: {file: old.db, table: event, identity: [id], time: at}}
    new: {sqlite: {file: new.db, table: event, identity: [id], time: at}}
    probe:
"""
FILES = STORES.replace("{sqlite: {file: old.db, table: event,", "{files: {files: old.parquet,").replace(
    "{sqlite: {file: new.db, table: event,", "{files: {files: new.parquet,"
)


def probe(*lines: str, stores: str = STORES, base: str = BASE) -> str:
    return base + stores + "".join(f"      {line}\n" for line in ("path: /events", *lines))


def checkpoint(keys: str) -> str:
    return probe(f"checkpoints: [{{name: a, url: 'http://a', {keys}}}]")


def test_a_whole_one() -> None:
    (check,) = settings(
        probe(
            'body: \'{"id": "{{id}}"}\'',
            "headers: {X-Id: '{{id}}'}",
            "every: 1m",
            "expect: {/state: on, /n: 1, /x: 1.5}",
            "checkpoints:",
            "  - {name: listed, url: 'http://a/{{id}}', pointer: /status, authorization_file: token}",
            "  - {name: counted, url: 'http://a/metrics', metric: 'n_total{a=\"b\"}', rises_by: 2.0}",
        )
    ).consistency
    made = check.probe
    assert made is not None
    assert (made.every, made.timeout, made.visible_within, made.identity) == (60.0, 30.0, 10.0, ("{{id}}",))
    assert [each.name for each in made.checkpoints] == ["listed", "counted"]
    assert made.checkpoints[0].authorization_file == "/tmp/token", "beside the configuration"
    assert (made.uses("id"), made.uses("time_s")) == (True, False)


def test_placeholders_are_filled_in_wherever_they_stand() -> None:
    values = {"id": "7", "time": "now"}
    assert filled("{{id}} {{ time }} {id} {{id}}", values) == "7 now {id} 7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (probe("body: '{{ids}}'"), "{{ids}} stands for nothing here; there are: {{id}}"),
        (probe("headers: {X-Id: '{{uuid}}'}"), "{{uuid}} stands for nothing here"),
        (probe("identity: [fixed]"), "`identity` needs {{id}}"),
        (probe("expect: {state: a}"), "`expect`: state is no JSON pointer"),
        (probe("url: ftp://a"), "must be http://host:port"),
        (probe("url: 'http://a:b@c'"), "must hold no user and password"),
        (probe("timeout: 5s"), "`visible_within` is longer than `timeout`"),
        (probe("every: 1m", stores=FILES), "exported files show no new event"),
        (checkpoint("pointer: /a, metric: b"), "either `pointer`"),
        (checkpoint("equals: 1"), "either `pointer`"),
        (checkpoint("metric: b, equals: 1"), "`equals` belongs to `pointer`"),
        (checkpoint("pointer: /a, equals: '{{n}}'"), "{{n}} stands for nothing here"),
        (checkpoint("pointer: a"), "should match pattern"),
        (checkpoint("metric: 'a b'"), "should match pattern"),
        (checkpoint("metric: 'a{b}'"), "should match pattern"),
        (checkpoint("pointer: /a~5"), "should match pattern"),
        (probe("expect: {/a~5: 1}"), "has a ~ that is neither"),
        (probe("every: 1ms"), "`every` must be at least 1s"),
        (probe('headers: {X-A: "b\\n"}'), "one line of printable ASCII"),
        (probe("headers: {X A: b}"), "X A"),
        (
            probe()
            .replace("path: /events\n      ", "path: /ev ents\n      ")
            .replace("path: /events\n", "path: /ev ents\n"),
            "has a space",
        ),
        (checkpoint("pointer: /a, authorization: a, authorization_file: b"), "keep one"),
        (
            probe("checkpoints: [{name: a, url: 'http://a', pointer: /a}, {name: a, url: 'http://b', pointer: /b}]"),
            "two checkpoints are called a",
        ),
        (
            probe(base=BASE + "listen: [{address: '127.0.0.1:8443', tls: {cert: a.crt, key: a.key}}]\n"),
            "no address of `listen` speaks plain HTTP",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    (error,) = errors(text)
    assert message in str(error)


def test_the_suggestion_is_what_was_meant() -> None:
    (error,) = errors(probe("body: '{{tme}}'"))
    assert "{{time}}" in str(error)
