"""Credentials of stores come from the environment or from files, and are never written out."""

from __future__ import annotations

import pytest

from config.stores import InfluxDB1Store, InfluxDB2Store, PostgresStore
from tests.config.cases import errors, marked, settings, top

ENVIRON = {"SECRET": "s3cret", "NUMBER": "1234"}
POSTGRES = 'postgres: {url: "postgresql://u@h/db", table: e, identity: [id], time: at, '
INFLUX1 = 'influxdb1: {url: "http://h:1", database: d, username: u, '
INFLUX2 = 'influxdb2: {url: "http://h:1", org: o, bucket: b, '
HTTP = 'http: {url: "http://h:1/?{start}&{end}", identity: [/id], time: /at, '


def check(old: str) -> str:
    """A configuration with a check. old: its old store, with the last brace open."""
    new = "{sqlite: {file: new.db, table: e, identity: [id], time: at}}"
    identity = "none" if "influxdb" in old else "event-id"
    return top(f"consistency:\n  - {{routes: [events], identity: {identity}, old: {{{old}}}}}, new: {new}}}")


@pytest.mark.parametrize(
    "store", [POSTGRES, INFLUX1, INFLUX2, HTTP], ids=["postgres", "influxdb1", "influxdb2", "http"]
)
@pytest.mark.parametrize(
    "value", ["s3cret", "'Bearer s3cret'", "'$SECRET'", "'$${SECRET}'", "'${NONE:-s3cret}'", "'${SECRET:-s3cret}'"]
)
def test_what_is_written_out_is_refused(store: str, value: str) -> None:
    key = {INFLUX2: "token", HTTP: "authorization"}.get(store, "password")
    text, places = marked(check(f"{store}{key}: §{value}"))
    (error,) = errors(text, ENVIRON)
    assert (error.line, error.column) == places[0]
    assert str(error).endswith(f"a credential must not stand in this file: write ${{NAME}}, or set {key}_file")
    assert "s3cret" not in str(error)


def test_what_comes_from_elsewhere_is_taken() -> None:
    def old(store: str) -> object:
        return settings(check(store), ENVIRON).consistency[0].old.settings

    taken = old(f"{POSTGRES}password: '${{SECRET}}'")
    assert isinstance(taken, PostgresStore)
    assert taken.password == "s3cret"
    taken = old(f"{INFLUX2}token: 'a${{SECRET}}z'")
    assert isinstance(taken, InfluxDB2Store)
    assert taken.token == "as3cretz"
    taken = old(f"{INFLUX1}password_file: old.password")
    assert isinstance(taken, InfluxDB1Store)
    assert taken.password_file == "/tmp/old.password"


def test_checks_that_are_none_do_not_matter() -> None:
    for text in ("consistency: 5", "consistency: [5, {old: 5}, {old: {influxdb2: 5}}]"):
        assert "credential" not in "".join(map(str, errors(top(text))))
