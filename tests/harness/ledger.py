"""The ledger's receipts, read through the admin API."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from proxy.demo.admin import Admin

_PAGE = 1_000


class SideReceipt(msgspec.Struct):
    """What became of an event at one side."""

    state: str
    status: int
    attempts: int


class Receipt(msgspec.Struct):
    """One event's receipt, as far as the tests read it."""

    seq: int
    id: str
    route: str
    key: str
    bucket: int
    epoch: int
    authority: str
    identities: list[str]
    old: SideReceipt | None
    new: SideReceipt | None


async def all_receipts(admin: Admin) -> list[Receipt]:
    """Every receipt, in the ledger's sequence."""
    receipts: list[Receipt] = []
    after: int | None = 0
    while after is not None:
        page: dict[str, Any] = await admin.ask("GET", f"/api/v1/ledger/events?limit={_PAGE}&after_seq={after}")
        receipts += msgspec.convert(page["events"], list[Receipt])
        after = page["next_after_seq"]
    assert [receipt.seq for receipt in receipts] == sorted({receipt.seq for receipt in receipts})
    return receipts


def count_states(receipts: list[Receipt], side: str) -> Counter[str]:
    """How many receipts are in each state at a side (old or new)."""
    return Counter(found.state for receipt in receipts if (found := getattr(receipt, side)) is not None)
