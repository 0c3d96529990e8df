"""Comparing answers: where it is on, and what is said where it cannot be."""

from __future__ import annotations

import pytest

from tests.config.cases import errors, route, settings


def test_it_is_on_in_shadow_or_where_it_is_asked_for() -> None:
    def found(line: str) -> tuple[bool, bool]:
        made = settings(route(line))
        return made.routes[0].answers is not None, made.needs_checker

    assert found("stage: shadow") == (True, True)
    assert found("compare_answers: {when: always}") == (True, True)
    assert found("stage: dualwrite") == (False, False)


def test_what_is_written_is_read() -> None:
    made = settings(route("compare_answers: {sample: 5%, noise: 'http://10.0.0.9:9001', only_new: compare}")).routes[0]
    assert made.compare_answers is not None
    assert (made.compare_answers.sample, made.compare_answers.noise) == (0.05, "http://10.0.0.9:9001")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("{noise: 'http://127.0.0.1:9001'}", "is backend old: it would store every such event twice"),
        ("{noise: 'http://127.0.0.1:9002'}", "is backend new"),
        ("{noise: 'http://localhost:8080'}", "is this very proxy"),
        ("{noise: 'srv+http://events.internal'}", "must be http://host:port"),
        ("{rules: [{path: /headers/x, compare: ignore}]}", "/headers/x is neither /status nor in /body"),
        ("{sample: 0%}", "greater than 0"),
    ],
)
def test_what_cannot_work_is_said(keys: str, message: str) -> None:
    (error,) = errors(route(f"compare_answers: {keys}"))
    assert message in str(error)


def test_routes_that_have_no_answers() -> None:
    (error,) = errors(route("compare_answers: {}\n    ack: accepted"))
    assert "nobody hears what backends answer" in str(error)
    (error,) = errors(route("compare_answers: {}\n    websocket: {}"))
    assert "WebSocket sessions has no answers" in str(error)
