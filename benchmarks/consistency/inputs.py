"""Two tables as Parquet files that are the same but for a few rows, which are known."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import duckdb

BEGIN: Final = 1_769_860_800 * 10**9
"""2026-01-31T12:00:00Z, nanoseconds."""
STEP: Final = 1_000_000
"""Nanoseconds from one row to the next."""
DIFFERENT: Final = 10

_ROWS: Final = """
SELECT 'event-' || lpad(CAST(i AS VARCHAR), 10, '0') AS id, {begin} + i * {step} AS moment, i % 1000 AS sensor,
    (i * 7919 % 100003) / 1000.0::DOUBLE AS temperature, (i * 31 % 1000) / 10.0::DOUBLE AS humidity,
    i % 2 = 0 AS occupied, 'state ' || (i % 50) AS state, i * 3 AS counter,
    CAST(hash(i) AS VARCHAR) AS context, (i % 97) / 7.0::DOUBLE AS power
FROM range({rows}) AS numbers(i)
"""


class Inputs(NamedTuple):
    """rows: of old; lost, different: ids of what new lacks and of what differs there."""

    folder: Path
    rows: int
    lost: str
    different: frozenset[str]

    @property
    def mebibytes(self) -> float:
        """Size of both files."""
        return sum(file.stat().st_size for file in self.folder.glob("*.parquet")) / 2**20


def make(folder: Path, rows: int) -> Inputs:
    """Files `old.parquet` and `new.parquet` of ten columns. One row is lost, DIFFERENT ones differ in a value."""
    folder.mkdir(parents=True)
    lost = _id(rows // 2)
    different = frozenset(_id(rows // 3 + number * (rows // 40)) for number in range(DIFFERENT))
    query = _ROWS.format(begin=BEGIN, step=STEP, rows=rows)
    changed = ", ".join(f"'{each}'" for each in sorted(different))
    connection = duckdb.connect(config={"memory_limit": "1GB"})
    try:
        connection.execute(f"COPY ({query}) TO '{folder}/old.parquet'")
        connection.execute(
            f"COPY (SELECT * REPLACE (CASE WHEN id IN ({changed}) THEN temperature + 5 ELSE temperature END AS "  # noqa: S608
            f"temperature) FROM ({query}) WHERE id <> '{lost}') TO '{folder}/new.parquet'"
        )
    finally:
        connection.close()
    return Inputs(folder, rows, lost, different)


def _id(number: int) -> str:
    return f"event-{number:010}"
