"""What stands against another configuration, and a file that is watched."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from proxy.control import switch_state
from proxy.control.configuration import text_digest
from proxy.control.link import Decided, FileError, KeyChange, ProposeSettings
from proxy.control.reload import propose
from proxy.control.reloads import Watched
from proxy.control.switch_state import Result, SwitchState
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats
from tests.control.helpers import eventually

LIVE = KeyChange("routes.events.copy_wait", "5ms", "20ms", "live")
ROUTE = {"name": "events", "match": {"path": "/api/v1/events"}}


def proposal(*changes: KeyChange, text: str = "text", **more: Any) -> ProposeSettings:
    return ProposeSettings("/etc/crossfade.yaml", text, "digest", changes=list(changes), **more)


async def decided(plane: Plane, given: ProposeSettings) -> list[str]:
    """Why it is not applied, as the process hears that has read the file."""
    found: Decided = await asyncio.to_thread(propose, plane.places.control_socket, given)
    return found.refused


async def actions(plane: Plane) -> list[str]:
    return [entry["action"] for entry in (await plane.get("/api/v1/history"))["entries"]]


@pytest.mark.asyncio
async def test_what_may_be_is_approved_and_kept_for_the_next_supervisor(plane: Plane) -> None:
    assert await decided(plane, proposal(LIVE)) == []
    await plane.supervisor.close()
    plane.settings = plane.settings.model_copy(
        update={"routes": (plane.settings.routes[0].model_copy(update={"copy_wait": 0.02}),)}
    )
    epoch = plane.supervisor.instance.epoch
    plane.supervisor = plane._make()
    await plane.supervisor.start()
    served = await plane.get("/api/v1/config")
    assert served["settings"]["routes.events.copy_wait"] == "20ms"
    assert served["settings"]["salt"] == "(hidden)"
    assert served["epoch"] == epoch + 1, "another configuration is another epoch"
    (entry, *_) = (await plane.get("/api/v1/history"))["entries"]
    assert (entry["action"], entry["epoch"], entry["previous_epoch"]) == ("reload", epoch + 1, epoch)
    assert entry["evidence"]["changes"] == [{"key": "routes.events.copy_wait", "before": "5ms", "after": "20ms"}]


@pytest.mark.asyncio
async def test_nothing_different_is_nothing(plane: Plane) -> None:
    assert await decided(plane, proposal()) == []
    assert "reload-refused" not in await actions(plane)


@pytest.mark.asyncio
async def test_a_bad_file_is_told_of_once_and_shown_until_it_is_mended(plane: Plane) -> None:
    bad = ProposeSettings(
        "/etc/crossfade.yaml", "bad", errors=[FileError("/etc/crossfade.yaml", 3, 5, "unknown key 'x'")]
    )
    assert await decided(plane, bad) == ["/etc/crossfade.yaml:3:5: unknown key 'x'"]
    assert await decided(plane, bad) == ["/etc/crossfade.yaml:3:5: unknown key 'x'"]
    assert (await actions(plane)).count("reload-refused") == 1
    trouble = (await plane.get("/api/v1/status"))["configuration"]["trouble"]
    assert trouble["errors"][0]["line"] == 3
    assert await decided(plane, proposal()) == []
    assert (await plane.get("/api/v1/config"))["trouble"] is None


@pytest.mark.asyncio
async def test_a_fixed_key_is_refused_with_what_to_do_instead(plane: Plane) -> None:
    change = KeyChange("state_dir", "/a", "/b", "fixed", "stop this instance, move it, and start it again")
    (refused,) = await decided(plane, proposal(LIVE, change))
    assert refused == (
        "state_dir cannot change from /a to /b while an instance runs: stop this instance, move it, and start it again"
    )
    trouble = (await plane.get("/api/v1/config"))["trouble"]
    assert (trouble["errors"], trouble["refused"]) == ([], [refused])


@pytest.mark.asyncio
async def test_a_route_that_is_owed_something_does_not_go(plane: Plane) -> None:
    leaves = proposal(LIVE, left=["events"])
    (unknown,) = await decided(plane, leaves)
    assert "is not known: the ledger is not connected" in unknown
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats(new=balance(pending=3, deferred=1)))
    await eventually(lambda: plane.supervisor.instance.tally.ledger, "the ledger's figures")
    (refused,) = await decided(plane, leaves)
    assert refused.startswith("4 events of events, which would go, are owed to new")
    plane.ledger.tell(ledger_stats(new=balance(delivered=4)))

    def is_delivered() -> bool:
        ledger = plane.supervisor.instance.tally.ledger
        return ledger is not None and ledger.sides[1].balance["pending"] == 0

    await eventually(is_delivered)
    assert await decided(plane, leaves) == []


@pytest.mark.asyncio
async def test_what_holds_a_route_stands_against_another_position(plane: Plane) -> None:
    moves = proposal(LIVE, moved={"events": ("live", 25.0)})
    await plane.ask("PUT", "/api/v1/freeze", {"seconds": 60, "reason": "holidays"})
    (frozen,) = await decided(plane, moves)
    assert "is frozen until" in frozen
    assert "the file moves it to live" in frozen
    assert await decided(plane, proposal(LIVE, moved={"events": ("off", None)})) == [], "it is there already"
    await plane.ask("DELETE", "/api/v1/freeze", {})
    assert await decided(plane, moves) == []


@pytest.mark.asyncio
async def test_a_position_that_moved_in_the_file_is_a_change_of_routing(plane: Plane) -> None:
    await plane.supervisor.close()
    route = plane.settings.routes[0].model_copy(update={"stage": "live", "weight": 25.0})
    plane.settings = plane.settings.model_copy(update={"routes": (route,)})
    plane.supervisor = plane._make()
    await plane.supervisor.start()
    await plane.until_ready()
    instance = plane.supervisor.instance
    await eventually(lambda: instance.state is not None and instance.state.routes["events"].weight == 25.0)
    await eventually(lambda: not instance.configuration.moving)
    (entry, *_) = (await plane.get("/api/v1/history"))["entries"]
    assert (entry["action"], entry["before"]["weight"], entry["after"]["weight"]) == ("stage", 0.0, 25.0)
    assert entry["reason"].startswith("configuration")
    status = await plane.get("/api/v1/status")
    assert status["routes"][0]["file"] == {"stage": "live", "weight": 25.0}


@pytest.mark.asyncio
async def test_a_command_wins_over_what_the_file_says_and_always_said(plane: Plane) -> None:
    await plane.ask("PUT", "/api/v1/routes/-/stage", {"stage": "live", "weight": 40})
    await plane.restart()
    await plane.until_ready()
    (route,) = (await plane.get("/api/v1/status"))["routes"]
    assert (route["weight_target"], route["file"]) == (40.0, {"stage": "off", "weight": 0.0})


@pytest.mark.asyncio
async def test_who_asks_hears_what_became_of_it(plane: Plane, tmp_path: Path) -> None:
    instance = plane.supervisor.instance

    async def asked(given: ProposeSettings) -> tuple[int, Any]:
        instance.ask_launcher = lambda _: looks.append(asyncio.ensure_future(decided(plane, given)))
        found = await plane.ask("POST", "/api/v1/reload", {"reason": "disks"}, X_Actor="me@here")
        await looks.pop()
        return found

    looks: list[asyncio.Future[list[str]]] = []
    instance.configuration.file = tmp_path / "crossfade.yaml"
    instance.configuration.file.write_text("as it is now")
    text = text_digest(b"as it is now")
    status, view = await asked(proposal(LIVE, text=text))
    assert (status, view["begun"], view["refused"]) == (202, True, [])
    assert view["changes"][0]["key"] == "routes.events.copy_wait"
    kept = instance.configuration._kept
    assert kept is not None
    assert kept.asked is not None
    assert kept.asked.actor == "me@here"
    salt = KeyChange("salt", "(hidden)", "(hidden, another)", "fixed", "no")
    status, view = await asked(proposal(salt, text=text))
    assert (status, view["begun"], len(view["refused"])) == (202, False, 1)
    bad = ProposeSettings("/etc/crossfade.yaml", text, errors=[FileError("/etc/crossfade.yaml", 3, 5, "what?")])
    status, problem = await asked(bad)
    assert (status, problem["errors"][0]["column"]) == (422, 5)
    assert "has 1 error; the configuration of before is served on" in problem["detail"]


@pytest.mark.asyncio
async def test_a_look_that_began_before_is_not_the_answer(plane: Plane, tmp_path: Path) -> None:
    instance = plane.supervisor.instance
    instance.configuration.file = tmp_path / "crossfade.yaml"
    instance.configuration.file.write_text("as it is now")
    switch_state.write(plane.places.switch, SwitchState(1, "reload", "checking", 1.0))  # it is waited for
    hangups: list[signal.Signals] = []
    instance.ask_launcher = hangups.append
    asking = asyncio.create_task(plane.ask("POST", "/api/v1/reload", {}, X_Actor="me@here"))
    await eventually(lambda: hangups, "the request")
    assert await decided(plane, proposal(text="as it was before")) == []
    assert not asking.done()
    assert await decided(plane, proposal(LIVE, text=text_digest(b"as it is now"))) == []
    assert (await asking)[1]["begun"] is True


@pytest.mark.asyncio
async def test_another_configuration_is_refused_while_draining(plane: Plane) -> None:
    plane.supervisor._drain()
    assert await decided(plane, proposal(LIVE)) == ["the instance is draining"]


@pytest.mark.asyncio
async def test_a_changed_file_is_looked_at_by_itself(
    make_plane: MakePlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.control.reloads.LOOK_EVERY", 0.01)
    plane = make_plane(reload="watch")
    file = tmp_path / "crossfade.yaml"
    file.write_text("first")
    plane.config_path = file
    plane.supervisor = plane._make()
    looks: list[signal.Signals] = []
    plane.supervisor.instance.ask_launcher = looks.append
    await plane.start()
    await asyncio.sleep(0.1)
    assert looks == [], "it is what was loaded"
    file.write_text("second")
    await eventually(lambda: looks == [signal.SIGHUP], "a look")


@pytest.mark.asyncio
async def test_readiness_does_not_flicker_while_processes_are_replaced(plane: Plane) -> None:
    instance = plane.supervisor.instance
    switch = SwitchState(1, "reload", "replacing", 1.0)
    switch_state.write(plane.places.switch, switch)
    assert plane.ledger is not None
    await plane.ledger.link.close()
    await plane.workers[0].link.close()
    await eventually(lambda: instance.peers.ledger is None and len(instance.peers.workers) == 1)
    assert instance.not_ready() == []
    await plane.workers[1].link.close()
    await eventually(lambda: not instance.peers.workers)
    assert len(instance.not_ready()) == 2, "nobody serves"


@pytest.mark.asyncio
async def test_what_came_of_a_look_is_on_record_once(plane: Plane) -> None:
    instance = plane.supervisor.instance
    change = KeyChange("salt", "(hidden)", "(hidden, another)", "fixed", "no")
    (refused,) = await decided(plane, proposal(change))

    async def ended(began_at: float, result: Result, reason: str = "", changes: int = 0) -> list[str]:
        switch = SwitchState(1, "reload", "ended", began_at, result, reason, detail={"changes": ["key"] * changes})
        switch_state.write(plane.places.switch, switch)
        await instance.switches.look()
        return [action for action in await actions(plane) if action.startswith("reload")]

    assert await ended(1.0, "refused", refused) == ["reload-refused"], "by whoever decided"
    assert await ended(2.0, "refused", "the supervisor could not be asked") == ["reload-refused"] * 2
    assert await ended(3.0, "done") == ["reload-refused"] * 2, "nothing was different"
    assert await ended(4.0, "done", changes=1) == ["reload-done"] + ["reload-refused"] * 2


# --- a watched file ------------------------------------------------------------------------------------------


class Mounted:
    """A ConfigMap as Kubernetes mounts it: `crossfade.yaml -> ..data/crossfade.yaml`, `..data -> ..2026_01_31`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        self.file = root / "crossfade.yaml"
        self.file.symlink_to("..data/crossfade.yaml")
        self.publish("first")

    def publish(self, text: str) -> None:
        """Another version in a directory of its own, and the link turned to it; the old one goes."""
        before = (self._root / "..data").resolve() if self._count else None
        self._count += 1
        directory = self._root / f"..2026_01_{self._count}"
        directory.mkdir()
        (directory / "crossfade.yaml").write_text(text)
        draft = self._root / "..data_tmp"
        draft.symlink_to(directory.name)
        os.replace(draft, self._root / "..data")
        if before is not None:
            (before / "crossfade.yaml").unlink()
            before.rmdir()


def settle(watched: Watched) -> bool:
    """Did it change, after as many looks as that takes?"""
    return True in [watched.look() for _ in range(3)]


def test_turned_links_are_seen_and_each_content_once(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    watched = Watched(mounted.file, "")
    assert settle(watched)
    assert not settle(watched)
    mounted.publish("second")
    assert settle(watched)
    mounted.publish("second")
    assert not settle(watched), "another directory with the same content"
    mounted.publish("first")
    assert settle(watched)


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "crossfade.yaml"
    file.write_text("first")
    watched = Watched(file, "")
    assert settle(watched)
    for size in range(1, 5):
        file.write_text("second"[:size])
        assert not watched.look(), "it was another one at each look"
    file.write_text("second")
    assert [watched.look(), watched.look()] == [False, True]


def test_an_editor_renames_over_it(tmp_path: Path) -> None:
    file, draft = tmp_path / "crossfade.yaml", tmp_path / ".crossfade.yaml.swp"
    file.write_text("first")
    watched = Watched(file, "")
    assert settle(watched)
    file.rename(tmp_path / "crossfade.yaml~")
    assert not settle(watched), "it is away for a moment"
    draft.write_text("other")
    os.utime(draft, ns=(1, 1))
    draft.rename(file)
    assert settle(watched)


def test_a_file_that_was_only_touched_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "crossfade.yaml"
    file.write_text("first")
    watched = Watched(file, "")
    assert settle(watched)
    os.utime(file, ns=(1, 1))
    assert not settle(watched)
