"""token create, ls, revoke."""

from __future__ import annotations

from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin


def test_create_prints_the_token_alone_to_stdout(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("token", "create", "ci", "--role", "operator", "--reason", "deploys")
    assert (done.code, done.out) == (0, "cf_ci\n")
    assert "shown this once" in done.err
    assert admin.requests[0][3] == {"name": "ci", "role": "operator", "reason": "deploys"}
    assert ctl("token", "create", "x", "--role", "viewer", "-o", "json").json["token"] == "cf_x"


def test_create_dry_run(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "no token was made for ci" in ctl("token", "create", "ci", "--role", "viewer", "--dry-run").out
    assert admin.tokens == {}


def test_create_needs_a_role_there_is(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("token", "create", "ci").code == 2
    assert ctl("token", "create", "ci", "--role", "root").code == 2
    assert admin.requests == []


def test_ls(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("token", "ls").out == "no tokens: only the Unix socket may change\n"
    admin.tokens["ci"] = "viewer", "cf_secret"
    out = ctl("token", "ls").out
    assert out.splitlines()[1].split() == ["ci", "viewer", "2026-01-31"]
    assert "cf_secret" not in out


def test_revoke(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.tokens["ci"] = "viewer", "cf_secret"
    assert ctl("token", "revoke", "ci", "--dry-run").out == "dry run: would revoke the token ci\n"
    assert ctl("token", "revoke", "ci").out == "revoked the token ci\n"
    assert admin.tokens == {}
    assert ctl("token", "revoke", "ci").code == 1


def test_an_odd_name_stays_one_path_segment(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("token", "revoke", "../drain").code == 1
    assert admin.requests[0][1] == "/api/v1/tokens/..%2Fdrain"
