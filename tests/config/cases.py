"""How the tests of this folder write a bad file: a `§` stands before each place where an error is expected."""

from __future__ import annotations

from pathlib import Path

from config.errors import ConfigError, ConfigErrors
from config.loader import load
from config.model import Settings

ROUTES = """\
routes:
  - name: events
    match: {path: /events}
"""
BACKENDS = """\
backends:
  old: {url: "http://127.0.0.1:9001"}
  new: {url: "http://127.0.0.1:9002"}
"""
HEAD = """\
version: 1
salt: a-salt-of-the-tests
"""
BASE = HEAD + BACKENDS + ROUTES
SHORT_PATH = "/tmp/crossfade.yaml"
"""A name in messages; nothing is read or written there."""


def top(line: str) -> str:
    """The base with more keys at the top level."""
    return f"{BASE}{line}\n"


def route(line: str, path: str = "/events") -> str:
    """The base with more keys in its route."""
    return f"{BASE.replace('/events', path)}    {line}\n"


def old(keys: str) -> str:
    """The base with these keys for its old backend."""
    return BASE.replace('{url: "http://127.0.0.1:9001"}', f"{{{keys}}}")


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and the line and column of each."""
    places = []
    for number, line in enumerate(text.split("\n"), 1):
        for count, part in enumerate(line.split("§")[:-1]):
            before = len("".join(line.split("§")[:count])) + len(part)
            places.append((number, before + 1))
    return text.replace("§", ""), places


def settings(text: str, environ: dict[str, str] | None = None, path: str | Path = SHORT_PATH) -> Settings:
    """What a good file holds."""
    return load(path, text=text, environ=environ or {})


def errors(text: str, environ: dict[str, str] | None = None, path: str | Path = SHORT_PATH) -> list[ConfigError]:
    """What is wrong with a bad file."""
    try:
        load(path, text=text, environ=environ or {})
    except ConfigErrors as caught:
        return list(caught)
    raise AssertionError("the file was taken for a good one")
