"""Field rules, compiled, and the comparison of two rows by them.

The rules of one check become a tree of nodes, one for each place that their paths tell apart. Walking two rows, the
comparison walks the tree beside them, so that finding the rule of a path is one look into a dict:

    /attributes/*  ignore           root --attributes--> node --any name--> node(ignore)
    /temperature   tolerance             --temperature-> node(tolerance)
                                         --any other---> node()

Of the rules that fit a path, or a part of it from its beginning, the first in the configuration holds. Most values
are the same on both sides: nothing is looked up or made for those (1 us for ten fields).
"""

from __future__ import annotations

import marshal
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from config.rules import FieldRule, When
from consistency import checks
from consistency.checks import SAME, TOLERATED, Check

MISSING: Final = "missing in new"
ONLY_IN_NEW: Final = "only in new"
LENGTH: Final = "length"
LOOKS: Final = 1000
"""So many rows are searched for the paths of rules that nothing matched yet; later one of 64."""

_ABSENT: Final = object()
_PLAIN: Final = 2
"""Version of marshal without references between objects: values that are the same have the same bytes."""


class Difference(NamedTuple):
    """One path at which two rows differ. path: JSON pointer; reason: what differs, one of a few words; values as
    they are in the rows, None where one has none.
    """

    path: str
    reason: str
    old: Any
    new: Any


class Incomparable(Exception):
    """Rows that cannot be compared: nested too deep."""


class Comparison(NamedTuple):
    """What two rows say of each other. tolerated: paths whose difference a rule lets pass; enriched: how many paths
    stand in new alone, as enrichment that nobody asked about.
    """

    differences: tuple[Difference, ...] = ()
    tolerated: tuple[str, ...] = ()
    enriched: int = 0

    def plus(self, other: Comparison) -> Comparison:
        """Both together."""
        if other is IDENTICAL:
            return self
        return Comparison(
            self.differences + other.differences, self.tolerated + other.tolerated, self.enriched + other.enriched
        )


IDENTICAL: Final = Comparison()


class _Node:
    """A place in rows, as far as rules tell places apart.

    number: the rule that holds here, in the order of the configuration, or -1 for none; named, other: what is beneath,
    by name and for every other name; narrows: a rule that comes earlier may hold for something beneath. A rule holds
    for what is beneath its path as well, but for `presence`, which asks nothing more of that.
    """

    __slots__ = ("check", "compare", "named", "narrows", "number", "other", "when")

    def __init__(self, rules: Sequence[FieldRule], number: int, *, is_beneath: bool) -> None:
        rule = rules[number] if number >= 0 else None
        self.number = number
        self.compare: str = rule.compare if rule is not None else ""
        if self.compare == "presence" and is_beneath:
            self.compare = "ignore"
        self.check: Check = checks.of_rule(rule) if rule is not None else checks.exact
        self.when: When | None = rule.when if rule is not None else None
        self.named: dict[str, _Node] = {}
        self.other: _Node = self
        self.narrows = False

    def beneath(self, name: str) -> _Node:
        """The place under a name."""
        return self.named.get(name, self.other)


_Partial = tuple[tuple[int, tuple[str, ...]], ...]
"""Rules that may yet hold beneath a place, with what remains of their paths."""


class _Tree:
    """Makes the nodes. Places that are alike are one node, so that many rules with `*` make no forest."""

    def __init__(self, rules: Sequence[FieldRule]) -> None:
        self._rules = rules
        self._grown: dict[tuple[int, _Partial], _Node] = {}

    def root(self) -> _Node:
        """The place of the whole row."""
        return self._grow(-1, tuple((index, tokens(rule.path)) for index, rule in enumerate(self._rules)))

    def _grow(self, number: int, partial: _Partial) -> _Node:
        """number: the rule that holds above, or -1."""
        grown = self._grown.get((number, partial))
        if grown is not None:
            return grown
        complete = [index for index, rest in partial if not rest]
        held = min([each for each in (number, *complete) if each >= 0], default=-1)
        node = self._grown[number, partial] = _Node(self._rules, held, is_beneath=held == number)
        going = [(index, rest) for index, rest in partial if rest and (held < 0 or index < held)]
        if going:
            node.narrows = True
            node.other = self._grow(held, _after("*", going))
            for name in {rest[0] for _, rest in going if rest[0] != "*"}:
                node.named[name] = self._grow(held, _after(name, going))
        elif node.compare == "presence":
            node.other = _Node(self._rules, held, is_beneath=True)
        return node


def _after(name: str, going: Sequence[tuple[int, tuple[str, ...]]]) -> _Partial:
    return tuple((index, rest[1:]) for index, rest in going if rest[0] in (name, "*"))


class Rules:
    """The rules of one check. only_new: what stands in new alone is `ignore`d and counted, or `compare`d, where no
    rule says more.
    """

    def __init__(self, rules: Sequence[FieldRule] = (), *, only_new: str = "ignore") -> None:
        self._rules = tuple(rules)
        self._root = _Tree(self._rules).root()
        self._ignores_only_new = only_new == "ignore"
        self._has_patterns = any(rule.compare == "regex" for rule in self._rules)
        """Only these may find two equal values wrong."""
        self._unused = set(range(len(self._rules)))
        self._looks = 0

    @property
    def unused(self) -> list[FieldRule]:
        """Rules of whose path nothing was seen so far: mistyped, or of another store."""
        return [self._rules[index] for index in sorted(self._unused)]

    def compare(self, old: dict[str, Any], new: dict[str, Any]) -> Comparison:
        """Two rows' fields. Raises Incomparable."""
        try:
            if self._unused:
                self._look(old)
                self._look(new)
            if not self._has_patterns and old == new and _is_same(old, new):
                return IDENTICAL
            walk = _Walk(old, ignores_only_new=self._ignores_only_new, skips_equals=not self._has_patterns)
            walk.objects(self._root, "", old, new)
        except RecursionError:
            raise Incomparable("a value is nested too deep") from None
        if not walk.differences and not walk.tolerated and not walk.enriched:
            return IDENTICAL
        return Comparison(tuple(walk.differences), tuple(walk.tolerated), walk.enriched)

    def asked(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row's fields without what a rule ignores, where there are no rules but those. Raises Incomparable."""
        self.look(row)
        try:
            found: dict[str, Any] = _asked(self._root, row)
        except RecursionError:
            raise Incomparable("a value is nested too deep") from None
        return found

    def look(self, row: dict[str, Any]) -> None:
        """See which rules have a place in a row's fields; `compare` does so by itself."""
        if self._unused:
            self._look(row)

    def _look(self, row: dict[str, Any]) -> None:
        self._looks += 1
        if self._looks <= LOOKS or self._looks % 64 == 0:
            _mark(self._root, row, self._unused)


def tokens(pointer: str) -> tuple[str, ...]:
    """The names of a JSON pointer (RFC 6901, section 4)."""
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def escaped(name: str) -> str:
    """A name as a token of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name


def _mark(node: _Node, value: Any, unused: set[int]) -> None:
    """Cross out the rules whose places a value has."""
    unused.discard(node.number)
    if not node.narrows:
        return
    for name, each in _members(value):
        _mark(node.beneath(name), each, unused)


def _asked(node: _Node, value: Any) -> Any:
    if not node.narrows:
        return value
    if isinstance(value, list):
        return [
            _asked(place, each) for name, each in _members(value) if (place := node.beneath(name)).compare != "ignore"
        ]
    if isinstance(value, dict):
        places = ((name, node.beneath(name), each) for name, each in value.items())
        return {name: _asked(place, each) for name, place, each in places if place.compare != "ignore"}
    return value


def _members(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return value.items()
    return ((str(index), each) for index, each in enumerate(value)) if isinstance(value, list) else ()


def _resolve(document: Any, pointer: str) -> Any:
    """What stands at a pointer, or `_ABSENT`."""
    for name in tokens(pointer):
        document = dict(_members(document)).get(name, _ABSENT)
    return document


class _Walk:
    """One walk through two rows: each place of either is visited once, with what both have there or `_ABSENT`."""

    __slots__ = ("_ignores_only_new", "_root", "_skips_equals", "differences", "enriched", "tolerated")

    def __init__(self, root: dict[str, Any], *, ignores_only_new: bool, skips_equals: bool) -> None:
        self._root = root
        self._ignores_only_new = ignores_only_new
        self._skips_equals = skips_equals
        self.differences: list[Difference] = []
        self.tolerated: list[str] = []
        self.enriched = 0

    def objects(self, node: _Node, path: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """What two objects have under each name of either. Written flat: most values are the same, and end here."""
        skips_equals = self._skips_equals
        for name, value in old.items():
            other = new.get(name, _ABSENT)
            kind = type(value)
            if skips_equals and kind is type(other) and value == other and kind is not dict and kind is not list:
                continue
            self._place(node.beneath(name), f"{path}/{escaped(name)}", value, other)
        if len(new) != len(old) or new.keys() != old.keys():
            for name, value in new.items():
                if name not in old:
                    self._place(node.beneath(name), f"{path}/{escaped(name)}", _ABSENT, value)

    def _place(self, node: _Node, path: str, old: Any, new: Any, *, is_element: bool = False) -> None:
        """One place. is_element: of a list, where one more is no enrichment."""
        if node.compare == "ignore":
            self._parts(node, path, old, new)
        elif old is _ABSENT or new is _ABSENT:
            self._one_sided(node, path, old, new, is_element=is_element)
        elif node.compare == "presence":
            self._parts(node, path, old, new)
            if not (_is_container(old) and _is_container(new)) and node.check(old, new) != SAME:
                self.tolerated.append(path)
        elif self._skips_equals and old == new and _is_container(old) and _is_same(old, new):
            pass
        elif isinstance(old, dict) and isinstance(new, dict):
            self.objects(node, path, old, new)
        elif isinstance(old, list) and isinstance(new, list):
            self._lists(node, path, old, new)
        else:
            self._values(node, path, old, new)

    def _parts(self, node: _Node, path: str, old: Any, new: Any) -> None:
        """Nothing is asked of the place itself, and of its parts only what an earlier rule says."""
        if node.narrows:
            parts, others = dict(_members(old)), dict(_members(new))
            for name in parts | others:
                values = parts.get(name, _ABSENT), others.get(name, _ABSENT)
                self._place(node.beneath(name), f"{path}/{escaped(name)}", *values, is_element=True)

    def _values(self, node: _Node, path: str, old: Any, new: Any) -> None:
        found = node.check(old, new)
        if found == TOLERATED:
            self.tolerated.append(path)
        elif found != SAME:
            self.differences.append(Difference(path, found, old, new))

    def _lists(self, node: _Node, path: str, old: list[Any], new: list[Any]) -> None:
        if node.compare == "set":
            self._sets(path, old, new)
        elif len(old) != len(new) and not node.narrows:
            self.differences.append(Difference(path, LENGTH, old, new))
        else:
            for index in range(max(len(old), len(new))):
                a = old[index] if index < len(old) else _ABSENT
                b = new[index] if index < len(new) else _ABSENT
                self._place(node.beneath(str(index)), f"{path}/{index}", a, b, is_element=True)

    def _sets(self, path: str, old: list[Any], new: list[Any]) -> None:
        if {_canonical(each) for each in old} != {_canonical(each) for each in new}:
            self.differences.append(Difference(path, checks.OTHER_VALUE, old, new))
        elif [_canonical(each) for each in old] != [_canonical(each) for each in new]:
            self.tolerated.append(path)

    def _one_sided(self, node: _Node, path: str, old: Any, new: Any, *, is_element: bool) -> None:
        """What one row has and the other has not."""
        is_new = old is _ABSENT
        members = list(_members(new if is_new else old))
        if node.narrows and members and node.compare != "presence":
            for name, each in members:
                values = (_ABSENT, each) if is_new else (each, _ABSENT)
                self._place(node.beneath(name), f"{path}/{escaped(name)}", *values, is_element=is_element)
        elif node.compare == "both" or (is_new and self._may_be_new(node)):
            self.tolerated.append(path)
        elif is_new and self._ignores_only_new and not node.compare and not is_element:
            self.enriched += 1
        elif is_new:
            self.differences.append(Difference(path, ONLY_IN_NEW, None, new))
        else:
            self.differences.append(Difference(path, MISSING, old, None))

    def _may_be_new(self, node: _Node) -> bool:
        when = node.when
        if when is None:
            return False
        found = _resolve(self._root, when.pointer)
        return found is not _ABSENT and checks.exact(found, when.equals) == SAME


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list)


def _is_same(old: Any, new: Any) -> bool:
    """Whether two equal values are of the same types throughout, which `==` does not say: 1, 1.0 and true are equal.

    Names of objects in another order count as another value here; the walk knows better, and is slower. What JSON has
    no text for, such as bytes, takes three times as long.
    """
    try:
        return orjson.dumps(old) == orjson.dumps(new)
    except TypeError:
        pass
    try:
        return marshal.dumps(old, _PLAIN) == marshal.dumps(new, _PLAIN)
    except ValueError:  # nested too deep for it
        return False


def _canonical(value: Any) -> Hashable:
    """Equal for values that are the same, see `checks.exact`; names of objects in any order."""
    if isinstance(value, dict):
        return frozenset((name, _canonical(each)) for name, each in value.items())
    if isinstance(value, list):
        return tuple(_canonical(each) for each in value)
    return type(value), "nan" if value != value else value
