"""The salt places every key in its bucket; another salt on the same state would break order and stickiness.

So the state directory keeps its fingerprint, and an instance with another salt does not start.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

import orjson

from proxy.control.files import write_whole
from proxy.core.errors import RefuseToStart

_SCHEMA: Final = 1


def check_salt(path: Path, salt: str) -> None:
    """Keep the salt's fingerprint in a new state directory, hold later starts to it; raises RefuseToStart."""
    fingerprint = sha256(b"crossfade salt\0" + salt.encode()).hexdigest()
    try:
        known = orjson.loads(path.read_bytes())
        schema, before = known["schema"], known["fingerprint"]
    except FileNotFoundError:
        _keep(path, fingerprint)
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RefuseToStart(f"{path} cannot be read as a salt's fingerprint: {error}") from None
    if schema != _SCHEMA:
        raise RefuseToStart(
            f"{path} has schema {schema!r}, this version reads {_SCHEMA}; start the version that wrote it"
        )
    if before != fingerprint:
        raise RefuseToStart(
            f"the salt is not the one that the events in {path.parent} were placed by; "
            "give back the old salt, or use a new state_dir once nothing is owed any more"
        )


def _keep(path: Path, fingerprint: str) -> None:
    try:
        write_whole(path, orjson.dumps({"schema": _SCHEMA, "fingerprint": fingerprint}))
    except OSError as error:
        raise RefuseToStart(f"cannot write {path}: {error.strerror or error}") from None
