"""Who is told: what is wrong with it is said with line and column, and never with its secrets."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import proxy.control
from config.model import Settings
from config.notifications import ACTIONS, EXAMPLE
from config.reference import reference
from proxy.control.audit import Entry
from proxy.control.changes import position
from proxy.control.state import RouteState
from proxy.core.notification import as_webhook
from tests.config.cases import BASE, errors, marked, settings, top

GOOD = "name: chat, url: 'https://hooks.example.com/T0/SECRET'"


def receivers(*each: str) -> str:
    return top(f"notifications: [{', '.join(f'{{{one}}}' for one in each)}]")


def test_a_good_one() -> None:
    (found,) = settings(receivers(f"{GOOD}, kind: slack, events: [revert, rollout-*]")).notifications
    assert (found.kind, found.timeout) == ("slack", 5.0)
    assert [found.wants(action) for action in ("revert", "rollout-step", "rearm")] == [True, True, False]
    (found,) = settings(receivers(GOOD)).notifications
    assert all(found.wants(action) for action in (*ACTIONS, "what comes later"))


def test_files_lie_beside_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "crossfade.yaml"
    (found,) = settings(receivers(f"{GOOD}, authorization_file: token"), path=file).notifications
    assert found.authorization_file == str(tmp_path / "token")


@pytest.mark.parametrize(
    ("text", "says", "suggestion"),
    [
        (receivers("name: chat, url: §'ftp://SECRET/'"), "must be http://host:port", ""),
        (receivers("name: chat, url: §'https://u:SECRET@host/'"), "must hold no user and password", ""),
        (receivers("name: chat, url: §'https://[SECRET'"), "is no address", ""),
        (receivers("§name: chat").replace("§name", "name").replace("{name", "§{name"), "missing key 'url'", ""),
        (receivers(f"{GOOD}, events: [§reverts]"), "nothing is called 'reverts'", "revert"),
        (receivers(f"{GOOD}, events: [§nothing-*]"), "nothing is called 'nothing-*'", ""),
        (receivers(f"{GOOD}, kind: §slak"), "expected", "slack"),
        (receivers(f"{GOOD}, timeout: §0s"), "must be more than 0", ""),
        (receivers(f'{GOOD}, headers: §{{A: "SECRET\\n"}}'), "its value is not one line", ""),
        (receivers(f"§{GOOD}, authorization: SECRET, authorization_file: x").replace("{§", "§{"), "keep one", ""),
        (receivers(GOOD, GOOD.replace("chat", "§chat")), "two receivers are called 'chat'", ""),
    ],
)  # fmt: skip
def test_a_bad_one(text: str, says: str, suggestion: str) -> None:
    plain, places = marked(text)
    (error,) = errors(plain)
    assert [(error.line, error.column)] == places, error
    assert says in error.message
    assert error.suggestion == suggestion
    assert "SECRET" not in str(error)


def test_secrets_are_in_no_representation() -> None:
    found = settings(receivers(f"{GOOD}, authorization: SECRET, headers: {{A: SECRET}}"))
    assert isinstance(found, Settings)
    assert "SECRET" not in repr(found)
    assert settings(BASE).notifications == ()


def test_everything_that_is_written_to_the_audit_trail_can_be_named() -> None:
    """Whoever adds an action adds it there, or nobody could ask for it."""
    folder = Path(proxy.control.__file__).parent
    written = {each for file in folder.glob("*.py") for each in _actions(ast.parse(file.read_text()))}
    assert {"revert", "set-weight", "rollout-start", "token-create", "not-applied", "alert-resolved"} <= written
    assert written <= set(ACTIONS)


def test_all_names_and_what_is_posted_are_on_the_reference_page() -> None:
    page = reference()
    for name in ACTIONS:
        assert re.search(rf"^\| `{name}` \| \S.*\|$", page, re.MULTILINE), name
    assert EXAMPLE in page
    shown = json.loads(EXAMPLE)
    entry = Entry(**{name: value for name, value in shown.items() if name not in ("id", "instance")})
    posted = as_webhook(msgspec.to_builtins(entry), name=shown["id"], instance=shown["instance"])
    assert json.loads(posted) == shown
    assert list(json.loads(posted)) == list(shown)
    assert set(shown["after"]) == set(position(RouteState()))


_POSITION = {"turn": 1, "_turn": 1, "record": 1, "_record": 1, "_tell": 2, "_act": 1, "Entry": 4, "_dead": 1}
"""Functions that take an action, and where."""


def _actions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [keyword.value for keyword in node.keywords if keyword.arg == "action"]
        if name in _POSITION:
            given += node.args[_POSITION[name] : _POSITION[name] + 1]
        yield from (each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str))
