"""Reads a configuration file: YAML to `Settings`, or everything that is wrong with it at once.

file --decode--> text --read--> Document --prepare--> values --validate--> Settings
                                                        \\--check--> findings
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config.checks import Draft, check, outside
from config.consistency import Check
from config.document import MAX_BYTES, Document, decode, read
from config.errors import WHOLE_FILE, ConfigError, ConfigErrors, Loc, Problem
from config.explain import Finding, describe, findings
from config.model import Admin, Backend, Ledger, Limits, Route, Settings

__all__ = ["ConfigError", "ConfigErrors", "load"]

_MAX_SECRET = 4096
"""Bytes."""
_BACKEND = {"url": ("http://stand-in",)}
_ROUTE = {"name": "stand-in", "match": {"path": "/"}}
_STORE = {"sqlite": {"file": "-", "table": "-", "identity": ("-",), "time": "-"}}
_CHECK = {"routes": ("stand-in",), "old": _STORE, "new": {"sqlite": {**_STORE["sqlite"], "file": "+"}}}
_CREDENTIALS = ("password", "token", "authorization")
"""Keys of stores; each with `_file` behind it names a file instead."""
_Part = TypeVar("_Part", bound=BaseModel)


def load(
    path: str | os.PathLike[str],
    *,
    text: bytes | str | None = None,
    environ: Mapping[str, str] = os.environ,
    with_outside: bool = False,
) -> Settings:
    """The settings that a file holds.

    path: names the file in errors; relative paths in it are relative to its directory. text: what the file
    holds, when it is known already and must not be read again. environ: for `${VAR}`.
    with_outside: that commands of gates can be run, and files of secrets read, is looked at, too; an instance starts
    without, for they hold up what needs them alone.
    Raises ConfigErrors with everything that is wrong.
    """
    name = os.fspath(path)
    raw = _read_file(name) if text is None else text.encode() if isinstance(text, str) else text
    decoded, unreadable = decode(raw)
    if unreadable is not None:
        raise ConfigErrors.at(name, [unreadable])
    document = read(decoded, environ)
    # A syntax error leaves nothing to look at; everything else is collected to the end.
    if document.data is None and document.problems:
        raise ConfigErrors.at(name, document.problems)
    if not isinstance(document.data, dict):
        message = f"expected keys such as `version: 1`, not {describe(document.data)}"
        raise ConfigErrors.at(name, [Problem(document.place(()), message)])
    settings, found = _validate(document, Path(name).absolute().parent, with_outside=with_outside)
    problems = document.problems + [finding.placed(document) for finding in found]
    if settings is None or problems:
        raise ConfigErrors.at(name, problems)
    return settings


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigErrors.at(path, [Problem(WHOLE_FILE, f"cannot read it: {reason}")]) from None


def _validate(document: Document, base: Path, *, with_outside: bool) -> tuple[Settings | None, list[Finding]]:
    """The settings when nothing is wrong, and what is. base: the directory that relative paths start from."""
    data: dict[str, Any] = document.data
    found = _take_salt(data, base) + _take_authorizations(data, base) + _written_out(document)
    _resolve_paths(data, base)
    settings = None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        found += findings(Settings, error)
    wrong = document.unread | {finding.about or finding.loc for finding in found}
    draft = _draft(data, frozenset(wrong))
    found += check(draft)
    if with_outside:
        found += outside(draft, base)
    return settings, [finding for finding in found if finding.loc not in document.unread]


def _take_salt(data: dict[str, Any], base: Path) -> list[Finding]:
    """Put the contents of `salt_file` in the place of `salt`; what stands against it, with a stand-in for the salt."""
    path = data.get("salt_file")
    if "salt" in data:
        both = "salt_file" in data and path is not None
        return [Finding(("salt_file",), "both salt and salt_file are given: keep one", on_key=True)] if both else []
    data["salt"] = "stand-in for a salt that is wrong"
    if path is None:
        message = "missing key 'salt' (or 'salt_file'): the same random word of 16 or more characters on every replica"
        return [Finding((), message, about=("salt",))]
    if not isinstance(path, str) or not path:
        return []
    try:
        data["salt"] = _read_secret(base / path, "salt file", least=8)
    except ValueError as error:
        return [Finding(("salt_file",), str(error))]
    return []


def _take_authorizations(data: dict[str, Any], base: Path) -> list[Finding]:
    """Put the contents of each `authorization_file` in the place of `authorization`; what stands against it."""
    backends = data.get("backends")
    found = []
    for name, raw in backends.items() if isinstance(backends, dict) else ():
        path = raw.get("authorization_file") if isinstance(raw, dict) else None
        if not isinstance(path, str) or not path:
            continue
        loc: Loc = ("backends", name, "authorization_file")
        if raw.get("authorization") is not None:
            found.append(Finding(loc, "both authorization and authorization_file are given: keep one", on_key=True))
            continue
        try:
            raw["authorization"] = _read_secret(base / path, "authorization file", least=1)
        except ValueError as error:
            found.append(Finding(loc, str(error)))
    return found


def _written_out(document: Document) -> list[Finding]:
    """Credentials of stores that stand in the file itself, which is shown, kept and copied."""
    found = []
    checks = document.data.get("consistency")
    for index, check_ in enumerate(checks if isinstance(checks, tuple) else ()):
        for side, kind, store in _stores(check_):
            for key in _CREDENTIALS:
                loc: Loc = ("consistency", index, side, kind, key)
                if isinstance(store.get(key), str) and loc not in document.from_environment:
                    message = f"a credential must not stand in this file: write ${{NAME}}, or set {key}_file"
                    found.append(Finding(loc, message))
    return found


def _stores(check_: object) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Side, kind and keys of the stores of a check that may be anything."""
    for side in ("old", "new"):
        kinds = check_.get(side) if isinstance(check_, dict) else None
        for kind, store in kinds.items() if isinstance(kinds, dict) else ():
            if isinstance(store, dict):
                yield side, kind, store


def _read_secret(path: Path, what: str, least: int) -> str:
    """What a secret's file holds, without a newline at its end; raises ValueError with a message for a person."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_SECRET + 1)
    except OSError as error:
        raise ValueError(f"cannot read the {what}: {error.strerror}") from None
    try:
        secret = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"the {what} is not UTF-8 text") from None
    if not least <= len(secret) <= _MAX_SECRET:
        raise ValueError(f"the {what} must hold {least} to {_MAX_SECRET} characters")
    return secret


def _resolve_paths(data: dict[str, Any], base: Path) -> None:
    """Make the paths absolute, so that no process depends on the directory it was started in."""
    data.setdefault("state_dir", Settings.model_fields["state_dir"].default)
    _make_absolute(data, ("state_dir", "salt_file"), base)
    backends = data.get("backends")
    for backend in backends.values() if isinstance(backends, dict) else ():
        if isinstance(backend, dict):
            _make_absolute(backend, ("authorization_file",), base)
            for consumer in _mappings((backend.get("consumer"),)):
                _make_absolute(consumer, ("token_file",), base)
    admin = data.get("admin")
    if isinstance(admin, dict):
        _make_absolute(admin, ("socket", "tls_cert", "tls_key"), base)
    for entry in _mappings(data.get("listen")):
        for tls in _mappings((entry.get("tls"),)):
            for each in (tls, *_mappings(tls.get("sni"))):
                _make_absolute(each, ("cert", "key", "client_ca"), base)

    backends = data.get("backends")
    for entry in _mappings(tuple(backends.values())) if isinstance(backends, dict) else ():
        for tls in _mappings((entry.get("tls"),)):
            _make_absolute(tls, ("ca", "cert", "key"), base)
    for tracing in _mappings((data.get("tracing"),)):
        _make_absolute(tracing, ("authorization_file",), base)
    for receiver in _mappings(data.get("notifications")):
        _make_absolute(receiver, ("authorization_file",), base)
    for gate in _mappings(data.get("gates")):
        resources = tuple(soak.get("resources") for soak in _mappings((gate.get("soak"),)))
        for asked in _mappings((gate.get("webhook"), gate.get("prometheus"), *resources)):
            _make_absolute(asked, ("authorization_file",), base)
    for source in _mappings(data.get("sources")):
        for kind in _mappings((source.get("home_assistant"), source.get("websocket"))):
            _make_absolute(kind, ("token_file", "authorization_file", "ca"), base)
    for each in _mappings(data.get("consistency")):
        for _, _, store in _stores(each):
            _make_absolute(store, ("file", "files", *(f"{key}_file" for key in _CREDENTIALS)), base)
        for probe in _mappings((each.get("probe"),)):
            for checkpoint in _mappings(probe.get("checkpoints")):
                _make_absolute(checkpoint, ("authorization_file",), base)


def _mappings(values: object) -> list[dict[str, Any]]:
    """The mappings in a list that may be anything."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, tuple) else []


def _make_absolute(mapping: dict[str, Any], keys: tuple[str, ...], base: Path) -> None:
    for key in keys:
        if isinstance(mapping.get(key), str) and mapping[key]:
            mapping[key] = os.path.normpath(base / mapping[key])


def _draft(data: dict[str, Any], wrong: frozenset[Loc]) -> Draft:
    raw_backends, raw_routes = data.get("backends"), data.get("routes")
    backends = raw_backends if isinstance(raw_backends, dict) else {}
    routes = raw_routes if isinstance(raw_routes, tuple) else ()
    raw_checks = data.get("consistency")
    checks = raw_checks if isinstance(raw_checks, tuple) else ()
    stand_ins = {"backends": {"a": _BACKEND}, "routes": (_ROUTE,), "consistency": ()}
    whole = _readable(Settings, {**data, **stand_ins}, {"version": 1, "salt": "-" * 8})
    assert whole is not None
    named = {name: _readable(Backend, raw, _BACKEND) for name, raw in backends.items()}
    return Draft(
        settings=whole,
        admin=_readable(Admin, data.get("admin", {}), {}),
        limits=_readable(Limits, data.get("limits", {}), {}),
        ledger=_readable(Ledger, data.get("ledger", {}), {}),
        backend_names=tuple(backends),
        backends={name: backend for name, backend in named.items() if backend is not None},
        routes=tuple(_readable(Route, raw, _ROUTE) for raw in routes),
        checks=tuple(_readable(Check, raw, _CHECK) for raw in checks),
        wrong=wrong,
    )


def _readable(model: type[_Part], raw: object, required: dict[str, Any]) -> _Part | None:
    """A part of the file without its wrong keys; required: stand-ins for keys that have no default."""
    if not isinstance(raw, dict):
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        bad = {details["loc"][0] for details in error.errors()}
        return model.model_validate(required | {key: value for key, value in raw.items() if key not in bad})
