"""The page of what is accepted, refused and rewritten is that of the cases."""

from __future__ import annotations

import re

from tests.http.cases import CASES
from tests.http.document import PAGE, page


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.http.document"


def test_every_case_has_a_line_of_its_own() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| ") and "`` " in line]
    assert len(rows) == len(CASES)
    refused = [case for case in CASES if not case.upstream]
    assert sum(row.endswith("** |") for row in rows) == len(refused)


def test_the_order_of_the_headers_is_the_one_that_backends_get() -> None:
    (sentence,) = re.findall(r"What is accepted is written anew,.*? of our own\.", page(), re.DOTALL)
    said = re.findall(r"`([A-Z][\w-]+)`", sentence.replace("the end-to-end headers", "`Idempotency-Key`"))
    (case,) = (case for case in CASES if case.name == "Idempotency-Key is an id")
    head = case.upstream.partition(b"\r\n\r\n")[0].decode()
    assert said == [line.partition(":")[0] for line in head.split("\r\n")[1:]]
