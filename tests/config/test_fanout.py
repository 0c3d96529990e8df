"""Fanout routes and their consumers: what does not fit is said with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.cases import errors, marked, settings

GOOD = """\
version: 1
salt: a-salt-for-tests
backends:
  old: {consumer: {token: token-of-old}}
  new: {consumer: {token_file: new.token}}
routes:
  - name: events
    match: {path: /api/websocket, methods: [POST]}
    key: json:/entity_id
    ack: accepted
    fanout: {}
sources:
  - name: home
    route: events
    home_assistant: {url: "ws://h:8123/api/websocket", token: secret-token, snapshot: initial}
"""
PLAIN = 'other: {url: "http://127.0.0.1:9001"}'


def test_a_good_one(tmp_path: Path) -> None:
    found = settings(GOOD, path=tmp_path / "c.yaml")
    old, new = found.backends["old"], found.backends["new"]
    assert (old.consumer is not None, new.consumer is not None) == (True, True)
    assert new.consumer is not None
    assert new.consumer.token_file == str(tmp_path / "new.token")
    assert (old.url, old.where, old.is_tls, old.is_by_ledger("http")) == ((), "connects to the proxy", False, True)
    assert found.routes[0].taken.methods == ("GET", "POST")
    assert "token-of-old" not in repr(found)
    longest = settings(GOOD.replace("of-old}", "of-old, redeliver_window: 10m}")).backends["old"].consumer
    assert longest is not None
    assert longest.redeliver_window == 600.0


@pytest.mark.parametrize(
    ("text", "says", "suggestion"),
    [
        (GOOD.replace("old: {consumer: {token: token-of-old}}", "old: §{connections: 3}"), "missing key 'url'", ""),
        (GOOD.replace("{consumer: {token: t", '{§url: "http://h:1", consumer: {token: t'), "means nothing beside", ""),
        (GOOD.replace("of-old}}", "of-old}, §health: {}}"), "means nothing beside `consumer`", ""),
        (GOOD.replace("{token: token-of-old}", "§{}"), "needs token or token_file", ""),
        (GOOD.replace("token: token-of-old", "token: §[token-of-old]"), "expected", ""),
        (GOOD.replace("of-old}", "of-old, redeliver_window: §11m}"), "10m at most", "10m"),
        (GOOD.replace("{token: token-of-old}", "§{token: a, token_file: b}"), "keep one", ""),
        (GOOD.replace("ack: accepted", "ack: §both"), "nobody waits for what a consumer says", "accepted"),
        (GOOD.replace("[POST]", "§[GET, POST]"), "how consumers connect", ""),
        (GOOD.replace("fanout: {}", "fanout: {}\n    stage: §shadow"), "what is not owed", "dualwrite"),
        (GOOD.replace("fanout: {}", "fanout: {}\n    copy_order: §sequential"), "its own pace", "parallel"),
        (GOOD.replace("fanout: {}", "fanout: {}\n    §stream: true"), "means nothing in a fanout route", ""),
        (GOOD.replace("fanout: {}", "fanout: {}\n    §preview_host: a.b"), "means nothing in a fanout route", ""),
        (GOOD.replace("fanout: {}", "fanout: {ha_version: §newest}"), "should match pattern", ""),
        (GOOD.replace("fanout: {}", "§fanout:"), "nothing stands behind it", ""),
        (GOOD.replace("snapshot: initial", "snapshot: §gap"), "all must have been", "initial"),
        (
            GOOD.replace("  new: {c", f"  {PLAIN}\n  new: {{c").replace("fanout: {}", "fanout: {}\n    old: §other"),
            "both sides",
            "",
        ),
        (
            GOOD.replace("token_file: new.token", "token: token-of-old").replace(
                "fanout: {}", "fanout: {}\n    new: §new"
            ),
            "same token",
            "",
        ),
        (
            GOOD.replace("token: token-of-old", "token_file: new.token").replace(
                "fanout: {}", "fanout: {}\n    new: §new"
            ),
            "same token",
            "",
        ),
        (f"{GOOD}default: §old\n", "is a consumer, and takes no requests", ""),
    ],
)
def test_what_does_not_fit(text: str, says: str, suggestion: str) -> None:
    given, places = marked(text)
    found = errors(given)
    assert [(error.line, error.column) for error in found if says in error.message] == places, found
    assert next(error.suggestion for error in found if says in error.message) == suggestion


def test_a_consumer_is_of_fanout_routes_alone_and_of_one_of_them() -> None:
    found = errors(GOOD.replace("    fanout: {}\n", ""))
    assert {error.message for error in found} == {
        f"backend {name} is a consumer, which a route with `fanout: {{}}` feeds" for name in ("old", "new")
    }
    second = GOOD[GOOD.index("  - name: events") : GOOD.index("sources:")]
    second = second.replace("events", "more").replace("/api/websocket", "/more")
    found = errors(GOOD.replace("sources:", f"{second}sources:"))
    assert {error.message for error in found} == {
        f"consumer {name} is fed by route 'events' already" for name in ("old", "new")
    }


def test_one_consumer_is_not_said_to_have_the_same_token_as_a_backend_that_is_none() -> None:
    found = errors(GOOD.replace("  new: {consumer: {token_file: new.token}}", '  new: {url: "http://127.0.0.1:9001"}'))
    assert [error.message for error in found] == [
        "both sides of a fanout route are consumers, and backend new has a url"
    ]


def test_another_server_is_no_source_for_them() -> None:
    text = GOOD[: GOOD.index("    home_assistant")] + '    websocket: {url: "ws://h:9/s"}\n'
    assert "feeds consumers of a Home Assistant" in " ".join(error.message for error in errors(text))
