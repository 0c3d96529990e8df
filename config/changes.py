"""What a changed file changes, key by key, and what each key needs to be applied while traffic flows.

    Settings --flatten--> {"routes.events.copy_wait": "5ms", ...} --changes--> live | startup | fixed

live      no connection is touched: supervisor, checker or ledger are replaced, running workers are told
startup   workers are replaced one after the other, and everybody else as well; connections move to the successors
fixed     cannot change while an instance runs; such a file is refused, and the rule says what to do instead

What no rule names is `startup`: whoever is replaced reads everything anew, so that is right for every key. A key is
live because somebody has looked at each place that reads it; in running workers that means: it is read at one point of
an event's way, at which the old value and the new one are equally right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.describe import in_yaml, written_as
from config.model import Settings

Kind = Literal["live", "startup", "fixed"]
Process = Literal["supervisor", "ledger", "checker", "workers"]

EVERYBODY: Final[frozenset[Process]] = frozenset({"supervisor", "ledger", "checker", "workers"})
ABSENT: Final = "-"
"""Of a key without a value, or of a mapping that is not there."""
PRESENT: Final = "added"
HIDDEN: Final = "(hidden)"
OTHER: Final = "(hidden, another)"
_MARK: Final = "\0"
"""Begins the flat value of a secret; its fingerprint follows, which is shown nowhere."""


class Rule(NamedTuple):
    """What a key, and all below it, needs. pattern: its path, * for a name or a number.

    processes: who must hear of it beside the supervisor, who always does; why: of a fixed one, and what to do instead.
    """

    pattern: str
    kind: Kind
    processes: frozenset[Process] = frozenset()
    why: str = ""


def _live(*patterns: str, by: tuple[Process, ...] = ()) -> list[Rule]:
    return [Rule(pattern, "live", frozenset({"supervisor", *by})) for pattern in patterns]


def _startup(*patterns: str) -> list[Rule]:
    return [Rule(pattern, "startup", EVERYBODY) for pattern in patterns]


_NEW_STATE: Final = "stop this instance once nothing is owed any more, and start it with a new state_dir"

RULES: Final = (
    Rule("version", "fixed", why="this instance reads one version alone: install the one that reads the other"),
    Rule("salt", "fixed", why=f"it places every key: another one breaks order and stickiness; {_NEW_STATE}"),
    Rule("state_dir", "fixed", why="ledger and live state are there; stop this instance, move it, and start it again"),
    *_startup("listen", "trusted_proxies", "workers", "default", "resolver", "limits", "sources"),
    *_startup("log", "tracing", "stop_grace", "drain_timeout", "backends", "routes"),
    *_live("salt_file", "gates", "admin", "hooks", "notifications", "instance", "reload", "upgrade_timeout"),
    # The launcher has it with the next switch; a worker reads how it is to end when it does.
    *_live("drain", by=("workers",)),
    *_live("ledger", by=("ledger",)),
    *_live("consistency", by=("checker",)),
    *_live("backends.*.health", by=("workers",)),
    *_live("backends.*.dependencies"),
    # Where an attempt begins to wait it reads how long; connections that are open are looked at by the new time.
    *(
        rule
        for key in ("connect_timeout", "response_timeout", "body_timeout", "idle_timeout")
        for rule in _live(f"backends.*.{key}", by=("workers", "ledger"))
    ),
    # An initial position. Workers ask whether it is shadow, for there they compare answers.
    *_live("routes.*.stage", by=("workers", "checker")),
    *_live("routes.*.weight", "routes.*.trigger", "routes.*.rollout"),
    *_live("routes.*.dedupe_ids", by=("ledger",)),
    *_live("routes.*.compare_answers", by=("workers", "checker")),
    *(
        rule
        for key in ("pins", "backend_header", "copy_wait", "drain_wait", "on_authority_down")
        for rule in _live(f"routes.*.{key}", by=("workers",))
    ),
)
_RULES: Final = {rule.pattern: rule for rule in RULES}
_DEFAULT: Final = Rule("", "startup", EVERYBODY)


class Change(NamedTuple):
    """One key whose value is another. before, after: as a person writes them, secrets hidden."""

    key: str
    before: str
    after: str
    rule: Rule


def rule_of(key: str) -> Rule:
    """The rule of a key: the longest pattern that it begins with."""
    steps = key.split(".")
    for length in range(len(steps), 0, -1):
        for pattern in _patterns(steps[:length]):
            if pattern in _RULES:
                return _RULES[pattern]
    return _DEFAULT


def _patterns(steps: list[str]) -> Iterator[str]:
    """A key as it is, and with its name or number left open: names stand second in all that rules tell apart."""
    yield ".".join(steps)
    if len(steps) > 1:
        yield ".".join([steps[0], "*", *steps[2:]])


def flatten(settings: Settings) -> dict[str, str]:
    """Every key with its value as text. Entries of a list go by their names, and by numbers where they have none."""
    salt = blake2b(settings.salt.encode(), digest_size=32).digest()
    flat = {key: text for field in Settings.model_fields for key, text in _flat(settings, field, field, salt)}
    flat["routes"] = f"[{', '.join(route.name for route in settings.routes)}]"
    return flat


def _flat(model: BaseModel, name: str, path: str, salt: bytes) -> Iterator[tuple[str, str]]:
    field, value = type(model).model_fields[name], getattr(model, name)
    if not field.repr:
        yield path, _fingerprint(value, salt) if value else ABSENT
    elif isinstance(value, BaseModel):
        yield path, PRESENT
        yield from _below(value, path, salt)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _entry(each, f"{path}.{key}", salt)
    elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
        for index, each in enumerate(value):
            yield from _entry(each, f"{path}.{getattr(each, 'name', index)}", salt)
    else:
        yield path, ABSENT if value is None else _written(value, field) or '""'


def _fingerprint(secret: Any, salt: bytes) -> str:
    return _MARK + blake2b(repr(secret).encode(), key=salt, digest_size=16).hexdigest()


def _written(value: Any, field: FieldInfo) -> str:
    is_plain = isinstance(value, float) and written_as(field.metadata) is None
    return f"{value:g}" if is_plain else in_yaml(value, field)


def _entry(value: Any, path: str, salt: bytes) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        yield path, PRESENT
        yield from _below(value, path, salt)
    else:
        yield path, str(value)


def _below(model: BaseModel, path: str, salt: bytes) -> Iterator[tuple[str, str]]:
    for name in type(model).model_fields:
        yield from _flat(model, name, f"{path}.{name}", salt)


def digest(flat: Mapping[str, str]) -> str:
    """Names what is served: the same for two files exactly if no key differs."""
    text = "\n".join(f"{key}\t{value}" for key, value in sorted(flat.items()))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """What differs between two flattened settings, in their order; a mapping that comes or goes is one change.

    A key that one side does not know at all, with what it stands in there on both, is another version's, and no change.
    """
    found: list[Change] = []
    whole: list[str] = []
    """Mappings that came or went: what is in them is not told as well."""
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key, ABSENT), after.get(key, ABSENT)
        if old == new or any(key.startswith(each) for each in whole):
            continue
        if PRESENT in (old, new):
            whole.append(f"{key}.")
        if (key not in before or key not in after) and _has_place(key, before) and _has_place(key, after):
            continue
        found.append(Change(key, *_shown(old, new), rule_of(key)))
    return tuple(found)


def _has_place(key: str, flat: Mapping[str, str]) -> bool:
    """Is what a key stands in there? Then it would be, too, if it were known."""
    above, dot, _ = key.rpartition(".")
    return not dot or flat.get(above) == PRESENT


def _shown(old: str, new: str) -> tuple[str, str]:
    if old.startswith(_MARK) and new.startswith(_MARK):
        return HIDDEN, OTHER
    return _text(old), _text(new)


def _text(value: str) -> str:
    return HIDDEN if value.startswith(_MARK) else value


def redacted(flat: Mapping[str, str]) -> dict[str, str]:
    """Flattened settings to be shown: keys that hold a mapping are left out, for what is in it stands there as well."""
    return {key: _text(value) for key, value in flat.items() if value != PRESENT}


def touched(found: tuple[Change, ...]) -> frozenset[Process]:
    """Who must hear of these changes."""
    return frozenset(process for each in found for process in each.rule.processes)
