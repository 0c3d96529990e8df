"""Puts together what judges windows, from the settings of a check: both stores, the ledger's record, the judge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from config.consistency import Check
from consistency.compare import Judge, TimeRule
from consistency.content import content_name
from consistency.identity import Naming
from consistency.judge import Checker, Sleep
from consistency.ledger import Identify, by_event_id, by_values
from consistency.recorded import Records
from consistency.rules import Rules
from consistency.stores.errors import StoreGarbage
from consistency.stores.opening import store_of
from consistency.stores.protocol import Store


async def both_stores(check: Check, stack: AsyncExitStack) -> tuple[Store, Store]:
    """Both stores, open and fit to be compared; the stack closes them. Raises StoreError."""
    stores = store_of("old", check.old.settings), store_of("new", check.new.settings)
    for store in stores:
        stack.push_async_callback(store.close)
        await store.open()
    old, new = stores
    if old.traits.is_keyed_by_time != new.traits.is_keyed_by_time:
        raise StoreGarbage(
            "new", "its rows and old's cannot be told to be the same: one names them by time, one does not"
        )
    return old, new


def naming_of(old: Store, new: Store) -> Naming:
    """How rows of these two find each other."""
    return Naming(
        max(old.traits.precision, new.traits.precision),
        is_keyed_by_time=old.traits.is_keyed_by_time and new.traits.is_keyed_by_time,
    )


def identify_of(check: Check) -> Identify:
    """What an event of the ledger is called in the stores."""
    return by_values if check.identity == "identities" else by_event_id


def judge_of(check: Check, rules: Rules, stores: tuple[Store, Store], records: Records) -> Judge:
    """What gives identities of these stores their classes."""
    times = TimeRule(round(check.time_within * 1e9), is_compared=check.time == "compare")
    naming = naming_of(*stores)
    if check.identity == "content":
        naming = Naming(naming.precision, content=lambda fields: content_name(rules.asked(fields)))
    return Judge(rules, naming, records.covers, times)


def checker_of(
    check: Check,
    rules: Rules,
    stores: tuple[Store, Store],
    records: Records,
    *,
    is_inside: Callable[[int], bool],
    back_off: tuple[float, ...],
    sleep: Sleep = asyncio.sleep,
    wall: Callable[[], int] = time.time_ns,
) -> Checker:
    """What judges windows of these stores. rules: of the check; the others: see `judge.Checker`."""
    return Checker(
        *stores,
        records,
        judge_of(check, rules, stores, records),
        documents=check.json_fields,
        is_inside=is_inside,
        memory=check.memory,
        back_off=back_off,
        sleep=sleep,
        wall=wall,
    )
