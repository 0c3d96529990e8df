"""Reads the file again and says what it would change. In a process of its own: a bad file harms nobody.

launcher --(SIGHUP)--> preflight: look() --ProposeSettings--> supervisor: fixed? owed? frozen? --Decided--> a plan
supervisor --(--dry-run)--> python -m proxy.control.reload: look() --JSON-->
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from config.changes import Process as Touched
from config.changes import changes, digest, flatten, touched
from config.errors import ConfigErrors
from config.loader import load
from config.model import Settings
from proxy.control.configuration import key_changes, read_text, text_digest
from proxy.control.inherit import Inherited
from proxy.control.link import Decided, FileError, ProposeSettings, Register, encoder, from_supervisor
from proxy.control.link_client import LENGTH_BYTES, MAX_MESSAGE, pack
from proxy.core.errors import CrossfadeError

ANSWER_WAIT: Final = 15.0
"""Seconds that the supervisor has to decide; it writes to the audit trail first."""


class Looked(NamedTuple):
    """What a look at the file found. settings: None where it has errors; touched: who must hear of the changes."""

    proposal: ProposeSettings
    settings: Settings | None = None
    touched: frozenset[Touched] = frozenset()


class NobodyDecides(CrossfadeError):
    """The supervisor could not be asked; nothing is changed then."""


def look(path: Path, running: Settings, environ: Mapping[str, str] = os.environ) -> Looked:
    """Read the file and hold it against the settings that are served."""
    text = read_text(path)
    name, seen = str(path), text_digest(text)
    try:
        settings = load(path, text=text, environ=environ, with_outside=True)
    except ConfigErrors as errors:
        found = [FileError(e.path, e.line, e.column, e.message, e.suggestion) for e in errors]
        return Looked(ProposeSettings(name, seen, errors=found))
    before, after = flatten(running), flatten(settings)
    different = changes(before, after)
    keys = {each.key for each in different}
    routes = {route.name: route for route in settings.routes}
    known = {route.name for route in running.routes}
    moved: dict[str, tuple[str, float | None]] = {
        name: (route.stage, route.weight)
        for name, route in routes.items()
        if name in known and keys & {f"routes.{name}.stage", f"routes.{name}.weight"}
    }
    left = sorted(known - routes.keys())
    proposal = ProposeSettings(name, seen, digest(after), [], key_changes(different), moved, left)
    return Looked(proposal, settings, touched(different))


def propose(control_socket: Path, proposal: ProposeSettings) -> Decided:
    """Ask the supervisor; raises NobodyDecides when it cannot be asked or does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(ANSWER_WAIT)
            link.connect(str(control_socket))
            link.sendall(pack(Register("loader", 0, os.getpid(), "")) + pack(proposal))
            while True:
                message = from_supervisor.decode(_receive(link))
                if isinstance(message, Decided):
                    return message
    except (OSError, msgspec.DecodeError, EOFError) as error:
        why = str(error) or type(error).__name__
        raise NobodyDecides(f"the supervisor could not be asked ({why}); try again in a moment") from None


def _receive(link: socket.socket) -> bytes:
    length = int.from_bytes(_read_exactly(link, LENGTH_BYTES), "big")
    if length > MAX_MESSAGE:
        raise EOFError(f"it announced a message of {length} bytes")
    return _read_exactly(link, length)


def _read_exactly(link: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = link.recv(size - len(parts))
        if not part:
            raise EOFError("it broke off")
        parts += part
    return bytes(parts)


def main() -> int:
    """Print what the file would change, as JSON; for the supervisor, which then says what stands against it."""
    inherited = Inherited.from_environment()
    sys.stdout.buffer.write(encoder.encode(look(inherited.config_path, inherited.settings).proposal))
    return 0


if __name__ == "__main__":
    sys.exit(main())
