"""Who may do what with the admin API.

Unix socket     its mode (0600) has decided already: always operator
TCP             a change needs an operator's token; a read needs a viewer's or an operator's as soon as any exists
                a hook needs a token of the role hook, which may do nothing else, or an operator's
both            Host must be one of ours (DNS rebinding), and a browser's Origin must be the same as Host
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from proxy.control.operations import Access
from proxy.control.problems import Problem
from proxy.control.tokens import Tokens

HOW_TO_GET_ONE = "a token is needed: proxyctl token create NAME --role {role}, on the machine of the instance"
_MAY = {"viewer": ("viewer",), "operator": ("viewer", "operator", "hook"), "hook": ("hook",)}
"""By role, what its token opens."""
_WHOSE = {"viewer": "a viewer's", "operator": "an operator's", "hook": "a hook's"}


class Caller(NamedTuple):
    """Who calls. name: the token's, empty without one; role: viewer, operator or hook."""

    name: str
    role: str


def check_caller(
    access: Access, *, trusted: bool, authorization: str | None, tokens: Tokens, socket: str = ""
) -> Caller:
    """Who calls, if he may do this; raises Problem 401 or 403.

    trusted: over the Unix socket; socket: its path, told to who comes over TCP without a token, so that a
    user who may open it needs none.
    """
    if trusted:
        return Caller("", "operator")
    if access == "open":
        return Caller("", "viewer")
    if authorization is None:
        if access == "viewer" and not tokens.any:
            return Caller("", "viewer")
        role = "hook" if access == "hook" else "operator"
        raise Problem(401, HOW_TO_GET_ONE.format(role=role), admin_socket=socket)
    scheme, _, secret = authorization.partition(" ")
    token = tokens.find(secret.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        raise Problem(401, "this token is not known here, or it was revoked")
    if access not in _MAY[token.role]:
        raise Problem(403, f"the token {token.name} is {_WHOSE[token.role]}; this needs {_WHOSE[access]}")
    return Caller(token.name, token.role)


def check_origin(host: str | None, origin: str | None, believed: frozenset[str]) -> None:
    """Raise Problem 403 for a Host that is not ours or an Origin that is not Host.

    believed: host names beside localhost and loopback addresses, in lower case, with or without port.
    """
    if host is None or not is_believed(host, believed):
        raise Problem(403, "host not allowed; add it to admin.hosts if it is a name of this instance")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise Problem(403, "origin not allowed: pages of other sites may not call this API")


def is_believed(host: str, believed: frozenset[str]) -> bool:
    """Is a Host header (`name`, `name:port`, `[::1]:port`) one of ours?"""
    host = host.lower()
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if not name:
        return False
    return name == "localhost" or name in believed or host in believed or is_loopback(name)


def is_loopback(name: str) -> bool:
    """Is it an IP address of this machine's loopback, or localhost?"""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
