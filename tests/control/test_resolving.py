"""Names that hang take nobody else's place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.net.resolving import AT_ONCE, SharedResolver

pytestmark = pytest.mark.asyncio


class Scene:
    """A resolver whose names hang until they are let go. looked: names, as they are looked up."""

    def __init__(self) -> None:
        self.resolver = SharedResolver()
        self.looked: list[str] = []
        self.go = asyncio.Event()
        self.fails = False
        self.resolver._resolver.resolve = self.resolve  # type: ignore[method-assign,assignment]

    async def resolve(self, host: str, *_: Any) -> Any:
        self.looked.append(host)
        await self.go.wait()
        if self.fails:
            raise OSError(-2, "Name or service not known")
        return [host]


async def test_each_name_is_looked_up_once_for_all_and_few_at_a_time() -> None:
    scene = Scene()
    asking = [asyncio.create_task(scene.resolver.resolve(host)) for host in ("a", "a", "b", "c", "c")]
    await asyncio.sleep(0.01)
    assert scene.looked == ["a", "b"][:AT_ONCE]
    scene.go.set()
    found: list[Any] = await asyncio.gather(*asking)
    assert found == [["a"], ["a"], ["b"], ["c"], ["c"]]
    assert scene.looked == ["a", "b", "c"]
    await scene.resolver.resolve("a")
    assert scene.looked == ["a", "b", "c", "a"], "nothing is remembered: that is the system's business"


async def test_who_stops_waiting_leaves_it_to_the_others() -> None:
    scene = Scene()
    first, second = (asyncio.create_task(scene.resolver.resolve("a")) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    for _ in range(10):  # whoever comes later waits for the same lookup
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await scene.resolver.resolve("a")
    scene.fails = True
    scene.go.set()
    with pytest.raises(OSError, match="not known"):
        await second
    assert scene.looked == ["a"]


async def test_a_failure_that_nobody_waits_for_is_quiet() -> None:
    scene = Scene()
    scene.fails = True
    asking = asyncio.create_task(scene.resolver.resolve("a"))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    scene.go.set()
    await asyncio.sleep(0.01)
    await scene.resolver.close()


async def test_a_real_name() -> None:
    found = await SharedResolver().resolve("localhost", 80)
    assert any(each["host"].startswith("127.") for each in found)
