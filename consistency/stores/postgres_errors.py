"""What PostgreSQL and its driver raise, as ours: by SQLSTATE (PostgreSQL's manual, appendix A)."""

from __future__ import annotations

from typing import Final

import asyncpg

from consistency.stores.errors import (
    StoreChanged,
    StoreDenied,
    StoreError,
    StoreGarbage,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)

FOREIGN: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, UnicodeError)
"""What to catch; TimeoutError is an OSError."""

_WORDS: Final = 200
"""Characters of a text that is not ours."""

_BY_STATE: Final[tuple[tuple[str, type[StoreError]], ...]] = (
    ("28", StoreDenied),  # unknown user, wrong password
    ("42501", StoreDenied),  # insufficient privilege
    ("25006", StoreDenied),  # a read-only server
    ("3D", StoreMissing),  # database
    ("3F", StoreMissing),  # schema
    ("42P01", StoreMissing),  # table
    ("42703", StoreChanged),  # column: it was there when we looked
    ("42883", StoreChanged),  # operator: a type is another one
    ("42804", StoreChanged),
    ("42846", StoreChanged),
    ("22", StoreGarbage),  # a value that cannot be read
    ("0A", StoreGarbage),
)


def translated(store: str, error: Exception, timeout: float, *, is_writing: bool = False) -> StoreError:
    """Our error for a foreign one. store: its name; timeout: of the question, seconds."""
    if isinstance(error, asyncpg.QueryCanceledError | asyncpg.LockNotAvailableError | TimeoutError):
        return StoreUnreachable(store, f"no answer within {timeout:g} s: it is overloaded, locked, or lacks an index")
    if isinstance(error, UnicodeError):
        return StoreGarbage(store, "it sent text that is not UTF-8: a column holds bytes that are none of its encoding")
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        words = _words(error)
        kind = next((kind for begin, kind in _BY_STATE if state.startswith(begin)), None)
        if is_writing and (state[:2] in ("22", "23", "42", "44", "55", "0A", "P0", "27", "09")) and state != "42501":
            return StoreRefused(store, f"it took none of the rows: {words} ({state})", 0)
        if kind is not None:
            return kind(store, f"{words} ({state})")
        return StoreUnreachable(store, f"{words} ({state})")
    if isinstance(error, asyncpg.InternalClientError):
        return StoreGarbage(store, f"it does not speak PostgreSQL's protocol: {_words(error)}")
    return StoreUnreachable(store, _words(error) or type(error).__name__)


def _words(error: Exception) -> str:
    """What it says, without details, which quote rows."""
    text = str(error).partition("\n")[0]
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}..."
