"""What Home Assistant's recorder stored: the truth of which state changes there were.

https://www.home-assistant.io/docs/backend/database has the tables; a state's time is `last_updated_ts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import msgspec

_PATIENCE_MS: Final = 10_000
_BASE32: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_QUERY: Final = """
SELECT m.entity_id, s.state, a.shared_attrs, s.last_updated_ts, s.context_id_bin
FROM states AS s JOIN states_meta AS m USING (metadata_id) LEFT JOIN state_attributes AS a USING (attributes_id)
ORDER BY s.state_id
"""


class Recorded(NamedTuple):
    """One state change. state: None when the entity was removed; at: microseconds; context: the id of what caused it,
    which several changes may share.
    """

    entity: str
    state: str | None
    attributes: dict[str, Any]
    at: int
    context: str


def read_recorded(path: Path) -> list[Recorded]:
    """All of them, in the order in which they were recorded; Home Assistant may have the file open.

    Raises OSError when the file is none of a recorder.
    """
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_timeout(_PATIENCE_MS)
            rows: list[Any] = db.execute(_QUERY).fetchall()
        finally:
            db.close()
    except apsw.Error as error:
        raise OSError(f"{path}: {error}") from None
    return [
        Recorded(entity, state, msgspec.json.decode(attributes or "{}"), round(at * 1e6), context_id(context or b""))
        for entity, state, attributes, at, context in rows
    ]


def context_id(data: bytes) -> str:
    """A context's id as its events have it, by the 16 bytes that are stored: a ULID (github.com/ulid/spec)."""
    number = int.from_bytes(data)
    return "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5)) if data else ""
