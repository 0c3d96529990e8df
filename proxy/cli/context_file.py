"""The file of contexts: names for the instances that somebody works with.

    current: staging
    contexts:
      staging:
        admin:
          - "https://10.0.0.1:9900"
          - "https://10.0.0.2:9900"
        token_file: "/home/ann/staging.token"

It is YAML, but only this form of it is read, line by line: PyYAML alone takes a third of the time that a whole
command may take. What has another form is an error with its line, never a guess.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from proxy.cli.failure import FAILED, USAGE, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_BYTES = 2**20
_HEAD = "# The contexts of proxyctl. `proxyctl context` rewrites the whole file: comments do not stay.\n"
_MEMBER = re.compile(r"( *)([^\s:#'\"\[\]{}-][^\s:#]*):(?: +(.*))?")
_ITEM = re.compile(r"( *)- +(.*)")
_PLAIN = re.compile(r"([A-Za-z0-9/.~_]\S*?)(?<!:)(?:\s+#.*)?")
_AFTER = re.compile(r"(?:\s+#.*)?")


class Context(NamedTuple):
    """admin: addresses, at least one. token_file: path, or empty."""

    admin: tuple[str, ...]
    token_file: str = ""


class Contexts(NamedTuple):
    """What the file says. current: a name in `every`, or empty."""

    current: str
    every: dict[str, Context]


def path() -> str:
    """Where the file is."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(home, "crossfade", "contexts.yaml")


def load() -> Contexts:
    """The contexts, none without a file; Failure (exit 2) with file:line for one that cannot be read."""
    file = path()
    try:
        with open(file, encoding="utf-8") as stream:
            text = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Contexts("", {})
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Failure(USAGE, f"cannot read {file}: {reason}") from None
    return read(text, file)


def chosen(name: str) -> Context:
    """A context by its name; Failure (exit 2) that lists the names when there is none."""
    return look_up(load(), name)


def look_up(contexts: Contexts, name: str) -> Context:
    """The same among contexts that were loaded."""
    if name not in contexts.every:
        names = ", ".join(contexts.every) or "none"
        hint = f"contexts are {names}; make one: proxyctl context set {name} --admin URL"
        raise Failure(USAGE, f"there is no context {name!r} in {path()}", hint=hint)
    return contexts.every[name]


def change(what: Callable[[Contexts], Contexts]) -> Contexts:
    """Replace the file by what a function makes of it, one process at a time; the contexts afterwards."""
    with _alone():
        contexts = what(load())
        _write(render(contexts))
    return contexts


def render(contexts: Contexts) -> str:
    """The file's text. Every value is printable and quoted, which is the same in JSON and in YAML."""
    lines = [_HEAD.rstrip("\n")]
    if contexts.current:
        lines.append(f"current: {_quoted(contexts.current)}")
    lines.append("contexts:" if contexts.every else "contexts: {}")
    for name, context in contexts.every.items():
        lines += [f"  {_quoted(name)}:", "    admin:", *(f"      - {_quoted(each)}" for each in context.admin)]
        if context.token_file:
            lines.append(f"    token_file: {_quoted(context.token_file)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@contextmanager
def _alone() -> Iterator[None]:
    import fcntl

    folder = os.path.dirname(path())
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Failure(FAILED, f"cannot use {folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(text: str) -> None:
    """Put the file whole in its place, readable by its owner alone."""
    file = path()
    new = f"{file}.new"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, 0o600)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(new, file)
    except OSError as error:
        raise Failure(FAILED, f"cannot write {file}: {error.strerror}") from None


def read(text: str, file: str) -> Contexts:
    """Read a file's text. file: its name, for errors."""
    return _Reader(file).read(text)


class _Reader:
    """Reads line by line. `_name` and `_in_admin` are where it is."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._number = 0
        self._current: tuple[int, str] | None = None
        self._has_contexts = False
        self._every: dict[str, dict[str, list[str]]] = {}
        self._begun: dict[str, int] = {}
        self._name = ""
        self._in_admin = False

    def read(self, text: str) -> Contexts:
        for number, line in enumerate(text.split("\n"), 1):
            self._number = number
            stripped = line.strip()
            if stripped and not stripped.startswith("#") and not (number == 1 and stripped == "---"):
                self._take(line.rstrip())
        every = {name: self._finished(name, values) for name, values in self._every.items()}
        if self._current is not None and self._current[1] not in every:
            self._number = self._current[0]
            self._fail(f"current is {self._current[1]!r}, and there is no such context")
        return Contexts(self._current[1] if self._current else "", every)

    def _finished(self, name: str, values: dict[str, list[str]]) -> Context:
        self._number = self._begun[name]
        if not values.get("admin"):
            self._fail(f"context {name!r} has no admin address")
        return Context(tuple(values["admin"]), values.get("token_file", [""])[0])

    def _take(self, line: str) -> None:
        item = _ITEM.fullmatch(line)
        if item is not None:
            if not self._in_admin or len(item[1]) not in (4, 6):
                self._fail("a list belongs under admin:, its lines begin with 6 spaces and a dash")
            self._every[self._name]["admin"].append(self._value(item[2]))
            return
        member = _MEMBER.fullmatch(re.sub(r'^( *)"([A-Za-z0-9._-]+)":', r"\1\2:", line))
        if member is None:
            self._fail("expected `name: value`")
        self._in_admin = False
        value = None if not member[3] or member[3].startswith("#") else member[3]
        {0: self._top, 2: self._context, 4: self._member}.get(len(member[1]), self._misplaced)(member[2], value)

    def _misplaced(self, name: str, _value: str | None) -> None:
        self._fail(f"{name} is indented by another number of spaces than 0, 2 (a name) or 4 (what belongs to it)")

    def _top(self, name: str, value: str | None) -> None:
        self._name = ""
        if name == "current" and self._current is None:
            self._current = self._number, self._value(value)
        elif name == "contexts" and not self._has_contexts and (value is None or value.split() == ["{}"]):
            self._has_contexts = True
        else:
            self._fail(f"expected `current: NAME` or `contexts:`, each once, not {name!r}")

    def _context(self, name: str, value: str | None) -> None:
        if not self._has_contexts:
            self._fail(f"{name!r} stands under no `contexts:`")
        if name in self._every:
            self._fail(f"a second context {name!r}")
        if not NAME.fullmatch(name) or value is not None:
            self._fail(f"expected the name of a context and a colon, not {name!r}")
        self._name, self._every[name], self._begun[name] = name, {}, self._number

    def _member(self, name: str, value: str | None) -> None:
        if not self._name:
            self._fail(f"{name!r} belongs to no context")
        if name not in ("admin", "token_file") or name in self._every[self._name]:
            self._fail(f"expected admin and token_file, each once, not {name!r}")
        self._in_admin = name == "admin" and value is None
        self._every[self._name][name] = [] if self._in_admin else [self._value(value)]

    def _value(self, text: str | None) -> str:
        """One quoted or plain word of text."""
        text = (text or "").strip()
        value: object = None
        if text.startswith('"'):
            try:
                value, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                self._fail(f"{text} is not one quoted text")
            if not _AFTER.fullmatch(text[end:]):
                self._fail(f"{text} is not one quoted text")
        else:
            plain = _PLAIN.fullmatch(text)
            value = plain[1] if plain is not None else None
        if not isinstance(value, str) or not value:
            self._fail(f'expected a text such as "unix:/srv/crossfade/admin.sock", not {text or "nothing"}')
        return value

    def _fail(self, message: str) -> NoReturn:
        raise Failure(
            USAGE, f"{self._file}:{self._number}: {message}", hint="see proxyctl context --help; or write it anew"
        )
