"""A kind of store that another package brings, found by its entry point as an installer leaves it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consistency.stores.opening import GROUP
from tests.consistency.test_verify import ask, configuration, event, names, put

MODULE = '''
"""Rows in a file, one JSON array [identity, seconds, fields] to a line."""
import json

from consistency.rows import Row
from consistency.stores.protocol import Traits


class Lines:
    def __init__(self, name, options):
        self.name, self._file = name, options["file"]
        self.traits = Traits(is_writable=True)

    def _rows(self):
        with open(self._file) as file:
            return [Row(id, at * 10**9, fields) for id, at, fields in map(json.loads, file)]

    async def open(self):
        self._rows()

    async def rows(self, span, series=None):
        yield [row for row in self._rows() if span.start <= row.at < span.end]

    async def fetch(self, keys, step=1):
        return [row for row in self._rows() if row.identity in {key.identity for key in keys}]

    async def write(self, rows):
        known = {row.identity for row in self._rows()}
        with open(self._file, "a") as file:
            for row in rows:
                if row.identity not in known:
                    file.write(json.dumps([row.identity, row.at // 10**9, row.fields]) + "\\n")
        return len({row.identity for row in rows} - known)

    async def close(self):
        pass
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the package is installed."""
    site = tmp_path / "site"
    about = site / "lines_store-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lines-store\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\nlines = lines_store:Lines\nbroken = lines_store:Gone\n")
    (site / "lines_store.py").write_text(MODULE)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr("consistency.__main__.BACK_OFF", (0.0, 0.0, 0.0))
    yield site
    sys.modules.pop("lines_store", None)


def check(folder: Path, name: str = "lines", **options: Any) -> Path:
    return configuration(folder, new={"plugin": {"plugin": name, "options": options}})


def test_its_rows_are_compared_and_mended(tmp_path: Path, installed: Path) -> None:
    put(tmp_path, "old", event(1), event(2))
    file = installed / "new.lines"
    _, at, temperature, state, body = event(1)
    file.write_text(
        f'["e0001", {at}, {{"temperature": {temperature}, "state": "{state}", "body": "{{\\"n\\": 1}}"}}]\n'
    )
    assert body == '{"n": 1}'
    path = check(tmp_path, file=str(file))
    answer = ask(path)
    assert (names(answer), answer["classes"]["equal"]) == ({"e0002": "unrecorded"}, 1)
    assert ask(path, repair=True, two_way=True)["repair"]["written"] == {"old": 0, "new": 1}
    assert ask(path)["result"] == "pass"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("lines", {}, "store new: the package that brings 'lines' does not make one: KeyError: 'file'"),
        ("broken", {}, "store new: the package that brings 'broken' does not make one: AttributeError: "),
        ("other", {}, "stores of the kind 'other'; there are: broken, lines"),
    ],
)
def test_one_that_cannot_be_made_is_inconclusive(
    tmp_path: Path, name: str, options: dict[str, Any], reason: str
) -> None:
    put(tmp_path, "old", event(1))
    answer = ask(check(tmp_path, name, **options))
    assert answer["result"] == "inconclusive"
    assert reason in answer["inconclusive"][0]["reason"]
