"""Bearer tokens of the admin API: a name, a role, and the hash of the secret. The secret is shown once.

A token is 256 random bits, so a plain SHA-256 is enough: there is nothing to guess that a slow hash
would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Final, Literal

import msgspec

from proxy.control.files import write_whole
from proxy.core.errors import RefuseToStart

TOKENS_SCHEMA: Final = 1
Role = Literal["viewer", "operator", "hook"]


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a token. created_at: ISO 8601, UTC."""

    name: str
    role: Role
    sha256: str
    created_at: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    tokens: list[Token]


class Tokens:
    """`tokens.json`, read at start. Raises RefuseToStart when the file is not ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens = {token.name: token for token in _read(path)}

    @property
    def any(self) -> bool:
        """Is there a token at all?"""
        return bool(self._tokens)

    def listed(self) -> list[Token]:
        """All tokens by name."""
        return sorted(self._tokens.values(), key=lambda token: token.name)

    def find(self, secret: str) -> Token | None:
        """The token with this secret. Compares with every hash, in constant time each."""
        digest = _digest(secret)
        found = None
        for token in self._tokens.values():
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found

    def has(self, name: str) -> bool:
        """Is the name taken?"""
        return name in self._tokens

    def create(self, name: str, role: Role, created_at: str) -> str:
        """Make a token; its secret, which is kept nowhere. The name must be free. Raises OSError."""
        secret = f"cf_{secrets.token_urlsafe(32)}"
        self._write(self._tokens | {name: Token(name, role, _digest(secret), created_at)})
        return secret

    def revoke(self, name: str) -> None:
        """Remove a token; from now on it is a wrong one. Raises KeyError, OSError."""
        tokens = dict(self._tokens)
        del tokens[name]
        self._write(tokens)

    def _write(self, tokens: dict[str, Token]) -> None:
        write_whole(self._path, msgspec.json.encode(_File(TOKENS_SCHEMA, [*tokens.values()])))
        self._tokens = tokens


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(path: Path) -> list[Token]:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RefuseToStart(f"cannot read {path}: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise RefuseToStart(f"{path} is not a Crossfade token file ({error}); move it away or restore it") from None
    if content.schema != TOKENS_SCHEMA:
        raise RefuseToStart(f"{path} has schema {content.schema}, this version reads {TOKENS_SCHEMA}")
    return content.tokens
