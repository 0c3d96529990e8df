"""One request: exit codes of refusals, broken servers, who is said to act."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.cli import client
from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin, Problem


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (401, 1), (403, 1), (404, 1), (409, 5), (415, 1), (422, 2), (423, 7), (500, 1), (503, 1)],
)
def test_what_a_refusal_means(ctl: Ctl, admin: FakeAdmin, status: int, code: int) -> None:
    admin.forced = lambda method, path: Problem(status, "the detail").answer
    done = ctl("set-weight", "25")
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("proxyctl: the detail\n")
    error = ctl("set-weight", "25", "-o", "json").error
    assert (error["code"], error["status"], error["problem"]["detail"]) == (code, status, "the detail")
    assert [request[0] for request in admin.requests] == ["PUT", "PUT"]


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("cf_wrong", 401), ("cf_vic", 403)])
def test_no_right_says_how_to_get_one(ctl: Ctl, tcp: tuple[FakeAdmin, str], token: str | None, status: int) -> None:
    words = ["--admin", tcp[1], "set-weight", "25", *(["--token", token] if token else [])]
    done = ctl(*words)
    assert done.code == 1
    assert "token create NAME --role operator" in done.err
    assert ctl(*words, "-o", "json").error["status"] == status


def test_a_change_at_the_default_address_moves_to_the_socket(
    ctl: Ctl, tcp: tuple[FakeAdmin, str], admin: FakeAdmin, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, url = tcp
    (home / "crossfade-state").rename(home / "elsewhere")
    elsewhere = home / "elsewhere" / "admin.sock"
    monkeypatch.setattr("proxy.cli.endpoints.DEFAULT_URL", url)
    assert ctl("set-weight", "25").code == 1, "there is no socket to move to"
    fake.socket = str(elsewhere)
    assert ctl("set-weight", "25").code == 0
    assert admin.dials["events"].weight == 25
    assert ctl("--admin", url, "set-weight", "50").code == 1, "an address that was given is kept"


def test_where_the_instance_of_this_folder_does_not_run_no_other_is_taken_for_it(
    ctl: Ctl, tcp: tuple[FakeAdmin, str], admin: FakeAdmin, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "crossfade-state" / "admin.sock").unlink()
    monkeypatch.setattr("proxy.cli.endpoints.DEFAULT_URL", tcp[1])
    done = ctl("set-weight", "25")
    assert done.code == 6
    assert "crossfade-state/admin.sock" in done.err
    assert tcp[1] not in done.err


def test_an_operator_may(ctl: Ctl, tcp: tuple[FakeAdmin, str]) -> None:
    assert ctl("--admin", tcp[1], "--token", "cf_ann", "stage", "dualwrite").code == 0


def test_a_conflict_names_the_epoch(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("set-weight", "25", "--if-epoch", "5")
    assert done.code == 5
    assert "the epoch is 6 now" in done.err
    assert ctl("set-weight", "25", "--if-epoch", "5", "-o", "json").error["problem"]["epoch"] == 6
    assert ctl("set-weight", "25", "--if-epoch", "6").code == 0


def test_a_change_says_who_and_why(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("rollback", "--reason", "wrong totals ä").code == 0
    _, _, headers, body = admin.requests[0]
    assert body == {"reason": "wrong totals ä"}
    assert "@" in headers["x-actor"]
    assert headers["content-type"] == "application/json"


@contextmanager
def answering(content: bytes) -> Iterator[str]:
    """A server that reads one request and says this, whatever it is."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(content)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        thread.join()
        server.close()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ht>", 1, "without a JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", 1, "without a JSON object"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 2\r\n\r\n{}", 1, "no reason given"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", 1, "502 Bad Gateway"),
        (b"SSH-2.0-OpenSSH\r\n", 6, "broke off"),
        (b"", 6, "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", 6, "broke off"),
    ],
)
def test_what_is_no_admin_api(ctl: Ctl, content: bytes, code: int, words: str) -> None:
    with answering(content) as address:
        done = ctl("history", "--admin", address)
    assert done.code == code
    assert words in done.err
    assert address in done.err or "no reason" in done.err


@pytest.mark.parametrize(("words", "hint"), [(["history"], False), (["set-weight", "25"], True)])
def test_no_answer_is_a_timeout(ctl: Ctl, monkeypatch: pytest.MonkeyPatch, words: list[str], hint: bool) -> None:
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = ctl(*words, "--admin", f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert done.code == 4
    assert "did not answer within" in done.err
    assert ("it may have been done" in done.err) is hint


def test_a_token_in_the_clear_is_warned_about(ctl: Ctl, capsys: pytest.CaptureFixture[str]) -> None:
    from proxy.cli.endpoints import Target, parse

    admin = client.Admin(Target((parse("http://proxy.example:9900"),), "cf_x"))
    admin._found = parse("http://proxy.example:9900")
    assert admin._authorization() == {"Authorization": "Bearer cf_x"}
    assert "unencrypted" in capsys.readouterr().err
    admin._found = parse("http://127.0.0.1:9900")
    assert admin._authorization() == {"Authorization": "Bearer cf_x"}
    assert capsys.readouterr().err == ""


def test_https_is_spoken_to_https(ctl: Ctl) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as address:
        done = ctl("history", "--admin", address.replace("http:", "https:"))
    assert done.code == 6
    assert "SSL" in done.err or "ssl" in done.err


def test_the_actor_of_a_user_without_a_name(ctl: Ctl, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    assert ctl("rollback").code == 0
    assert admin.requests[0][2]["x-actor"].startswith("4000000000@")
