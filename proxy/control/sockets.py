"""Listening sockets, bound by ourselves so that their options and modes are ours too."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Final

from config.units import parse_address
from proxy.core.errors import RefuseToStart

BACKLOG: Final = 4096


def listen_tcp(address: str, backlog: int = BACKLOG) -> socket.socket:
    """A listening TCP socket on `host:port`; raises OSError.

    Never SO_REUSEPORT: closing such a listener resets the connections in its queue.
    """
    host, port = parse_address(address)
    family, kind, protocol, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def listen_unix(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0600 in place of a predecessor's; raises RefuseToStart."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode must hold from the first moment, and a chmod after bind comes too late for that.
    umask = os.umask(0o177)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise RefuseToStart(f"cannot listen on unix:{path}: {error.strerror or error}") from None
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(umask)
    return listener


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise RefuseToStart(f"{path} is in the way of a Unix socket and is not one; nothing was removed")
    path.unlink()


def address_text(listener: socket.socket) -> str:
    """`127.0.0.1:8080` or `[::1]:8080`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_at(listener: socket.socket, address: str) -> bool:
    """Does a TCP socket listen on `host:port`? A name stands for the first address that it has."""
    host, port = parse_address(address)
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
    except OSError:
        return False
    return listener.family == family and listener.getsockname()[:2] == where[:2]
