"""The weight: exact, sticky, and turned under load without a client noticing."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from proxy.core.choose import BUCKETS, bucket_of, seed_of
from proxy.demo.load import until_accepted
from proxy.demo.record import Promise
from tests.harness.scene import NEVER_REVERT, paced, scene

pytestmark = pytest.mark.asyncio


def is_new(key: str, salt: str, weight: float) -> bool:
    return bucket_of(key, seed_of(salt)) < weight * BUCKETS / 100


async def test_split_sends_each_key_where_its_bucket_says_and_never_back() -> None:
    salt = "a salt of this test"

    def salted(config: dict[str, object]) -> None:
        config["salt"] = salt

    async with scene(salted, stage="split", weight=30) as opened:
        load = opened.load(rate=600.0, keys=600, connections=12)
        await until_accepted(load, paced(1_000))
        assert all((each.by == "new") == is_new(each.key, salt, 30) for each in load.record.promises)
        await opened.admin.stage("split", 60)
        after = load.record.accepted + 12
        await until_accepted(load, paced(1_000) + 12)
        record = await load.stop()
        assert all((each.by == "new") == is_new(each.key, salt, 60) for each in record.promises[after:])
        moved_back = [
            (before.key, before.id)
            for key, promises in _by_key(record.promises).items()
            for before, later in pairwise(promises)
            if before.by == "new" and later.by == "old"
        ]
        assert moved_back == []
        assert record.client_errors == 0, record.errors_text()
        receipts = await opened.verify(record, sides="either")
        by = {promise.id: promise.by for promise in record.promises}
        stored = Counter(row.id for row in opened.old.stored()) + Counter(row.id for row in opened.new.stored())
        assert set(stored.values()) == {1}, "in split an event is on one side, once"
        assert all(
            (receipt.old is not None and receipt.old.state == "deferred") == (by[receipt.id] == "new")
            for receipt in receipts
        )

        # What new answered is carried over: after the rollback old has everything.
        await opened.admin.rollback("test")
        await opened.admin.until(lambda s: s.routes[0].sides["old"].ledger.deferred == 0, 30, "the carry-over")
        await opened.settled()
        assert {row.id for row in opened.old.stored()} == record.accepted_ids()


def _by_key(promises: list[Promise]) -> dict[str, list[Promise]]:
    found: dict[str, list[Promise]] = {}
    for promise in sorted(promises, key=lambda each: each.sent):
        found.setdefault(promise.key, []).append(promise)
    return found


async def test_a_weight_change_reaches_every_worker_and_no_client_sees_it() -> None:
    async with scene(stage="dualwrite", trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=400.0)
        await until_accepted(load, 50)
        for weight in (10, 90, 35, 100, 0, 50, 0, 100):
            changed = await opened.admin.weight(weight)
            assert changed["applied"]["workers"] == changed["applied"]["of"] == 2
            status = await opened.admin.status()
            assert {worker.epoch for worker in status.workers} == {changed["epoch"]}
            sent = load.record.accepted + 12
            await until_accepted(load, 52)
            if weight in (0, 100):
                expected = {"new" if weight else "old"}
                assert {promise.by for promise in load.record.promises[sent : sent + 40]} == expected
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        assert not record.reopened, "a connection was closed for a weight change"
        receipts = await opened.verify(record)
        assert len({receipt.epoch for receipt in receipts}) >= 8, "each event names the epoch that decided it"
