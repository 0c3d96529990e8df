"""Sources: what is wrong with one is said with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.cases import BASE, errors, marked, settings

HOME = 'name: home, route: events, home_assistant: {url: "ws://h:8123/api/websocket", token: secret-token}'
SOCKET = 'name: stream, route: events, websocket: {url: "ws://h:9/s"}'
KEYED = BASE.replace("match: {path: /events}", "match: {path: /events}\n    key: json:/entity_id")


def sources(text: str, base: str = KEYED) -> str:
    return f"{base}sources: [{text}]\n"


def source(text: str, base: str = KEYED) -> str:
    return sources(f"{{{text}}}", base)


def test_a_good_one_of_each_kind(tmp_path: Path) -> None:
    text = sources(f"{{{HOME.replace('token: secret-token', 'token_file: t, ca: c')}}}, {{{SOCKET}}}")
    text = text.replace("ws://h:8123", "wss://h:8123")
    home, stream = settings(text, path=tmp_path / "c.yaml").sources
    assert home.home_assistant is not None
    assert (home.home_assistant.token_file, home.home_assistant.ca) == (str(tmp_path / "t"), str(tmp_path / "c"))
    assert (home.home_assistant.event_types, home.home_assistant.snapshot) == (("state_changed",), "gap")
    assert (home.unaccepted, home.max_message) == (1000, 32 * 2**20)
    assert (stream.kind, stream.websocket is stream.kind) == (stream.websocket, True)


def test_secrets_are_shown_nowhere() -> None:
    found = settings(source(HOME)).sources
    assert "secret-token" not in repr(found)
    (error,) = errors(source(HOME.replace("secret-token", "[secret-token]")))
    assert "secret-token" not in str(error)


@pytest.mark.parametrize(
    ("text", "says", "suggestion"),
    [
        (source(HOME.replace("route: events", "route: §evens")), "there is no route 'evens'", "events"),
        (sources(f"{{{HOME}}}, {{{HOME.replace('home,', '§home,')}}}"), "source 1 is called 'home' already", ""),
        (sources("§{name: home, route: events}"), "one of home_assistant and websocket", ""),
        (sources(f"§{{{HOME}, websocket: {{url: 'ws://h:1'}}}}"), "one of home_assistant and websocket", ""),
        (source(HOME.replace('"ws://h:8123', '§"http://h:8123')), "must be ws://", "ws://h:8123/api/websocket"),
        (source(HOME.replace('"ws://h', '§"ws://u:p@h')), "no user and password", ""),
        (source(SOCKET.replace('"ws://h:9/s"', '§"ws://h:9/s#f"')), "no fragment", ""),
        (source(SOCKET.replace('"ws://h:9/s"', '§"ws://h:99999/"')), "is no address", ""),
        (source(HOME.replace("{url", "§{url").replace(", token: secret-token", "")), "needs token or token_file", ""),
        (source(HOME.replace("{url", "§{url").replace("secret-token", "a, token_file: b")), "keep one", ""),
        (source(HOME.replace("{url", "§{url").replace("secret-token", "a, ca: b")), "ca is for", ""),
        (source(HOME.replace("token}", "token, event_types: §[]}")), "at least one", ""),
        (source(HOME.replace("token}", "token, event_types: §[a, a]}")), "'a' is listed already", ""),
        (source(HOME.replace("token}", 'token, event_types: §["*", a]}')), "'*' is every type", '["*"]'),
        (source(HOME.replace("token}", "token, snapshot: §always}")), "expected one of gap, initial, off", ""),
        (sources(f"§{{{HOME}, retry_initial: 2m}}"), "longer than retry_max", ""),
        (source(f"{HOME}, unaccepted: §0"), "at least 1", ""),
        (source(SOCKET.replace('/s"', '/s", acknowledge: §{id: "{{/id"}')), "begins no placeholder", ""),
        (source(SOCKET.replace('/s"', '/s", acknowledge: §{id: ["{{/a~2}}"]}')), "written ~0", ""),
        (
            source(SOCKET.replace("{url", "§{url").replace('/s"', '/s", acknowledge: {k: ["{{key}}"]}')),
            "no {{key}}",
            "",
        ),
        (source(SOCKET.replace("{url", "§{url").replace('/s"', '/s", acknowledge: "{{id}}"')), "so id must say", ""),
        (source(SOCKET.replace('/s"', '/s", id: §id')), "pattern", ""),
        (source(HOME.replace("events", "§events"), BASE), "has key: client", ""),
        (
            source(HOME.replace("events", "§events"), KEYED + "    event_id: [json:/id]\n"),
            "must begin with header:X-Event-Id",
            "",
        ),
        (source(HOME.replace("events", "§events"), KEYED + "    stream: true\n"), "has stream: true", ""),
        (
            source(SOCKET.replace("events", "§events"), KEYED + "    event_id: []\n"),
            "must begin with header:X-Event-Id",
            "",
        ),
        (
            source(HOME.replace("events", "§events"), KEYED.replace("/events}", "/events, methods: [PUT]}")),
            "takes no POST",
            "",
        ),
        (
            source(HOME.replace("events", "§events"), KEYED + "    websocket: {}\n").replace(
                "key: json:/entity_id", ""
            ),
            "takes sessions",
            "",
        ),
        (sources(f"§{{{HOME}}}", KEYED.replace("/events}", "/events/*}")), "needs a path", ""),
        (source(f"{HOME}, path: §/other"), "takes /events", ""),
        (
            source(
                HOME.replace("events", "§events"),
                KEYED.replace("routes:\n", 'routes:\n  - {name: all, match: {path: "/{x}"}}\n'),
            ),
            "route 'all' above takes POST /events",
            "",
        ),
    ],
)
def test_what_is_wrong_and_where(text: str, says: str, suggestion: str) -> None:
    plain, places = marked(text)
    found = errors(plain)
    assert [(error.line, error.column) for error in found if says in error.message] == places, found
    assert next(error.suggestion for error in found if says in error.message) == suggestion


def test_a_route_with_parameters_takes_a_path() -> None:
    text = source(f"{HOME}, path: /events/7", KEYED.replace("/events}", '"/events/{n}"}'))
    assert settings(text).sources[0].path == "/events/7"
