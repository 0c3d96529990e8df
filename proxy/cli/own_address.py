"""Is a URL one of the instance that was asked, so that what this instance says of its routes holds there?

    listens on 127.0.0.1:8080   that host by any of its names, and that port
    listens on 0.0.0.0:8080     every IPv4 address of the machine that the admin API is on; [::]:8080 every IPv6 one

An admin API on a Unix socket or a loopback address is on this machine. One elsewhere says nothing about loopback
addresses, which are this machine's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from config.units import Address, parse_address

Ip = IPv4Address | IPv6Address


def is_own(address: Address, listen: Iterable[str], admin: str) -> bool:
    """address: the URL's; listen: where clients come in, `host:port`; admin: the API's, as --admin has it."""
    asked = _ips(address.host)
    machine = _machine(admin)
    for each in map(parse_address, listen):
        if each.port == address.port and any(_is_met(ip, each, machine) for ip in asked):
            return True
    return False


def _is_met(ip: Ip, listening: Address, machine: set[Ip] | None) -> bool:
    """Does who connects to this address come to that listener? machine: see `_machine`."""
    if ip.is_loopback and machine is not None:
        return False
    if not listening.is_any():
        return ip in _ips(listening.host)
    if ip.version != ip_address(listening.host).version:
        return False
    return _is_ours(ip) if machine is None else ip in machine


def _machine(admin: str) -> set[Ip] | None:
    """The known addresses of the machine that the admin API is on; None for this one."""
    if admin.startswith("unix:"):
        return None
    found = _ips(urlsplit(admin).hostname or "")
    return None if any(_is_ours(ip) for ip in found) else found


def _ips(host: str) -> set[Ip]:
    """What a host name stands for; nothing when it cannot be looked up."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {ip_address(str(each[4][0]).partition("%")[0]) for each in found}


def _is_ours(ip: Ip) -> bool:
    """Is it an address of this machine? Only such a one can be bound."""
    if ip.is_loopback:
        return True
    with socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6) as probe:
        try:
            probe.bind((str(ip), 0))
        except OSError:
            return False
    return True
