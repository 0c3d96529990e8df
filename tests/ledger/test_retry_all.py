"""When what failed all deliveries is gone: nothing waits for its back-off."""

from __future__ import annotations

import pytest

from proxy.core.event import DELIVERED as TAKEN
from proxy.core.event import RETRY, UNREACHABLE, Outcome
from proxy.core.owed import DELIVERED
from tests.ledger.support import ROUTE, Ledgers, event, until

pytestmark = pytest.mark.asyncio
KEYS = 30


@pytest.mark.parametrize("outcome", [Outcome(UNREACHABLE, 502, "a drill"), Outcome(RETRY, 503, "a drill")])
@pytest.mark.parametrize("ledgers", [{"retry_initial": "1h", "retry_max": "1h", "dead_after": 1}], indirect=True)
async def test_everything_is_delivered_at_once_and_in_order_and_none_is_dead(
    outcome: Outcome, ledgers: Ledgers
) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.default[1] = outcome
    events = [event(n, key=f"k{n % KEYS}", handed=2) for n in range(1, 3 * KEYS + 1)]
    await worker.say_durably(events, [(each.n, 0, DELIVERED, 200) for each in events])
    await until(lambda: not keeper.replayer.gates["new"].is_open, "the backend counts as away")
    ledgers.backends.default[1] = Outcome(TAKEN, 200)
    keeper.replayer.retry_all("nowhere", 1)
    keeper.replayer.retry_all(ROUTE, 1)
    await until(lambda: len(ledgers.backends.order(1)) == len(events), "all of them")
    got = [int(name.removeprefix("id-")) for name in ledgers.backends.order(1)]
    for key in range(KEYS):
        mine = [n for n in got if n % KEYS == key]
        assert mine == sorted(mine)
    await worker.die()
    await ledgers.stop()
    assert set(ledgers.states().values()) == {("delivered", "delivered")}
