"""How much of the time clients could be served, by a clock of ours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from proxy.control import availability
from proxy.control.availability import DAY, MOST_ELAPSED, Availability


class Scene:
    """An instance that is ready or not, over restarts."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "availability.json"
        self.now = 1000.0
        self.is_ready = False
        self.own: Counter[str] = Counter()
        self.found = self.start(1)

    def start(self, instance: int) -> Availability:
        self.found = Availability(
            self.path, instance, lambda: self.is_ready, self.own, clock=lambda: self.now % 500, wall=lambda: self.now
        )
        return self.found

    def after(self, seconds: float, *, is_ready: bool = True) -> tuple[float, float]:
        """Looks every second; seconds that were looked at, and that it was down."""
        self.is_ready = is_ready
        for _ in range(int(seconds)):
            self.now += 1
            self.found.look()
        return self.found.observed, self.found.down


def test_seconds_are_up_or_down(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    assert scene.after(30, is_ready=False) == (0, 0), "nobody was let down before it served for the first time"
    assert scene.found.ratio is None
    assert scene.after(10) == (10, 0)
    assert scene.after(5, is_ready=False) == (15, 5)
    assert scene.after(5) == (20, 5)
    assert scene.found.ratio == pytest.approx(0.75)


def test_while_this_process_stood_still_nobody_looked(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.after(10)
    scene.now += 300
    assert scene.after(1) == (9 + MOST_ELAPSED, 0)


def test_another_supervisor_goes_on_and_another_instance_was_away(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.after(11)
    scene.found.save()
    scene.now += 20
    scene.start(1)
    assert (scene.found.observed, scene.found.down) == (10, 0), "workers served meanwhile, as far as anybody knows"
    scene.after(3)
    scene.found.save()
    scene.now += 60
    scene.start(2)
    assert scene.after(3, is_ready=False) == (74, 62)
    assert scene.found.ratio == pytest.approx(1 - 62 / 74)


def test_what_is_long_ago_or_a_matter_of_clocks_counts_no_more(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.now = 0.0  # a machine without a clock
    scene.after(11)
    scene.found.save()
    scene.now = 1_769_860_800.0
    scene.start(2)
    assert scene.after(11) == (10, 0), "nobody was away for 50 years"
    scene.after(5, is_ready=False)
    scene.found.save()
    scene.now += 29 * DAY
    scene.start(2)
    assert scene.after(11) == (25, 5)
    scene.found.save()
    scene.now += 2 * DAY
    scene.start(2)
    assert scene.after(11) == (20, 0)
    scene.found.save()
    scene.now -= 10 * DAY
    scene.start(3)
    assert scene.after(11) == (10, 0), "a clock that was set back"


def test_what_cannot_be_kept_or_read_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path)
    scene.found.save()
    assert not scene.path.exists(), "there was nothing yet"
    scene.after(11)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(availability, "write_whole", full)
    scene.found.save()
    scene.found.save()
    assert (scene.own["availability_not_kept"], caplog.text.count("could not be kept")) == (2, 1)
    scene.path.write_text("{")
    assert scene.start(1).observed == 0
    assert "begun anew" in caplog.text
