"""Traces and logs: what is wrong is said with line and column, and never with its secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.cases import BASE, errors, marked, settings, top

URL = "url: 'http://127.0.0.1:4318/v1/traces'"


def test_nothing_by_default() -> None:
    found = settings(BASE)
    assert (found.tracing, found.log.access) == (None, None)


def test_good_ones(tmp_path: Path) -> None:
    text = top(f"tracing: {{{URL}, sample: 5%, incoming: sample, authorization_file: token}}")
    tracing = settings(text, path=tmp_path / "crossfade.yaml").tracing
    assert tracing is not None
    assert (tracing.sample, tracing.incoming, tracing.service) == (0.05, "sample", "crossfade")
    assert tracing.authorization_file == str(tmp_path / "token")
    access = settings(top("log: {access: {slow: 500ms}}")).log.access
    assert access is not None
    assert (access.slow, access.sample, access.query) == (0.5, 0.0, "redact")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"tracing: {{{URL}, sample: §5}}", "share"),
        (f"tracing: {{{URL}, incoming: §ignore}}", "expected"),
        (f"tracing: {{{URL.replace('http', 'grpc').replace(' ', ' §')}}}", "must be http://host:port"),
        (f"tracing: {{{URL.replace('traces', 'traces?key=SECRET').replace(' ', ' §')}}}", "neither a query"),
        (f"tracing: §{{{URL}, authorization: SECRET, authorization_file: x}}", "keep one"),
        ("log: {access: §{}}", "needs sample, slow or both"),
        ("log: {access: {sample: 1%, query: §all}}", "expected"),
    ],
)
def test_bad_ones(text: str, says: str) -> None:
    plain, places = marked(top(text))
    (error,) = errors(plain)
    assert [(error.line, error.column)] == places, error
    assert says in error.message
    assert "SECRET" not in str(error)


def test_secrets_are_in_no_representation() -> None:
    found = settings(top(f"tracing: {{{URL}, authorization: SECRET, headers: {{A: SECRET}}}}"))
    assert "SECRET" not in repr(found)
