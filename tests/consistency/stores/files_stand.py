"""A place for rows in exported files: a folder of Parquet files, one more for each time that it is filled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from config.stores import FilesStore as Settings
from consistency.rows import Row
from consistency.stores.files import FilesStore
from consistency.stores.protocol import Traits
from tests.consistency.stores.stand import VALUES

NAME: Final = "old"
COLUMNS: Final = {
    "id": "VARCHAR",
    "ns": "BIGINT",
    "whole": "BIGINT",
    "ratio": "DOUBLE",
    "flag": "BOOLEAN",
    "note": "VARCHAR",
}


class FilesStand:
    """A folder. stored: what stands in the column of a time, in SQL, of the number of nanoseconds `ns`."""

    values: Sequence[tuple[str, Any]] = VALUES
    secrets: tuple[str, ...] = ()

    def __init__(self, folder: Path, stored: str = "ns", traits: Traits | None = None, **settings: Any) -> None:
        self.folder = folder
        self.stored = stored
        self.traits = traits or Traits(is_writable=False)
        self.settings = {"identity": ("id",), "time": "at", "time_unit": "ns"} | settings
        self._stores: list[FilesStore] = []
        self._number = 0
        self.put([])

    def identity(self, name: str) -> str:
        return name

    async def fill(self, rows: Sequence[Row]) -> None:
        await asyncio.to_thread(self.put, rows)

    def put(self, rows: Sequence[Row]) -> None:
        """Rows into one file more."""
        text = self.folder / "rows.json"
        with text.open("w") as file:
            for row in rows:
                file.write(json.dumps({"id": row.identity, "ns": row.at} | row.fields) + "\n")
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
        source = f"read_json('{text}', format = 'newline_delimited', columns = {{{columns}}})"
        self._number += 1
        self.copy(
            f'SELECT id, {self.stored} AS "at", whole, ratio, flag, note FROM {source}', f"part-{self._number}.parquet"
        )

    def copy(self, query: str, file: str) -> None:
        """What a query gives, as a file."""
        connection = duckdb.connect(config={"threads": 1})
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({query}) TO '{self.folder / file}'")
        connection.close()

    def store(self, timeout: float = 10.0) -> FilesStore:
        values = {"files": str(self.folder / "*.parquet"), "timeout": f"{timeout}s"} | self.settings
        self._stores.append(FilesStore(NAME, Settings.model_validate(values)))
        return self._stores[-1]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


MakeFiles = Callable[..., Awaitable[FilesStand]]
