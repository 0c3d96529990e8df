"""JSON in text fields: compared as what it says."""

from __future__ import annotations

from typing import Any

import pytest

from consistency.documents import taken_apart
from consistency.rows import Row


def apart(value: Any) -> Any:
    (row,) = taken_apart([Row("a", 1, {"body": value, "other": '{"x": 1}'})], ["body", "not-there"])
    assert row.fields["other"] == '{"x": 1}'
    assert "not-there" not in row.fields
    return row.fields["body"]


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ('{"t": 1.0, "n": [1, null, true]}', {"t": 1.0, "n": [1, None, True]}),
        (b'{"t":"\xc2\xb0C"}', {"t": "°C"}),
        ("[123456789012345678901234567890]", [123456789012345678901234567890]),
        ("{}", {}),
    ],
)
def test_documents(text: str | bytes, document: Any) -> None:
    assert apart(text) == document
    assert type(apart(text)) is type(document)


@pytest.mark.parametrize(
    "value",
    ["on", "", "21.5", "1", '"on"', "null", '{"a":', "NaN", b"\xff", '{"a": 1}x', "[" * 100_000, 17, None, True, [1]],
)
def test_what_is_no_document_stays(value: Any) -> None:
    assert apart(value) is value


def test_the_row_that_was_read_stays_as_it_was() -> None:
    row = Row("a", 1, {"body": "[1]"})
    assert taken_apart([row], ["body"])[0].fields == {"body": [1]}
    assert row.fields == {"body": "[1]"}
