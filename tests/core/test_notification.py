"""What a program and a chat are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.core.notification import MAX_REASON, as_slack, as_webhook, escaped, plain

REVERT: dict[str, Any] = {
    "at": "2026-01-31T12:00:00.000Z",
    "epoch": 4,
    "previous_epoch": 3,
    "actor": "crossfade",
    "action": "revert",
    "route": "events",
    "before": {"weight": 25.0, "copy": "durable", "stage": "live", "latched": False},
    "after": {"weight": 0.0, "copy": "durable", "stage": "dualwrite", "latched": True},
    "reason": "<b> & the breaker\nof new is open",
    "evidence": {"trigger": "breaker"},
}


def text(**changes: Any) -> str:
    said = json.loads(as_slack(REVERT | changes, instance="edge-1"))
    assert list(said) == ["text"]
    return str(said["text"])


def test_a_program_gets_the_entry_with_its_name_and_the_instances() -> None:
    said = json.loads(as_webhook(REVERT, name="n1", instance="edge-1"))
    assert said == {"id": "n1", "instance": "edge-1", **REVERT}


def test_a_chat_gets_a_line_that_begins_nothing() -> None:
    assert text() == (
        "Crossfade at edge-1: revert of events, live 25 % to dualwrite 0 %, latched (epoch 4) by crossfade: "
        "&lt;b&gt; &amp; the breaker of new is open"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"before": {}, "after": {}, "reason": ""}, "Crossfade at edge-1: revert of events (epoch 4) by crossfade"),
        (
            {"action": "drain", "route": "", "before": {}, "after": {}, "actor": "<!channel>", "reason": ""},
            "Crossfade at edge-1: drain (epoch 4) by &lt;!channel&gt;",
        ),
        (
            {"action": "drain", "route": "", "before": {}, "after": {}, "actor": "@all", "reason": "@here"},
            "Crossfade at edge-1: drain (epoch 4) by @\u200ball: @\u200bhere",
        ),
        (
            {"action": "rearm", "before": REVERT["after"], "after": REVERT["after"] | {"latched": False}, "reason": ""},
            "Crossfade at edge-1: rearm of events (epoch 4) by crossfade",
        ),
    ],
)
def test_other_lines(changes: dict[str, Any], said: str) -> None:
    assert text(**changes) == said


def test_a_reason_is_cut() -> None:
    assert text(reason="x" * 5000).count("x") == MAX_REASON


def test_escaping_is_done_once() -> None:
    assert escaped("&lt; <a|b> &") == "&amp;lt; &lt;a|b&gt; &amp;"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("@channel ann@example.org", "@\u200bchannel ann@\u200bexample.org"),
        ("![x](https://e.org/x.png)", "![\u200bx]\u200b(https:\u200b//e.org/x.png)"),
        ("see WWW.e.org, ftp://e.org", "see WWW\u200b.e.org, ftp:\u200b//e.org"),
        ("*bold* `code` ~~no~~", "\u2217bold\u2217 \u02cbcode\u02cb \u223c\u223cno\u223c\u223c"),
        ("_it_ __init__", "\u02cdit\u02cd \u02cd\u02cdinit\u02cd\u02cd"),
        ("crossfade_requests_total #1: 5 % of new's", "crossfade_requests_total #\u200b1: 5 % of new's"),
    ],
)
def test_what_others_wrote_begins_nothing(said: str, told: str) -> None:
    assert plain(said) == told
    for begins in ("](", "://", "*", "`", "~"):
        assert begins not in plain(said)
