"""A real Home Assistant: an owner and a token, changes of all kinds, and what its recorder has of them after kills."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.home_assistant.core import HomeAssistant
from deploy.home_assistant.recorded import Recorded, read_recorded
from deploy.home_assistant.session import ApiError, Session
from deploy.home_assistant.settings import BURST, followers
from tests.home_assistant.started import running

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240)]

NAMES = ("asked", "echoed")
ECHO: dict[str, Any] = {
    "input_number": {name: {"min": 0, "max": 100, "initial": 0} for name in NAMES},
    "automation": [
        {
            "alias": "Echo",
            "trigger": [{"platform": "state", "entity_id": "input_number.asked"}],
            "action": [
                {
                    "service": "input_number.set_value",
                    "target": {"entity_id": "input_number.echoed"},
                    "data": {"value": "{{ trigger.to_state.state }}"},
                }
            ],
        }
    ],
}
"""One number follows the other."""
TALKS_TO_THE_WORLD = {"cloud", "default_config", "met", "radio_browser", "ssdp", "zeroconf", "dhcp", "mobile_app"}


def of(changes: list[Recorded], domain: str) -> list[tuple[str, str | None]]:
    return [(each.entity, each.state) for each in changes if each.entity.startswith(f"{domain}.")]


async def until_recorded(core: HomeAssistant, entity: str, state: str | None) -> None:
    """Wait until a change is committed."""
    async with asyncio.timeout(20):
        while (entity, state) not in [(each.entity, each.state) for each in core.recorded()]:
            await asyncio.sleep(0.1)


async def test_changes_of_all_kinds_are_recorded_with_their_times_and_causes(directory: Path) -> None:
    async with running(directory, ECHO) as core:
        config = await core.api.ask("GET", "/api/config")
        assert config["version"] == "2024.3.3"
        assert {"recorder", "automation", "input_number"} <= set(config["components"])
        assert not TALKS_TO_THE_WORLD & set(config["components"])
        assert (await core.api.command("analytics"))["preferences"]["base"] is False
        assert (await core.api.command("auth/current_user"))["is_owner"] is True

        begun = time.time_ns() // 1000
        for number in range(20):
            await core.api.set_state("sensor.attic", str(20 + number / 8), {"unit_of_measurement": "°C"})
        await core.api.set_state("sensor.attic", "22.375", {"unit_of_measurement": "°C"})  # as it is: no change
        await core.api.set_state("sensor.attic", "22.375", {"unit_of_measurement": "°C"}, force=True)
        last = await core.api.ask("GET", "/api/states/sensor.attic")
        await core.api.remove("sensor.attic")
        await core.api.call("input_number", "set_value", entity_id="input_number.asked", value=42)
        await until_recorded(core, "input_number.echoed", "42.0")
        assert await core.stop() == 0
        ended = time.time_ns() // 1000
        assert " ERROR " not in core.log.read_text(), "nothing was missing, nobody was looked for in vain"

        changes = [each for each in core.recorded() if each.at >= begun]
        sensors = [each for each in changes if each.entity == "sensor.attic"]
        assert [each.state for each in sensors] == [*(str(20 + number / 8) for number in range(20)), "22.375", None]
        assert sensors[0].attributes == {"unit_of_measurement": "°C"}
        assert [each.at for each in sensors] == sorted({each.at for each in sensors})
        assert begun <= sensors[0].at <= sensors[-1].at <= ended
        asked, echoed = (next(each for each in changes if each.entity == f"input_number.{n}") for n in NAMES)
        assert (asked.state, echoed.state) == ("42.0", "42.0")
        assert len({each.context for each in sensors}) == len(sensors)
        assert sensors[-2].context == last["context"]["id"]
        assert sensors[-2].at == round(datetime.fromisoformat(last["last_updated"]).timestamp() * 1e6)


async def test_a_burst_of_changes_is_recorded_whole(directory: Path, soak: bool) -> None:
    count, bursts = (500, 20) if soak else (100, 5)
    async with running(directory, followers(count)) as core:
        for number in range(1, bursts + 1):
            await core.api.call("input_number", "set_value", entity_id=BURST, value=number)
        await core.stop()
        found = Counter(each for each in of(core.recorded(), "sensor") if each[1] not in ("unknown", "0.0"))
        wanted = {(f"sensor.follower_{n}", f"{value}.0") for n in range(count) for value in range(1, bursts + 1)}
        assert found == Counter(wanted)


async def test_killed_again_and_again_it_keeps_its_token_and_all_that_it_had_recorded(
    directory: Path, soak: bool
) -> None:
    async with running(directory) as core:
        token, wanted = core.api.token, []
        for turn in range(20 if soak else 3):
            await core.api.set_state("sensor.turns", str(turn))
            await until_recorded(core, "sensor.turns", str(turn))
            wanted.append(str(turn))
            await core.kill()
            begun = time.monotonic()
            await core.start()
            assert time.monotonic() - begun < 60
            assert (core.api.token, core.token_file.read_text()) == (token, token)
        assert [state for _, state in of(core.recorded(), "sensor") if state is not None] == wanted


async def test_who_has_no_token_is_refused_and_what_is_wrong_is_said(directory: Path) -> None:
    async with running(directory) as core:
        stranger = Session(core.url, "nobody's")
        try:
            with pytest.raises(ApiError, match="GET /api/config: 401"):
                await stranger.ask("GET", "/api/config")
            with pytest.raises(ApiError, match="auth_invalid: Invalid access token or password"):
                await stranger.command("auth/current_user")
        finally:
            await stranger.close()
        with pytest.raises(ApiError, match="no_such_command: Unknown command"):
            await core.api.command("no_such_command")
        with pytest.raises(ApiError, match="POST /api/states/attic: 400"):
            await core.api.set_state("attic", "1")
        with pytest.raises(ApiError, match=r"POST /api/onboarding/users: 403 .*User step already done"):
            await core.api.create_owner("another")
        again = HomeAssistant(directory)
        assert again.token_file.read_text() == core.api.token
        assert again.token_file.stat().st_mode & 0o077 == 0


async def test_a_file_that_is_none_of_a_recorder_is_named(directory: Path) -> None:
    path = directory / "home-assistant_v2.db"
    with pytest.raises(OSError, match=f"{path}: "):
        read_recorded(path)
    path.write_text("no database at all, but long enough for a header of SQLite, which it has not got" * 10)
    with pytest.raises(OSError, match=f"{path}: .*not a database"):
        read_recorded(path)
