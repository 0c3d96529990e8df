"""Split with carry-over: what new answers for old is old's too."""

from __future__ import annotations

import pytest

from proxy.core.event import OLD
from tests.http.rig import SPLIT, event_bytes, key_for, make_route, running


@pytest.mark.asyncio
@pytest.mark.parametrize(("carry_over", "at_old"), [(True, "H"), (False, "X")])
async def test_an_event_of_old_that_new_answers_stays_owed_to_old(carry_over: bool, at_old: str) -> None:
    async with running(make_route(carry_over=carry_over), dials=SPLIT) as rig:
        key = key_for(OLD, SPLIT)
        rig.mark(OLD, key)
        assert (await rig.ask(event_bytes("e", key=key))).status == 200
        await rig.settled()
        assert rig.old.seen == []
        assert len(rig.new.seen) == 1
        assert rig.story("e")[OLD] == at_old
