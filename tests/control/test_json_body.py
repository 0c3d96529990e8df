"""Bodies are read within a time, decoded, and refused by the name of the field."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from typing import Any

import pytest

from proxy.control import json_body
from proxy.control.inherit import places_of
from proxy.control.json_body import SMALL, decoded
from proxy.control.operations import OPERATIONS
from proxy.control.problems import Problem, respond
from tests.control.conftest import MakePlane

OF = {each.name: each for each in OPERATIONS}
REVERT = {"action": "revert", "route": "events", "reason": "a test"}


def refusal(data: bytes, name: str) -> Problem:
    with pytest.raises(Problem) as caught:
        decoded(data, OF[name])
    return caught.value


def alerts(count: int, **more: Any) -> bytes:
    one = {"status": "firing", "labels": {}, "startsAt": "2026-01-31T12:00:00Z", "fingerprint": "f"}
    return json.dumps({"version": "4", "groupKey": "g", "alerts": [one] * count} | more).encode()


def test_nan_is_read_so_that_a_weight_can_be_refused_for_it() -> None:
    assert math.isnan(decoded(b'{"weight": NaN}', OF["set_weight"]).weight)


def test_a_pair_is_one_character_and_half_of_it_is_none() -> None:
    assert decoded(rb'{"reason": "\ud83d\ude00"}', OF["rearm"]).reason == "\U0001f600"
    for half in (rb'{"reason": "\ud83d"}', rb'{"reason": "\ude00\ud83d"}', b'{"reason": "\xed\xa0\xbd"}'):
        found = refusal(half, "rearm")
        assert (found.status, found.detail) == (400, "half a surrogate pair is no character - at `$.reason`")


def test_large_ones_of_hooks_are_decoded_alike() -> None:
    for count in (1, 200):
        data = alerts(count, x="x" * 10)
        assert (len(data) > SMALL) == (count > 1)
        assert len(decoded(data, OF["hook_alertmanager"]).alerts) == count
        misfit = refusal(alerts(count, groupKey=5), "hook_alertmanager")
        assert (misfit.status, misfit.detail) == (400, "Expected `str`, got `int` - at `$.groupKey`")
        for broken in (alerts(count, groupKey="\ud800"), alerts(count)[:-1], alerts(count).replace(b"firing", b"\xff")):
            assert refusal(broken, "hook_alertmanager").status == 400
    assert refusal(b"[" * 100_000, "hook_alertmanager").status == 400


@pytest.mark.asyncio
async def test_large_ones_are_decoded_in_a_thread(make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = make_plane(hooks={"webhook": {}})
    await plane.start()
    threads = []
    was = decoded

    def noted(*given: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return was(*given)

    monkeypatch.setattr(json_body, "decoded", noted)
    for size in (1, SMALL):
        assert (await plane.ask("POST", "/api/v1/hooks/webhook", REVERT | {"reason": "x" * size}))[0] in (200, 400)
    assert threads == [True, False]


@pytest.mark.asyncio
async def test_a_body_that_does_not_come_is_not_waited_for(
    make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_body, "BODY_WAIT", 0.05)
    plane = make_plane(hooks={"webhook": {}})
    await plane.start()
    reader, writer = await asyncio.open_unix_connection(places_of(plane.supervisor.instance.settings).admin_socket)
    writer.write(
        b"POST /api/v1/hooks/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == b"408"
    writer.close()


def test_what_a_problem_quotes_can_always_be_written() -> None:
    body = respond(Problem(422, "unknown parameter \ud800")).body
    assert isinstance(body, bytes)
    assert json.loads(body)["detail"] == "unknown parameter \\ud800"
