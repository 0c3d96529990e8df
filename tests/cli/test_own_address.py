"""Whether a URL is one of the instance that was asked."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from config.units import Address
from proxy.cli import own_address
from proxy.cli.own_address import is_own

HERE = "unix:/run/admin.sock"
THERE = "http://192.0.2.1:9900"
"""A machine whose addresses are those of documentation (RFC 5737): they are never ours."""
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "this.example": ["198.51.100.7"],
    "edge.example": ["192.0.2.1", "2001:db8::1"],
}


@pytest.fixture(autouse=True)
def known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up here alone, and this machine has 198.51.100.7 beside loopback."""
    system = socket.getaddrinfo

    def found(host: str, *rest: Any, **options: Any) -> Any:
        if host in NAMES:
            return [each for text in NAMES[host] for each in system(text, *rest, **options)]
        return system(host, *rest, **options | {"flags": socket.AI_NUMERICHOST})

    is_ours = own_address._is_ours
    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(own_address, "_is_ours", lambda ip: str(ip) == "198.51.100.7" or is_ours(ip))


@pytest.mark.parametrize(
    ("host", "listen", "admin", "is_met"),
    [
        ("127.0.0.1", "127.0.0.1:8080", HERE, True),
        ("127.0.0.1", "127.0.0.1:8081", HERE, False),
        ("127.0.0.2", "127.0.0.1:8080", HERE, False),
        ("localhost", "127.0.0.1:8080", HERE, True),
        ("localhost", "[::1]:8080", HERE, True),
        ("127.0.0.1", "localhost:8080", HERE, True),
        ("localhost", "0.0.0.0:8080", HERE, True),
        ("127.0.0.1", "0.0.0.0:8080", "http://127.0.0.1:9900", True),
        ("127.0.0.1", "0.0.0.0:8080", "https://localhost:9900", True),
        ("::1", "[::]:8080", HERE, True),
        ("::1", "0.0.0.0:8080", HERE, False),
        ("127.0.0.1", "[::]:8080", HERE, False),
        ("this.example", "0.0.0.0:8080", HERE, True),
        ("198.51.100.7", "0.0.0.0:8080", "http://this.example:9900", True),
        ("edge.example", "0.0.0.0:8080", HERE, False),
        ("192.0.2.1", "0.0.0.0:8080", HERE, False),
        ("edge.example", "192.0.2.1:8080", HERE, True),
        ("edge.example", "0.0.0.0:8080", THERE, True),
        ("192.0.2.1", "0.0.0.0:8080", "https://edge.example", True),
        ("2001:db8::1", "[::]:8080", "https://edge.example", True),
        ("192.0.2.2", "0.0.0.0:8080", THERE, False),
        ("127.0.0.1", "0.0.0.0:8080", THERE, False),
        ("127.0.0.1", "127.0.0.1:8080", THERE, False),
        ("198.51.100.7", "0.0.0.0:8080", THERE, False),
        ("nowhere.example", "0.0.0.0:8080", HERE, False),
    ],
)
def test_an_address(host: str, listen: str, admin: str, is_met: bool) -> None:
    assert is_own(Address(host, 8080), [listen], admin) == is_met
    assert is_own(Address(host, 8080), ["203.0.113.9:1", listen], admin) == is_met


def test_an_instance_without_clients() -> None:
    assert not is_own(Address("127.0.0.1", 8080), [], HERE)
