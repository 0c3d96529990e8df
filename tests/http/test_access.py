"""The access log: which answers have a line, and what is never in one."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from config.log import Access
from proxy.core.routing import Dials
from proxy.http.access import AccessLog
from tests.http.backend import always, reply
from tests.http.rig import DUAL, event_bytes, running


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/events", "/events"),
        ("/events?", "/events?..."),
        ("/events?token=SECRET&b=SECRET=SECRET", "/events?token=...&b=..."),
        ("/events?SECRET;a=SECRET?SECRET", "/events?...&a=..."),
    ],
)
def test_a_query_without_its_values(target: str, shown: str) -> None:
    assert AccessLog(Access.model_validate({"slow": "0s"})).shown(target) == shown
    assert AccessLog(Access.model_validate({"slow": "0s", "query": "show"})).shown(target) == target


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/webhook/5b1e0f6a94c2d77e81f0", "/api/webhook/5b1e..."),
        ("/api/webhook/-9kLmQ_zT4bVxR7wYp2Hs/x?a=SECRET", "/api/webhook/-9kL.../x?a=..."),
        ("/0e84b1d2-77aa-4c1b-9a30-1f2e3d4c5b6a", "/0e84..."),
        ("/t/abcdefghij0123456789", "/t/abcd..."),
        ("/t/abcdefghij012345678", "/t/abcdefghij012345678"),
        ("/h/5b1e0f6a94c2d77e81f%30", "/h/5b1e..."),
        ("/h/5b1e0f6a94c2d77e81f0.json", "/h/5b1e..."),
        ("/h/wh_0e84b1d277aa4c1b9a301f2e3d4c5b6a", "/h/wh_0..."),
        ("/0e84b1d2-77aa-4c1b-9a30-1f2e3d4c5b6a@1f84b1d2-77aa-4c1b-9a30-1f2e3d4c5b6a", "/0e84..."),
        ("/sensor.caf%C3%A9_temperature_2/Quarterly-Report-2025-final.pdf",) * 2,
        ("/2025-11-20-2025-11-21/light.k%C3%BCche_2_decke/sensor.Meter_00162_kWh_Total",) * 2,
        ("/api/states/sensor.living_room_temperature_2", "/api/states/sensor.living_room_temperature_2"),
        ("/2025-11-20T08:00:00+00:00/report-of-the-day-1", "/2025-11-20T08:00:00+00:00/report-of-the-day-1"),
        ("*", "*"),
    ],
)
def test_a_path_without_what_looks_like_a_key(path: str, shown: str) -> None:
    assert AccessLog(Access.model_validate({"slow": "0s"})).shown(path) == shown
    assert AccessLog(Access.model_validate({"slow": "0s", "path": "show", "query": "show"})).shown(path) == path


async def lines(
    caplog: pytest.LogCaptureFixture, settings: dict[str, Any], dials: Dials = DUAL, status: int = 200
) -> list[logging.LogRecord]:
    """What is logged of an event."""
    async with running(dials=dials) as rig:
        rig.plane.access = AccessLog(Access.model_validate(settings))
        rig.old.behave = always(reply(status))
        data = event_bytes("e", key="k", password="SECRET").replace(b"/events", b"/events?token=SECRET", 1)
        await rig.ask(data.replace(b"Host: a\r\n", b"Host: a\r\nAuthorization: SECRET\r\n"))
        await rig.settled()
    return [record for record in caplog.records if record.name == "proxy.http.access"]


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [200, 422, 503])
async def test_a_line_for_an_answer(caplog: pytest.LogCaptureFixture, status: int) -> None:
    (line,) = await lines(caplog, {"sample": "100%"}, status=status)
    found = vars(line)
    assert (found["route"], found["method"], found["target"]) == ("events", "POST", "/events?token=...")
    assert (found["id"], found["authority"], found["status"]) == ("e", "old", 202 if status == 503 else status)
    assert found["handed"] == (["old"] if status == 503 else [])
    assert 0 < found["ms"] < 60_000
    assert "SECRET" not in repr(found)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("settings", "count"), [({"slow": "1h"}, 0), ({"slow": "0s"}, 1), ({"slow": "1h", "sample": "100%"}, 1)]
)
async def test_those_that_are_wanted(caplog: pytest.LogCaptureFixture, settings: dict[str, Any], count: int) -> None:
    assert len(await lines(caplog, settings)) == count


@pytest.mark.asyncio
async def test_none_by_default(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as rig:
        assert rig.plane.access is None
        await rig.ask(event_bytes("e", key="k"))
    assert [record for record in caplog.records if record.name == "proxy.http.access"] == []


def test_values_are_shown_where_that_is_wanted() -> None:
    with pytest.raises(ValueError, match="needs sample, slow or both"):
        Access.model_validate({"query": "show"})
    assert Access.model_validate({"slow": "500ms"}).slow == 0.5
