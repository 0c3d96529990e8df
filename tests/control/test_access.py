"""Who may do what."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.control.access import check_caller, check_origin, is_believed
from proxy.control.operations import Access
from proxy.control.problems import Problem
from proxy.control.tokens import Role, Tokens

ROLES: tuple[Role, ...] = ("viewer", "operator", "hook")


def status_of(access: Access, *, tokens: Tokens, trusted: bool = False, header: str | None = None) -> int:
    try:
        check_caller(access, trusted=trusted, authorization=header, tokens=tokens)
    except Problem as problem:
        return problem.status
    return 200


@pytest.mark.parametrize(
    ("who", "open_", "viewer", "operator", "hook"),
    [
        ("unix", 200, 200, 200, 200),
        ("unix with a wrong token", 200, 200, 200, 200),
        ("nobody, no tokens", 200, 200, 401, 401),
        ("wrong, no tokens", 200, 401, 401, 401),
        ("nobody", 200, 401, 401, 401),
        ("wrong", 200, 401, 401, 401),
        ("empty", 200, 401, 401, 401),
        ("basic", 200, 401, 401, 401),
        ("viewer", 200, 200, 403, 403),
        ("operator", 200, 200, 200, 200),
        ("hook", 200, 403, 403, 200),
        ("lower case scheme", 200, 200, 200, 200),
        ("revoked", 200, 401, 401, 401),
    ],
)
def test_the_table(state_dir: Path, who: str, open_: int, viewer: int, operator: int, hook: int) -> None:
    tokens = Tokens(state_dir / "tokens.json")
    secrets: dict[str, str] = {}
    if "no tokens" not in who:
        secrets = {role: tokens.create(role, role, "") for role in ROLES}
        secrets["revoked"] = tokens.create("revoked", "operator", "")
        tokens.revoke("revoked")
    headers = {
        "unix": None,
        "unix with a wrong token": "Bearer cf_wrong",
        "nobody, no tokens": None,
        "nobody": None,
        "empty": "",
        "basic": f"Basic {secrets.get('operator')}",
        "lower case scheme": f"bearer {secrets.get('operator')}",
        **{name: f"Bearer {secret}" for name, secret in secrets.items()},
    }
    header = headers.get(who, "Bearer cf_wrong")
    trusted = who.startswith("unix")
    asked: tuple[Access, ...] = ("open", "viewer", "operator", "hook")
    found = tuple(status_of(access, tokens=tokens, trusted=trusted, header=header) for access in asked)
    assert found == (open_, viewer, operator, hook)


def test_the_caller_has_the_tokens_name(state_dir: Path) -> None:
    tokens = Tokens(state_dir / "tokens.json")
    secret = tokens.create("ci", "viewer", "")
    caller = check_caller("viewer", trusted=False, authorization=f"Bearer {secret}", tokens=tokens)
    assert caller == ("ci", "viewer")


@pytest.mark.parametrize(
    ("host", "believed"),
    [
        ("localhost", True),
        ("LocalHost:9900", True),
        ("127.0.0.1", True),
        ("127.9.9.9:1", True),
        ("[::1]:9900", True),
        ("admin.example.com", True),
        ("Admin.Example.com:443", True),
        ("exact:8443", True),
        ("exact:8444", False),
        ("10.0.0.1", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        (":9900", False),
        ("[::1", False),
        ("a b", False),
    ],
)
def test_hosts(host: str, believed: bool) -> None:
    assert is_believed(host, frozenset({"admin.example.com", "exact:8443"})) is believed


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("127.0.0.1:9900", None, True),
        ("127.0.0.1:9900", "http://127.0.0.1:9900", True),
        ("Localhost:9900", "http://localhost:9900", True),
        ("127.0.0.1:9900", "http://127.0.0.1:3000", False),
        ("127.0.0.1:9900", "http://127.0.0.1", False),
        ("127.0.0.1:9900", "http://evil.example", False),
        ("127.0.0.1:9900", "null", False),
        ("127.0.0.1:9900", "", False),
        ("evil.example", "http://evil.example", False),
        (None, None, False),
    ],
)
def test_origins(host: str | None, origin: str | None, allowed: bool) -> None:
    if allowed:
        check_origin(host, origin, frozenset())
        return
    with pytest.raises(Problem) as caught:
        check_origin(host, origin, frozenset())
    assert caught.value.status == 403


def test_who_lacks_a_token_hears_where_the_socket_is(state_dir: Path) -> None:
    tokens = Tokens(state_dir / "tokens.json")
    with pytest.raises(Problem) as refused:
        check_caller("operator", trusted=False, authorization=None, tokens=tokens, socket="/run/admin.sock")
    assert refused.value.more == {"admin_socket": "/run/admin.sock"}
