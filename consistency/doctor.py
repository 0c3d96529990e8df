"""What the doctor wants to know of stores: do they let us in, and how long do they keep what is in them?

A store that can say the latter has a method `keeps`: seconds, None for ever. It is asked for by name, so that stores of
other packages need not have it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from config.consistency import Check
from config.consistency import Store as Side
from config.model import Settings
from consistency.stores.errors import StoreError
from consistency.stores.opening import store_of
from consistency.stores.protocol import Store

PATIENCE: Final = 8.0
"""Seconds for one store."""


async def examined(settings: Settings) -> list[dict[str, Any]]:
    """Each check with both of its stores."""
    return list(await asyncio.gather(*(_check(each) for each in settings.consistency)))


async def _check(check: Check) -> dict[str, Any]:
    old, new = await asyncio.gather(_looked_at("old", check.old), _looked_at("new", check.new))
    return {"routes": list(check.routes), "stores": {"old": old, "new": new}}


async def _looked_at(side: str, settings: Side) -> dict[str, Any]:
    """kind: of the store; error: why it cannot be read, or empty; keeps_s: null where all is kept, or it is unknown."""
    told: dict[str, Any] = {"kind": settings.kind, "error": "", "keeps_s": None}
    store: Store | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            store = store_of(side, settings.settings)
            await store.open()
            told["keeps_s"] = await _keeps(store)
    except StoreError as error:
        told["error"] = str(error)
    except TimeoutError:
        told["error"] = f"store {side}: no answer within {PATIENCE:g} s"
    finally:
        if store is not None:
            await store.close()
    return told


async def _keeps(store: Store) -> float | None:
    """What it says of that. Who may read rows need not be allowed to ask it."""
    keeps = getattr(store, "keeps", None)
    if keeps is None:
        return None
    try:
        seconds: float | None = await keeps()
    except StoreError:
        return None
    return seconds
