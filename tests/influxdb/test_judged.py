"""What goes wrong between the proxy and two real InfluxDBs, as the checker judges it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import pytest

from consistency.doubts import STILL_OWED
from proxy.demo.children import free_port
from tests.influxdb.stand import Stand, stand, with_check
from tests.influxdb.test_verify import MINUTE, drop, named, verify, write
from tests.influxdb.writers import SECOND, START, Point, body, home_assistant

pytestmark = pytest.mark.asyncio

BEGIN = START // MINUTE * MINUTE
END = BEGIN + 2 * MINUTE


def meter(number: int, at: int, value: float | str = 1.5) -> Point:
    return Point("power", (("meter", f"m{number:02d}"),), {"watts": value}, at)


async def accepted(opened: Stand, *batches: Iterable[Point]) -> None:
    for batch in batches:
        assert (await opened.post(body(batch))).status == 204


async def test_what_comes_twice_or_in_another_order_is_the_same() -> None:
    """A point is its series and time: the last writing of it holds."""
    batches = [home_assistant(number) for number in range(10)]
    async with stand() as opened:
        await accepted(opened, *batches, *batches[3:7])
        await opened.settled(14)
        await write(opened.new, *batches[2], *batches[2])
        for batch in reversed(batches):
            await write(opened.new, *reversed(batch))
        answer = await verify(with_check(opened), BEGIN, END, full=True)
        assert (answer["result"], answer["classes"]["equal"], answer["mismatches"]) == ("pass", 30, 0)
        twin = batches[4][0]
        await write(opened.new, twin._replace(at=twin.at + 1))
        answer = await verify(with_check(opened), BEGIN, END, full=True)
        assert named(answer) == {twin.series().decode(): "unrecorded"}, "a nanosecond later it is another point"
        assert [each["by"] for each in answer["findings"]] == [["old"]]


class Gate:
    """Stands before a backend, and can be shut while its store is read."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def open(self, target: int) -> None:
        """Let everybody through to a port."""

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(2**16):
                    writer.write(data)
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

        async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            theirs, ours = await asyncio.open_connection("127.0.0.1", target)
            self._open |= {writer, ours}
            await asyncio.gather(pass_on(reader, ours), pass_on(theirs, writer))

        self._server = await asyncio.start_server(came, "127.0.0.1", self.port)

    async def shut(self) -> None:
        """Cut everybody."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        await asyncio.sleep(0)


async def test_what_is_late_is_doubted_and_then_there() -> None:
    """New's backend is away and its store is not: what that lacks may be under way."""
    gate = Gate()
    async with stand(backend={"new": {"url": gate.url}}) as opened:
        target = int(opened.new.url.rpartition(":")[2])
        await gate.open(target)
        begin = time.time_ns() // SECOND * SECOND
        await accepted(opened, [meter(1, begin)])
        await opened.settled(1)
        await gate.shut()
        await accepted(opened, *([meter(number, begin + number)] for number in range(2, 12)))
        path = with_check(opened, window="1h")
        answer = await verify(path, begin, begin + MINUTE, settle_ns=0)
        assert (answer["result"], answer["mismatches"]) == ("inconclusive", 0)
        assert [each["reason"] for each in answer["inconclusive"]] == [STILL_OWED]
        await gate.open(target)
        await opened.settled(11)
        answer = await verify(path, begin, begin + MINUTE, settle_ns=0)
        assert (answer["result"], answer["classes"]["equal"]) == ("pass", 11)
        await gate.shut()


async def test_of_a_batch_that_one_side_took_in_part_exactly_the_rest_is_missing() -> None:
    """New has the field with another type, answers 400 and stores the good lines."""
    async with stand() as opened:
        theirs = meter(0, BEGIN, "text")
        await write(opened.new, theirs)
        conflicting = [meter(number, BEGIN + number * SECOND) for number in range(1, 6)]
        await accepted(opened, home_assistant(1), [*home_assistant(2), *conflicting, *home_assistant(3)])
        await opened.settled(2)
        assert (await opened.balance())["new"].refused == 1
        answer = await verify(with_check(opened), BEGIN, END)
        assert (answer["result"], answer["classes"]["equal"]) == ("fail", 9)
        assert {each["identity"]: (each["class"], each["by"]) for each in answer["findings"]} == {
            theirs.series().decode(): ("unrecorded", ["old"])
        } | {point.series().decode(): ("unrecorded", ["new"]) for point in conflicting}


async def test_a_restart_in_mid_window_is_no_mismatch_and_what_is_gone_then_is() -> None:
    """The live checker, with new killed among the points of a window; then one point is taken from it."""
    async with stand(live={"window": "2s"}) as opened:
        await opened.status_when(lambda found: found["consistency"][0]["alive"])
        await asyncio.sleep(2 - time.time() % 2)  # from the next window on it knows that all is copied
        points: list[Point] = []
        begun = time.monotonic()
        faults = [(3, opened.new.kill), (3.5, opened.new.start)]
        while (passed := time.monotonic() - begun) < 6:
            if faults and passed > faults[0][0]:
                await faults.pop(0)[1]()
            points.append(meter(len(points) % 7, time.time_ns()))
            await accepted(opened, points[-1:])
            await asyncio.sleep(0.02)
        await opened.settled(len(points))
        gone = meter(99, time.time_ns())
        await accepted(opened, [gone])
        await opened.settled(len(points) + 1)
        await drop(opened.new, gone)
        status = await opened.status_when(
            lambda found: sum(found["consistency"][0]["classes"].values()) > len(points), 120
        )
        (check,) = status["consistency"]
        assert check["classes"].get("equal", 0) + check["classes"].get("late", 0) == len(points)
        assert check["since_change"]["mismatches"] == check["classes"]["unrecorded"] == 1
        (sample,) = check["since_change"]["samples"]
        assert sample["identity"] == gone.series().decode()
