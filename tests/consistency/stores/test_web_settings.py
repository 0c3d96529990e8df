"""Settings of stores that are asked over HTTP: what is refused, so that nobody finds out at night."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from config.stores import HttpStore, InfluxDB1Store, InfluxDB2Store

INFLUX1: dict[str, Any] = {"url": "http://127.0.0.1:8086", "database": "home"}
INFLUX2: dict[str, Any] = {"url": "https://influx:8086/base", "org": "o", "bucket": "b"}
HTTP: dict[str, Any] = {
    "url": "https://a.internal/events?from={start}&to={end}",
    "identity": ("/id",),
    "time": "/at",
}


def read(settings: dict[str, Any]) -> Any:
    kind: type[BaseModel] = HttpStore
    if "database" in settings:
        kind = InfluxDB1Store
    elif "org" in settings:
        kind = InfluxDB2Store
    return kind.model_validate(settings)


@pytest.mark.parametrize("settings", [INFLUX1, INFLUX2, HTTP])
def test_the_least_that_is_needed(settings: dict[str, Any]) -> None:
    assert read(settings).timeout == 10.0


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        *(
            (settings, {"url": url}, words)
            for settings in (INFLUX1, INFLUX2)
            for url, words in (
                ("127.0.0.1:8086", "must be http://host:port"),
                ("ftp://a", "must be http://host:port"),
                ("http://", "must be http://host:port"),
                ("http://a:99999", "is no address"),
                ("http://user:secret@a", "must hold no user and password"),
                ("http://a/?db=x", "neither a query nor a fragment"),
                ("http://a/#x", "neither a query nor a fragment"),
                ("http://a/{start}", "stands for nothing here; there are: none"),
                ("http://größe", "printable ASCII"),
                ("http://a b", "printable ASCII"),
            )
        ),
        (INFLUX1, {"username": "u", "password": "p", "password_file": "f"}, "both password and password_file"),
        (INFLUX1, {"password": "p"}, "a password is given without a username"),
        (INFLUX1, {"password_file": "f"}, "a password is given without a username"),
        (INFLUX1, {"username": "a:b"}, "no colon"),
        (INFLUX2, {"token": "t", "token_file": "f"}, "both token and token_file"),
        (HTTP, {"authorization": "a", "authorization_file": "f"}, "both authorization and authorization_file"),
        (HTTP, {"url": "https://a/?from={start}"}, "needs {end}"),
        (HTTP, {"url": "https://a/?from={start}&to={end}&x={when}"}, "{when} stands for nothing here"),
        (HTTP, {"url": "https://a/?from={start}&to={end}&x={cursor}"}, "belong together"),
        (HTTP, {"cursor": "/next"}, "belong together"),
        (HTTP, {"url": "https://u:p@a/?from={start}&to={end}"}, "must hold no user"),
        (HTTP, {"url": "https://a/?from={start}&to={end}#x"}, "must have no fragment"),
        (HTTP, {"event_url": "https://a/events"}, "needs {identity}"),
        (HTTP, {"write_url": "https://a/{cursor}"}, "stands for nothing here; there are: {identity}"),
        (HTTP, {"identity": ("id",)}, "'id' is not a JSON pointer"),
        (HTTP, {"time": "/a~2"}, "is not a JSON pointer"),
        (HTTP, {"fields": "data"}, "is not a JSON pointer"),
        (HTTP, {"headers": {"a b": "c"}}, "is not the name of a header"),
        (HTTP, {"headers": {"a": "b\r\nc: d"}}, "not one line of text"),
        (HTTP, {"headers": {"authorization": "x"}}, "has a setting of its own"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(settings | changes)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_credential_is_shown() -> None:
    for settings in (
        INFLUX1 | {"username": "u", "password": "secret"},
        INFLUX2 | {"token": "secret"},
        HTTP | {"authorization": "secret", "headers": {"X-Key": "secret"}},
    ):
        assert "secret" not in repr(read(settings))
