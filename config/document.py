"""A YAML file as plain values, and where in the file each of them stands.

    bytes --compose--> nodes with marks --read--> Document(data, places, problems)

Read by YAML 1.2's core schema (section 10.3), not by YAML 1.1: `off`, `on`, `yes` and `no` are strings, so
that `durability: off` means what it says. Sequences become tuples. Not read: tags of one's own, merge
keys, keys that are not strings. What an alias may blow up to is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from yaml import MappingNode, Node, ScalarNode, SequenceNode, YAMLError
from yaml.composer import Composer
from yaml.error import Mark, MarkedYAMLError
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from config import environment
from config.errors import WHOLE_FILE, Loc, Place, Problem

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_VALUES = 20_000
"""Values in one file, those behind aliases counted each time they are used."""

_REFERENCE = re.compile(r"\$\{[^{}\n]*\}")
_CORE = "tag:yaml.org,2002:"


class _CoreResolver(BaseResolver):
    """The types of unquoted words, by YAML 1.2.2 section 10.3.2."""


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
):
    _CoreResolver.add_implicit_resolver(_CORE + _tag, re.compile(rf"(?:{_pattern})\Z"), _first)


class _Nodes(Reader, Scanner, Parser, Composer, _CoreResolver):
    """PyYAML's pipeline up to nodes, with the nesting bounded."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _CoreResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class Document:
    """What a file says: `data` in plain values, `problems` with the file itself."""

    def __init__(self) -> None:
        self.data: Any = None
        self.problems: list[Problem] = []
        self.values: dict[Loc, Place] = {}
        self.keys: dict[Loc, Place] = {}
        self.unread: set[Loc] = set()
        """Where a value could not be read; what stands there in `data` means nothing."""
        self.from_environment: set[Loc] = set()
        """Where a value is not written out, for a variable is part of it."""

    def place(self, loc: Loc, *, on_key: bool = False) -> Place:
        """Where the value at `loc` stands (or its key), or else the nearest value around it."""
        if on_key and loc in self.keys:
            return self.keys[loc]
        while loc not in self.values and loc:
            loc = loc[:-1]
        return self.values.get(loc, Place(1, 1))


def decode(raw: bytes) -> tuple[str, Problem | None]:
    """The text of a file, or why it has none."""
    if len(raw) > MAX_BYTES:
        return "", Problem(WHOLE_FILE, f"larger than {MAX_BYTES // 2**20} MiB: this is not a configuration file")
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        return "", Problem(
            _at_offset(before, len(before)), f"byte 0x{raw[error.start]:02x} is not UTF-8: save as UTF-8"
        )


def read(text: str, environ: Mapping[str, str]) -> Document:
    """Read a YAML text, with the references to `environ` replaced; everything wrong is in `problems`."""
    document = Document()
    blanks: list[int] = []
    root: Node | None
    while True:
        try:
            root = _Nodes(text).get_single_node()
        except YAMLError as error:
            document.problems.append(_syntax_problem(text, error))
            reference = _unquoted_reference(text, error)
            if reference is None:
                return document
            # The one mistake whose extent is known: without it, the rest of the file can be read.
            blanks.append(reference.start())
            text = text[: reference.start()] + "x" * len(reference[0]) + text[reference.end() :]
            continue
        if root is None:
            document.problems.append(Problem(WHOLE_FILE, "the file is empty; `proxyctl init` writes one to start from"))
            return document
        try:
            _NodeReader(text, environ, document, blanks).read(root)
        except YAMLError as error:
            document.problems.append(_syntax_problem(text, error))
        return document


def _unquoted_reference(text: str, error: YAMLError) -> re.Match[str] | None:
    """The `${VAR}` that ended a plain scalar within {...} or [...] with its brace, if that is the error."""
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    return _REFERENCE.match(text, max(0, mark.index - 1)) if mark else None


def _at_offset(text: str, offset: int) -> Place:
    line_start = text.rfind("\n", 0, offset) + 1
    return Place(text.count("\n", 0, offset) + 1, offset - line_start + 1)


def _at_mark(mark: Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _syntax_problem(text: str, error: YAMLError) -> Problem:
    """PyYAML's error in our form. A tab is by far the most common cause of the scanner's complaint."""
    if isinstance(error, ReaderError):
        return Problem(
            _at_offset(text, error.position), f"the character U+{ord(text[error.position]):04X} is not allowed"
        )
    if not isinstance(error, MarkedYAMLError) or error.problem is None:
        return Problem(WHOLE_FILE, f"not YAML: {error}")
    mark = error.problem_mark or error.context_mark
    place = _at_mark(mark) if mark else WHOLE_FILE
    if "'\\t'" in error.problem:
        return Problem(place, "a tab cannot indent YAML: use spaces")
    if mark and text[: mark.index + 1].endswith("${"):
        return Problem(place, "inside {...} and [...] a ${VAR} must stand in quotes")
    context = f" {error.context}" if error.context else ""
    return Problem(place, f"not YAML: {error.problem}{context}")


class _NodeReader:
    """Turns nodes into values; one of these reads one file. blanks: where an error was reported and cut out."""

    def __init__(self, text: str, environ: Mapping[str, str], document: Document, blanks: list[int]) -> None:
        self._text = text
        self._blanks = blanks
        self._environ = environ
        self._document = document
        self._resolver = _CoreResolver()
        self._open: set[int] = set()
        self._count = 0

    def read(self, root: Node) -> None:
        """Fill the document; raises MarkedYAMLError when the structure itself has no bounds."""
        self._document.data = self._value(root, ())

    def _problem(self, node: Node, message: str) -> None:
        self._document.problems.append(Problem(_at_mark(node.start_mark), message))

    def _value(self, node: Node, loc: Loc) -> Any:
        self._document.values[loc] = _at_mark(node.start_mark)
        self._count += 1
        if self._count > MAX_VALUES:
            raise MarkedYAMLError(problem=f"more than {MAX_VALUES} values", problem_mark=node.start_mark)
        if id(node) in self._open:
            raise MarkedYAMLError(problem="this value contains itself", problem_mark=node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode) and self._has_core_tag(node, loc, "seq"):
                return tuple(self._value(child, (*loc, index)) for index, child in enumerate(node.value))
            if isinstance(node, MappingNode) and self._has_core_tag(node, loc, "map"):
                return self._mapping(node, loc)
            if isinstance(node, ScalarNode) and self._has_core_tag(node, loc, "null", "bool", "int", "float", "str"):
                return self._scalar(node, loc)
        finally:
            self._open.discard(id(node))
        return None

    def _has_core_tag(self, node: Node, loc: Loc, *names: str) -> bool:
        if node.tag.removeprefix(_CORE) in names:
            return True
        self._problem(node, f"tags such as {node.tag.replace(_CORE, '!!')} are not read here")
        self._document.unread.add(loc)
        return False

    def _mapping(self, node: MappingNode, loc: Loc) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, ScalarNode) or key_node.tag != _CORE + "str":
                self._problem(key_node, "a key must be a string" + (f": '{key}'" if isinstance(key, str) else ""))
            elif self._has_blank(key_node):
                self._document.unread.add(loc)
            elif key == "<<" and key_node.style is None:
                self._problem(key_node, "merge keys are not read here: write the keys out, or alias whole values")
            elif key in mapping:
                self._problem(key_node, f"key '{key}' is given twice; first in line {lines[key]}")
            else:
                lines[key] = key_node.start_mark.line + 1
                self._document.keys[(*loc, key)] = _at_mark(key_node.start_mark)
                mapping[key] = self._value(value_node, (*loc, key))
        return mapping

    def _has_blank(self, node: Node) -> bool:
        return any(node.start_mark.index <= blank < node.end_mark.index for blank in self._blanks)

    def _scalar(self, node: ScalarNode, loc: Loc) -> Any:
        if self._has_blank(node):
            self._document.unread.add(loc)
            return None
        kind, text = node.tag.removeprefix(_CORE), node.value
        if kind == "str" and "$" in text:
            text = self._expanded(node, loc)
            if environment.takes_from(node.value):
                self._document.from_environment.add(loc)
            if node.style is None:
                # Unquoted, a reference has the type that its value would have: `workers: ${WORKERS}`.
                tag: str = self._resolver.resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
                kind = tag.removeprefix(_CORE)
        try:
            return _plain(kind, text)
        except ValueError:
            self._problem(node, f"'{text[:40]}' cannot be read as {kind}")
            self._document.unread.add(loc)
            return None

    def _expanded(self, node: ScalarNode, loc: Loc) -> str:
        text, faults = environment.expand(node.value, self._environ)
        if faults:
            self._document.unread.add(loc)
            start = node.start_mark.index
            offsets = environment.references(self._text[start : node.end_mark.index])
            for fault in faults:
                # A dollar sign written as an escape ("\\x24") is not in the file's text: the string's place will do.
                offset = start + (offsets[fault.number] if fault.number < len(offsets) else 0)
                self._document.problems.append(Problem(_at_offset(self._text, offset), fault.message))
        return text


def _plain(kind: str, text: str) -> Any:
    """The value of a scalar; raises ValueError when an explicit tag does not fit or a number is far too long."""
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind == "int":
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
