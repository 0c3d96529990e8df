"""Where the admin API is looked for, in which order, and which token it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cli.endpoints import Endpoint, parse
from proxy.cli.failure import Failure
from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin, serving


@pytest.mark.parametrize(
    ("text", "scheme", "target", "port"),
    [
        ("unix:a/b.sock", "unix", "a/b.sock", 0),
        ("http://127.0.0.1:9901", "http", "127.0.0.1", 9901),
        ("http://localhost", "http", "localhost", 9900),
        ("https://[::1]:1/", "https", "::1", 1),
    ],
)
def test_parse(text: str, scheme: str, target: str, port: int) -> None:
    assert parse(text) == Endpoint(scheme, target, port, text.rstrip("/"))


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "localhost:9900", "ftp://a", "http://", "http://a:b", "http://a/x", "http://u:p@a", "http://a?b"],
)
def test_bad_endpoint_exits_2_before_anything_is_contacted(ctl: Ctl, text: str) -> None:
    with pytest.raises(Failure):
        parse(text)
    done = ctl("status", "--admin", text)
    assert done.code == 2
    assert "unix:crossfade-state/admin.sock" in done.err


def test_the_default_is_the_socket_then_tcp(ctl: Ctl) -> None:
    done = ctl("status", "-o", "json")
    assert done.code == 6
    tried = {attempt["admin"]: attempt["why"] for attempt in done.error["tried"]}
    assert tried == {
        "unix:crossfade-state/admin.sock": "No such file or directory",
        "http://127.0.0.1:1": "Connection refused",
    }
    text = ctl("status").err
    for address, why in tried.items():
        assert f"{address}: {why}" in text


def test_tcp_stands_in_for_the_socket(ctl: Ctl, tcp: tuple[FakeAdmin, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.endpoints.DEFAULT_URL", tcp[1])
    assert ctl("status", "--token", "cf_vic", "-o", "json").json["admin"] == tcp[1]


def test_a_dead_socket_is_said_to_be_dead(ctl: Ctl, home: Path) -> None:
    with serving(FakeAdmin(), "a.sock"):
        pass
    done = ctl("status", "--admin", "unix:a.sock")
    assert done.code == 6
    assert "unix:a.sock: Connection refused" in done.err


def test_a_path_that_no_socket_can_have(ctl: Ctl) -> None:
    done = ctl("status", "--admin", f"unix:{'x' * 200}")
    assert done.code == 6
    assert "path too long" in done.err


def test_order_of_places(ctl: Ctl, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["option", "environment", "context"]
    fakes = [FakeAdmin() for _ in names]
    assert ctl("context", "set", "c", "--admin", "unix:context").code == 0
    assert ctl("context", "use", "c").code == 0
    with serving(fakes[0], "option"), serving(fakes[1], "environment"), serving(fakes[2], "context"):
        assert ctl("history").code == 0
        monkeypatch.setenv("PROXYCTL_ADMIN", "unix:environment")
        assert ctl("history").code == 0
        assert ctl("history", "--admin", "unix:option").code == 0
    assert [len(fake.requests) for fake in fakes] == [1, 1, 1]


def test_an_address_that_was_given_is_never_replaced(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("status", "--admin", "unix:gone").code == 6
    assert admin.requests == []


def sent_token(fake: FakeAdmin) -> str | None:
    return fake.requests[-1][2].get("authorization")


def test_order_of_tokens(ctl: Ctl, tcp: tuple[FakeAdmin, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, address = tcp
    for name in ("context", "environment", "option"):
        fake.tokens[name] = "viewer", f"cf_{name}_file"
        (home / name).write_text(f"cf_{name}_file\n")
    assert ctl("context", "set", "c", "--admin", address, "--token-file", "context").code == 0
    assert ctl("context", "use", "c").code == 0
    assert ctl("history").code == 0
    assert sent_token(fake) == "Bearer cf_context_file"
    monkeypatch.setenv("PROXYCTL_TOKEN_FILE", "environment")
    assert ctl("history").code == 0
    assert sent_token(fake) == "Bearer cf_environment_file"
    monkeypatch.setenv("PROXYCTL_TOKEN", "cf_vic")
    assert ctl("history").code == 0
    assert sent_token(fake) == "Bearer cf_vic"
    assert ctl("history", "--context", "c").code == 0
    assert sent_token(fake) == "Bearer cf_context_file"
    assert ctl("history", "--token-file", "option").code == 0
    assert sent_token(fake) == "Bearer cf_option_file"
    assert ctl("history", "--token-file", "option", "--token", "cf_ann").code == 0
    assert sent_token(fake) == "Bearer cf_ann"


def test_a_contexts_token_goes_to_its_own_addresses_alone(
    ctl: Ctl, tcp: tuple[FakeAdmin, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "token").write_text("cf_vic")
    assert ctl("context", "set", "c", "--admin", "http://127.0.0.1:1", "--token-file", "token").code == 0
    assert ctl("context", "use", "c").code == 0
    assert ctl("history", "--admin", tcp[1]).code == 1
    assert sent_token(tcp[0]) is None
    monkeypatch.setenv("PROXYCTL_ADMIN", tcp[1])
    assert ctl("history").code == 1
    assert sent_token(tcp[0]) is None


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nb", "ä"])
def test_a_token_that_none_is(ctl: Ctl, admin: FakeAdmin, token: str) -> None:
    done = ctl("history", "--token", token)
    assert done.code == 2
    assert admin.requests == []


def test_token_file_must_be_readable_text(ctl: Ctl, home: Path) -> None:
    assert "No such file" in ctl("status", "--token-file", "gone").err
    (home / "binary").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in ctl("status", "--token-file", "binary").err


def test_the_socket_has_no_use_for_a_token(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("history", "--token", "cf_wrong").code == 0
    assert sent_token(admin) is None


def test_a_wrong_token_is_never_repeated(ctl: Ctl, tcp: tuple[FakeAdmin, str]) -> None:
    done = ctl("history", "--admin", tcp[1], "--token", "cf_wrong", "-o", "json")
    assert done.code == 1
    assert "cf_wrong" not in done.out + done.err
