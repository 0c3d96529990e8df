"""What is served is kept, so that the next configuration can say what it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.control.configuration import Asked, Configuration, names_in
from proxy.control.link import FileError
from tests.control.fakes import Clock
from tests.control.helpers import make_settings

FILE = Path("/etc/crossfade.yaml")
ROUTE = {"name": "events", "match": {"path": "/api/v1/events"}}


@pytest.fixture
def wall() -> Clock:
    return Clock(1_700_000_000.0)


class Place:
    """A state directory, through the lives of several supervisors."""

    def __init__(self, directory: Path, wall: Clock) -> None:
        self.path = directory / "configuration.json"
        self._wall = wall

    def load(self, **changes: Any) -> Configuration:
        """As a supervisor that starts with these settings has it."""
        return Configuration(self.path, make_settings("/state", **changes), FILE, self._wall)

    def served(self, **changes: Any) -> Configuration:
        found = self.load(**changes)
        found.serve()
        return found


@pytest.fixture
def place(tmp_path: Path, wall: Clock) -> Place:
    return Place(tmp_path, wall)


def with_route(**keys: Any) -> dict[str, Any]:
    return {"routes": [ROUTE | keys]}


def test_a_first_start_changes_nothing(place: Place) -> None:
    first = place.served()
    assert not first.is_other
    assert (first.actor, first.reason, first.loaded) == ("", "", "2023-11-14T22:13:20.000Z")
    again = place.load()
    assert not again.is_other
    assert again.loaded == first.loaded


def test_who_asked_is_known_to_the_supervisor_that_follows(place: Place, wall: Clock) -> None:
    before = place.served()
    wanted = place.load(**with_route(copy_wait="20ms"))
    before.approve(Asked(wanted.digest, "me@here", "slow disks"), "text")
    wall.now += 60
    after = place.served(**with_route(copy_wait="20ms"))
    assert [(each.key, each.before, each.after) for each in after.changes] == [
        ("routes.events.copy_wait", "5ms", "20ms")
    ]
    assert (after.actor, after.reason, after.loaded) == ("me@here", "slow disks", "2023-11-14T22:14:20.000Z")
    assert after.text == "text"


def test_who_asked_for_another_one_did_not_ask_for_this(place: Place) -> None:
    place.served().approve(Asked("something else", "me@here", "slow disks"), "text")
    after = place.load(**with_route(copy_wait="20ms"))
    assert after.who == ("crossfade", "the file was another one at the start")


def test_workers_may_follow_live_keys_over_several_steps_and_back(place: Place) -> None:
    first = place.served()
    second = place.served(**with_route(copy_wait="20ms"))
    third = place.served(**with_route(copy_wait="30ms"))
    assert second.instead_of == [first.digest]
    assert third.instead_of == sorted([first.digest, second.digest])
    assert place.load(**with_route(copy_wait="30ms")).instead_of == third.instead_of, "as it was served already"
    back = place.served()
    assert back.instead_of == sorted([second.digest, third.digest])
    new_workers = place.served(workers=3)
    assert new_workers.instead_of == [], "those of before are replaced"


def test_a_position_that_moved_in_the_file_is_remembered_until_it_was_followed(place: Place) -> None:
    place.served()
    after = place.served(**with_route(stage="live", weight=25))
    assert after.moving == ("events",)
    assert place.load(**with_route(stage="live", weight=25)).moving == ("events",), "killed in between"
    after.moved("events")
    assert place.load(**with_route(stage="live", weight=25)).moving == ()


def test_trouble_is_told_once_and_goes_with_a_good_file(place: Place, wall: Clock) -> None:
    served = place.served()
    error = FileError(str(FILE), 3, 5, "unknown key 'wieght'", "weight")
    assert served.refuse("one", [error], [])
    wall.now += 30
    assert not served.refuse("one", [error], []), "the same again is no news"
    assert served.refuse("two", [error, error], [])
    assert served.trouble is not None
    assert served.trouble.since == 1_700_000_000.0, "the file has had errors since then"
    found = place.load().trouble
    assert found is not None
    assert str(found.errors[0]) == ("/etc/crossfade.yaml:3:5: unknown key 'wieght' (did you mean 'weight'?)")
    assert served.refuse("three", [], ["state_dir cannot change"])
    served.looked("four")
    assert place.load().trouble is None


def test_a_start_of_the_instance_ends_trouble_and_one_of_the_supervisor_alone_does_not(
    tmp_path: Path, wall: Clock
) -> None:
    """The launcher has loaded the file as it starts, whatever was wrong with it before, in it or beside it."""

    def served(started: float) -> Configuration:
        found = Configuration(tmp_path / "configuration.json", make_settings("/state"), FILE, wall, started)
        found.serve()
        return found

    served(wall.now - 5).refuse("one", [FileError(str(FILE), 1, 10, "not a number")], [])
    assert served(wall.now - 5).trouble is not None
    assert served(wall.now + 5).trouble is None
    assert served(wall.now - 5).trouble is None, "that is kept"


def test_a_file_that_cannot_be_read_stops_nobody(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.path.write_text("{")
    assert not place.served().is_other
    assert "what a changed file changed is not known" in caplog.text
    assert place.load().loaded


def test_no_secret_is_kept(place: Place) -> None:
    place.served(
        backends={
            "old": {"url": "http://127.0.0.1:9", "authorization": "Bearer token"},
            "new": {"url": "http://127.0.0.1:9"},
        }
    )
    kept = place.path.read_text()
    assert "Bearer" not in kept
    assert "a-salt-for-tests" not in kept
    assert place.path.stat().st_mode & 0o777 == 0o600


def test_names_in_their_order() -> None:
    assert names_in({"routes": "[b, a]"}) == ("b", "a")
    assert names_in({"routes": "[]"}) == ()
