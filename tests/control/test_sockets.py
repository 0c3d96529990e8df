"""Listening sockets: modes, stale ones, and what is not ours."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from proxy.control.sockets import address_text, listen_tcp, listen_unix
from proxy.core.errors import RefuseToStart


def test_ipv6() -> None:
    with listen_tcp("[::1]:0") as listener:
        assert address_text(listener).startswith("[::1]:")


def test_a_taken_address_is_an_error() -> None:
    with listen_tcp("127.0.0.1:0") as listener, pytest.raises(OSError, match="in use"):
        listen_tcp(address_text(listener))


def test_unix_socket_is_private_and_replaces_a_stale_one(state_dir: Path) -> None:
    path = state_dir / "x.sock"
    listen_unix(path).close()
    assert path.is_socket()
    with listen_unix(path), socket.socket(socket.AF_UNIX) as client:
        assert path.stat().st_mode & 0o777 == 0o600
        client.connect(str(path))


def test_a_file_in_the_way_is_left_alone(state_dir: Path) -> None:
    path = state_dir / "x.sock"
    path.write_text("precious")
    with pytest.raises(RefuseToStart, match="in the way"):
        listen_unix(path)
    assert path.read_text() == "precious"


def test_a_missing_directory_is_refused(state_dir: Path) -> None:
    with pytest.raises(RefuseToStart, match="cannot listen on unix:"):
        listen_unix(state_dir / "none" / "x.sock")
