"""The file of past figures: bounded, thinned, and whole whatever happens to its writer, its disk or itself."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from proxy.control import figures_file
from proxy.control.figures import Figures, SideFigures
from proxy.control.figures_file import EVERY, FiguresFile, Read, Unreadable, read
from proxy.core.sketch import Sketch
from proxy.core.walltime import SURE
from tests.control.helpers import wait_for

START = 1_700_000_100
"""A full quarter of an hour."""
DAY = 86_400


def counted(total: int, **changes: object) -> dict[str, Figures]:
    """What was counted of the one route: so many events, all answered by old after a millisecond."""
    sketch = Sketch()
    sketch.add(0.001, total)
    old = SideFigures(total, 0, total, 290 * total, sketch.buckets if total else {}, 0, 0.0)
    return {"events": Figures(accepted=total, weight=25.0, epoch=3, sides=(old, SideFigures()), **changes)}  # type: ignore[arg-type]


NOTHING = counted(0)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FiguresFile]:
    made = FiguresFile(tmp_path / "figures.db")
    yield made
    made.close()


def keep(file: FiguresFile, number: int, total: int, seconds: float = EVERY) -> None:
    """The sample of the `number`th ten seconds."""
    file.keep(START + EVERY * (number + 1), seconds, counted(total), NOTHING)


def look(file: FiguresFile, since: float, until: float, points: int = 1000, now: float = 0.0) -> Read:
    return read(file.path, "events", since, until, points, now or until)


def accepted(found: Read) -> list[int]:
    return [figures.accepted for _, figures in found.rows]


def test_every_ten_seconds_a_row(file: FiguresFile) -> None:
    for number, total in enumerate((5, 12, 12)):
        keep(file, number, total)
    found = look(file, START, START + 60)
    assert [start - START for start, _ in found.rows] == [0, 10, 20]
    assert accepted(found) == [5, 7, 0]
    assert (found.began, found.width) == (START, EVERY)
    figures = found.rows[1][1]
    assert (figures.seconds, figures.epoch, figures.weight) == (EVERY, 3, 25.0)
    assert (figures.sides[0].body_bytes, figures.sides[0].sketch.count) == (7 * 290, 7)
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_route_that_is_not_known_has_nothing(file: FiguresFile) -> None:
    assert look(file, START, START + 60) == Read(None, EVERY, [])
    keep(file, 0, 5)
    assert read(file.path, "other", START, START + 60, 10, START + 60).rows == []
    assert look(file, START + 100, START + 200).rows == []


def test_fewer_points_add_up_to_the_same(file: FiguresFile) -> None:
    for number in range(30):
        keep(file, number, 10 * (number + 1))
    found = look(file, START, START + 300, points=7)
    assert len(found.rows) <= 7
    assert sum(accepted(found)) == 300
    assert sum(figures.sides[0].sketch.count for _, figures in found.rows) == 300
    assert sum(figures.seconds for _, figures in found.rows) == 300
    found = look(file, START + 7, START + 293, points=1)
    assert (len(found.rows), accepted(found)) == (1, [300]), "rows that the span touches are in it"


def test_after_a_day_there_are_minutes_and_after_a_month_nothing(file: FiguresFile) -> None:
    for number in range(12):
        keep(file, number, 10 * (number + 1))
    assert accepted(look(file, START, START + 120)) == [10] * 12
    keep(file, DAY // EVERY + 12, 121, seconds=DAY)
    late = START + DAY + 130
    assert accepted(look(file, START, START + 120, now=late)) == [60, 60]
    rows = file_rows(file.path)
    assert rows[EVERY] == 1, "of ten seconds there is the last one alone"
    keep(file, 32 * DAY // EVERY, 122, seconds=31 * DAY - 120)
    assert file_rows(file.path) == {EVERY: 1, 60: 1, 900: 1}
    assert look(file, START, START + 2 * DAY, now=START + 32 * DAY).rows == []


def file_rows(path: Path) -> dict[int, int]:
    with closing(apsw.Connection(str(path))) as db:
        return dict(db.execute("SELECT step, count(*) FROM figures GROUP BY step ORDER BY step").fetchall())  # type: ignore[arg-type]


@pytest.mark.parametrize("jump", [2 * DAY, 40 * DAY, -2 * DAY, -54 * 365 * DAY])
@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("samples", [1, 20])
def test_a_clock_that_is_wrong_for_a_while_deletes_nothing(
    file: FiguresFile, jump: int, is_restarted: bool, samples: int, caplog: pytest.LogCaptureFixture
) -> None:
    def sample(number: int, ahead: int = 0) -> None:
        if is_restarted:
            file.close()
            file._time = None
        file.keep(START + EVERY * (number + 1) + ahead, EVERY, counted(number + 1), NOTHING)

    for number in range(40):
        sample(number)
    before = file_rows(file.path)
    for number in range(40, 40 + samples):
        sample(number, jump)
    for number in range(40 + samples, 80):
        sample(number)
    late = START + 800
    assert accepted(look(file, START, START + 400)) == [1] * 40
    assert accepted(look(file, START + 10 * (40 + samples), late)) == [1] * (40 - samples)
    assert all(file_rows(file.path)[step] >= number for step, number in before.items())
    if not is_restarted:
        assert caplog.text.count(f"the clock is {jump:+} s from what was expected") == 1
    if jump > 0:
        with closing(apsw.Connection(str(file.path))) as db:
            ((newest,),) = db.execute("SELECT max(start) FROM figures").fetchall()
        assert isinstance(newest, int)
        assert newest < late, "rows of the future are gone"


def test_a_machine_that_was_off_deletes_what_is_old_when_it_is_sure(file: FiguresFile) -> None:
    keep(file, 0, 1)
    file.close()
    heir, begins = FiguresFile(file.path), 40 * DAY // EVERY
    keep(heir, begins, 2)
    assert file_rows(file.path) == {EVERY: 2, 60: 2, 900: 2}
    hours = int(SURE // 3600)
    for hour in range(1, hours):
        keep(heir, begins + 360 * hour, 2 + hour, seconds=3600)
    assert file_rows(file.path)[900] == 1 + hours, "it might still be the clock"
    keep(heir, begins + 360 * hours, 2 + hours, seconds=3600)
    assert file_rows(file.path)[900] == 1 + hours, "the oldest one is gone"
    assert look(heir, START, START + 60, now=START + 41 * DAY).rows == []
    heir.close()


def test_routes_that_are_gone_grow_old_as_well(file: FiguresFile) -> None:
    file.keep(START + EVERY, EVERY, counted(1) | {"gone": counted(1)["events"]}, NOTHING)
    keep(file, DAY // EVERY + 12, 2, seconds=DAY + 120)
    assert file_rows(file.path)[EVERY] == 2
    heir = FiguresFile(file.path)
    keep(heir, DAY // EVERY + 13, 3)
    assert file_rows(file.path)[EVERY] == 2, "two of the one route, none of the other"
    heir.close()


def test_a_month_is_read_from_few_rows(file: FiguresFile, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0
    real = figures_file._decoded

    def count(said: object) -> Figures:
        nonlocal decoded
        decoded += 1
        return real(said)

    for number in range(360):
        keep(file, number, number + 1)
    monkeypatch.setattr(figures_file, "_decoded", count)
    found = look(file, START - 29 * DAY, START + 3600, points=1000)
    assert sum(accepted(found)) == 360
    assert decoded <= 5


def test_one_reading_adds_up_a_bounded_number_of_rows(file: FiguresFile, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(360):
        keep(file, number, number + 1)
    assert len(look(file, START, START + 3600, points=1000).rows) == 360
    monkeypatch.setattr(figures_file, "MOST_ROWS", 100)
    found = look(file, START, START + 3600, points=1000)
    assert (found.width, accepted(found)) == (60, [6] * 60), "fewer points than were asked for, and the same sum"
    assert len(look(file, START, START + 1000, points=1000).rows) == 100
    monkeypatch.setattr(figures_file, "MOST_ROWS", 1)
    assert accepted(look(file, START, START + 3600, points=1000)) == [90] * 4, "the widest rows are all that there is"


def test_a_file_that_is_too_large_loses_its_oldest_rows(file: FiguresFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_file, "MOST_BYTES", 128 * 1024)
    for number in range(2000):
        keep(file, number, number + 1)
    file.close()
    assert file.path.stat().st_size < 192 * 1024
    found = look(file, START, START + 2000 * EVERY, points=1000)
    assert accepted(look(file, START + 1999 * EVERY, START + 2000 * EVERY)) == [1], "the newest are there"
    assert found.began is not None
    assert found.began > START


def test_another_one_goes_on_and_counts_nothing_twice(file: FiguresFile) -> None:
    keep(file, 0, 5)
    file.close()
    heir = FiguresFile(file.path)
    heir.keep(START + 20, EVERY, counted(8), counted(7))  # the base of the file counts, not that of its start
    assert accepted(look(heir, START, START + 60)) == [5, 3]
    heir.close()


def test_a_new_file_does_not_count_what_was_counted_before_it(file: FiguresFile) -> None:
    file.keep(START + 10, EVERY, counted(1_000_007), counted(1_000_000))
    assert accepted(look(file, START, START + 60)) == [7]


def test_what_the_checker_had_found_is_known_while_it_is_not_heard(file: FiguresFile) -> None:
    for number, mismatches in enumerate(({"lost": 4}, None, {"lost": 5})):
        file.keep(START + EVERY * (number + 1), EVERY, counted(0, mismatches=mismatches), NOTHING)
    found = [figures.mismatches for _, figures in look(file, START, START + 60).rows]
    assert found == [{}, None, {"lost": 1}]


WRITER = """
import sys
from pathlib import Path
from tests.control.test_figures_file import EVERY, NOTHING, START, FiguresFile, counted
file = FiguresFile(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    file.keep(START + EVERY * number, EVERY, counted(number), NOTHING)
    print(number, flush=True)
"""


def test_kill_9_leaves_every_row_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "figures.db"
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=root, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 50:
                break
        process.send_signal(signal.SIGKILL)
        last = max([50, *(int(line) for line in process.stdout.read().split())])
    heir = FiguresFile(path)
    heir.keep(START + EVERY * 5000, EVERY, counted(1_000_000), NOTHING)
    heir.close()
    rows = accepted(read(path, "events", START, START + EVERY * 4000, 1000, START + EVERY * 5000))
    assert sum(rows) in (last, last + 1), "the last one may have been kept and not said"
    assert heir.put_aside == 0


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_nothing_and_loses_nothing(file: FiguresFile) -> None:
    keep(file, 0, 5)
    size = 4096  # less than there is already
    for number in (1, 2):
        with no_file_longer_than(size), pytest.raises((apsw.Error, OSError)):
            keep(file, number, 5 + number)
    keep(file, 3, 9, seconds=3 * EVERY)
    found = look(file, START, START + 60)
    assert accepted(found) == [5, 4]
    assert [figures.seconds for _, figures in found.rows] == [EVERY, 3 * EVERY]
    assert file.put_aside == 0


def test_a_full_disk_at_the_first_row(file: FiguresFile) -> None:
    with no_file_longer_than(512), pytest.raises((apsw.Error, OSError)):
        keep(file, 0, 5)
    keep(file, 1, 6)
    assert accepted(look(file, START, START + 60)) == [6]


def spoil_head(path: Path) -> None:
    path.write_bytes(b"someone else's file, or a disk that lies. " * 200)


def spoil_pages(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.seek(4096)
        opened.write(os.urandom(path.stat().st_size - 4096))


def spoil_rows(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute("UPDATE base SET said = x'c1'")


def spoil_type(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute("UPDATE base SET said = 'text'")


def spoil_version(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("user_version", 99)


@pytest.mark.parametrize("spoil", [spoil_head, spoil_pages, spoil_rows, spoil_type, spoil_version])
def test_a_damaged_file_is_put_aside_and_said(
    file: FiguresFile, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(40):
        keep(file, number, number)
    file.close()
    spoil(file.path)  # type: ignore[operator]
    size = file.path.stat().st_size
    heir = FiguresFile(file.path)
    keep(heir, 41, 50)
    keep(heir, 42, 53)
    heir.close()
    assert heir.put_aside == 1
    assert "put aside as figures.db.damaged" in caplog.text
    assert sorted(each.name for each in file.path.parent.iterdir()) == ["figures.db", "figures.db.damaged"]
    assert (file.path.parent / "figures.db.damaged").stat().st_size == size, "as it was"
    assert accepted(look(heir, START + 410, START + 500)) == [50, 3]


def test_damage_that_is_found_later_is_put_aside_then(file: FiguresFile) -> None:
    keep(file, 0, 5)
    with closing(apsw.Connection(str(file.path))) as db:
        db.execute("UPDATE base SET said = x'c1'")
    keep(file, 1, 7)
    assert file.put_aside == 1
    assert accepted(look(file, START, START + 60)) == [7]


def test_a_file_that_cannot_be_read_is_said(file: FiguresFile) -> None:
    keep(file, 0, 5)
    file.close()
    spoil_head(file.path)
    with pytest.raises(Unreadable, match=r"figures\.db"):
        look(file, START, START + 60)


def test_it_can_be_read_while_it_is_written(file: FiguresFile) -> None:
    keep(file, 0, 5)
    assert file._db is not None
    with file._db:
        file._db.execute("DELETE FROM figures")
        assert accepted(look(file, START, START + 60)) == [5]
    wait_for(lambda: look(file, START, START + 60).rows == [], "what was written")
