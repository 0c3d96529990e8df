"""What a live check keeps: counts that never fall, windows that are judged once, and all of it after a kill."""

from __future__ import annotations

from pathlib import Path

import apsw
import orjson
import pytest

from consistency.classes import Class
from consistency.compare import Counts, Finding
from consistency.judge import Judged, Stray
from consistency.live.journal import KEPT_FOR, SAMPLES, Journal
from consistency.rows import Key, Span
from consistency.shown import KEPT
from consistency.windows import WindowState

SIZE, BEGIN, HORIZON = 10, 1000, 500


def journal(folder: Path, *, size: int = SIZE, begin: int = BEGIN) -> Journal:
    return Journal(folder / "events.db", size=size, begin=begin, horizon=HORIZON)


def finding(name: str, kind: Class, *by: str, at: int = 0) -> Finding:
    return Finding(Key(name, at), kind, by)


def judged(start: int, *findings: Finding, equal: int = 0, strays: tuple[Stray, ...] = ()) -> Judged:
    counts = Counts()
    counts.classes[Class.EQUAL] += equal
    for each in findings:
        counts.add(each)
    against = sum(each.is_against_new for each in findings)
    return Judged(Span(start, start + SIZE), counts, list(findings), list(strays), against_new=against)


def keep(kept: Journal, found: Judged, now: int = 2000) -> None:
    kept.windows.take(found.window)
    kept.keep(found, now)


def listed(kept: Journal) -> list[str]:
    """Identities of all findings that are kept."""
    return [orjson.loads(str(said))["identity"] for (said,) in kept.db.execute("SELECT said FROM finding ORDER BY at")]


def test_who_goes_on_finds_everything_as_it_was(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.begin_trial(7, {"events": 25.0})
    first.note_copy(True, 7, 77)
    keep(first, judged(1000, finding("a", Class.LOST, "new"), equal=5))
    keep(first, judged(1020, equal=3))
    with first.db:
        first.note([1003, 1004], 1100)
    first.close()
    second = journal(tmp_path, begin=99_999)
    assert second.state == first.state
    assert (second.windows.begin, second.windows.cursor, second.windows.judged) == (1000, 1010, [1020])
    assert second.windows.reopened == [1000]
    assert second.windows.reopen(1001, 1100) is WindowState.DUE, "it is to be judged again already"
    assert (second.state.totals, second.state.judged) == ({"equal": 8, "lost": 1}, 2)
    assert (second.state.trial.epoch, second.state.trial.lost, second.state.trial.settled) == (7, 1, 9)
    assert second.state.copied == [(77, None)]


def test_a_window_that_was_taken_when_it_was_killed_begins_anew(tmp_path: Path) -> None:
    first = journal(tmp_path)
    keep(first, judged(1000, equal=1))
    with first.db:
        first.note([1003], 1100)
    for start in (1000, 1010):
        first.windows.take(Span(start, start + SIZE))
    first.close()
    due = journal(tmp_path).windows.due(1050, 0, lambda _: False)
    assert [window.start for window in due] == [1000, 1010, 1020, 1030, 1040]


def test_nothing_is_kept_of_what_could_not_be_written(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.db.execute("CREATE TRIGGER full BEFORE INSERT ON finding BEGIN SELECT raise(ABORT, 'disk full'); END")
    with pytest.raises(apsw.ConstraintError, match="disk full"):
        keep(kept, judged(1000, finding("a", Class.LOST, "new"), equal=5))
    kept.close()
    second = journal(tmp_path)
    assert (second.state.totals, second.state.trial.lost, second.windows.cursor) == ({}, 0, 1000)


def test_counts_of_a_window_that_is_judged_again_are_not_added_twice(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    keep(kept, judged(1000, finding("a", Class.LOST, "new"), finding("b", Class.DIFFERENT), equal=5))
    keep(kept, judged(1000, finding("b", Class.DIFFERENT), equal=7))
    assert kept.state.totals == {"equal": 7, "lost": 1, "different": 1}, "a counter never falls"
    assert (kept.state.trial.mismatches, kept.state.trial.lost) == (2, 1)
    keep(kept, judged(1000, finding("a", Class.LOST, "new"), finding("b", Class.DIFFERENT), equal=5))
    assert kept.state.totals == {"equal": 7, "lost": 1, "different": 1}
    assert (kept.state.trial.mismatches, kept.state.trial.lost) == (2, 1)
    keep(kept, judged(1000, finding("c", Class.LOST, "new"), finding("d", Class.LOST, "old", "new"), equal=5))
    assert (kept.state.trial.mismatches, kept.state.trial.lost) == (3, 2), "another one, and no more than one at a time"
    found = kept.found(Span(1000, 1010))
    assert found is not None
    assert found.classes == {"equal": 5, "lost": 2}, "the report says what is so now"
    assert listed(kept) == ["c", "d"]


def test_an_identity_that_turns_out_to_be_of_another_class_is_checked_once(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    keep(kept, judged(1000, equal=5))
    keep(kept, judged(1000, finding("a", Class.DUPLICATE, "new"), equal=4))
    assert kept.state.totals == {"equal": 5, "duplicate": 1}
    assert (kept.state.checked, kept.state.trial.settled, kept.state.trial.mismatches) == (5, 5, 1)


def test_points_of_one_series_are_held_against_new_one_by_one(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    point = finding("series", Class.UNRECORDED)
    for number, trial in ((3, 3), (1, 3), (5, 5)):
        keep(kept, judged(1000, *[point] * number, equal=1))
        assert kept.state.trial.mismatches == trial


def test_what_is_not_new_s_fault_is_not_held_against_it(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    not_news = [
        finding("a", Class.LOST, "old"),
        finding("b", Class.DUPLICATE, "old"),
        finding("c", Class.UNRECORDED, "old"),
        finding("d", Class.DEAD),
        finding("e", Class.REFUSED),
        finding("f", Class.LOST, "old", "new"),
    ]
    keep(kept, judged(1000, *not_news, equal=1))
    assert (kept.state.trial.settled, kept.state.trial.mismatches, kept.state.trial.lost) == (7, 0, 0)
    assert kept.state.trial.samples == []
    assert kept.state.totals["lost"] == 2


def test_what_is_not_settled_is_no_part_of_the_trial(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    keep(kept, judged(1000, finding("a", Class.FOREIGN), equal=2))
    assert (kept.state.trial.settled, kept.state.checked, kept.state.totals) == (2, 2, {"equal": 2, "foreign": 1})


def test_a_trial_begins_with_each_weight_and_the_totals_go_on(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    keep(kept, judged(1000, finding("a", Class.LOST, "new"), equal=1))
    assert [each["identity"] for each in kept.state.trial.samples] == ["a"]
    kept.begin_trial(9, {"events": 5.0})
    assert (kept.state.trial.lost, kept.state.trial.settled, kept.state.trial.samples) == (0, 0, [])
    keep(kept, judged(1010, *(finding(f"b{number}", Class.LOST, "new") for number in range(50))))
    assert (kept.state.trial.lost, len(kept.state.trial.samples)) == (50, SAMPLES)
    assert kept.state.totals == {"equal": 1, "lost": 51}


def test_more_findings_than_are_kept_are_counted(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    keep(kept, judged(1000, *(finding(f"{number}", Class.LOST, "new", at=number) for number in range(KEPT + 5))))
    assert (kept.state.trial.mismatches, kept.state.trial.lost) == (KEPT + 5, KEPT)
    assert len(listed(kept)) == KEPT


def test_a_stray_opens_its_window_once(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    for start in (1000, 1010):
        keep(kept, judged(start, equal=1), 1030)
    stray = Stray(1003, Key("a", 1025))
    keep(kept, judged(1020, strays=(stray,)), 1030)
    assert kept.windows.reopened == [1000]
    assert kept.strays(Span(1000, 1010)) == [Key("a", 1025)]
    keep(kept, judged(1000, equal=2), 1030)
    keep(kept, judged(1020, strays=(stray,)), 1030)
    assert kept.windows.reopened == [], "nothing new: it was judged with this row"


def test_an_event_that_comes_while_its_window_is_judged_has_it_judged_again(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.windows.take(Span(1000, 1010))
    with kept.db:
        kept.note([1005], 1100)
    kept.keep(judged(1000, equal=1), 1100)
    assert kept.windows.reopened == [1000]
    kept.close()
    assert journal(tmp_path).windows.reopened == [1000]


def test_spans_of_copied_time(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.note_copy(False, 1, 1000)
    kept.note_copy(True, 2, 1100)
    kept.note_copy(True, 3, 1150)
    kept.note_copy(False, 4, 1200)
    kept.note_copy(True, 5, 1300)
    assert kept.state.copied == [(1100, 1200), (1300, None)]
    kept.close()
    same = journal(tmp_path)
    same.note_copy(True, 5, 1400)
    assert same.state.copied == [(1100, 1200), (1300, None)], "nothing changed while nobody looked"
    same.close()
    other = journal(tmp_path)
    other.note_copy(True, 9, 1500)
    assert other.state.copied == [(1100, 1200), (1300, 1000), (1500, None)], "what was so meanwhile nobody knows"


def test_windows_of_another_size_go_on_where_all_is_judged(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    for start in (1000, 1010, 1030):
        keep(kept, judged(start, finding("a", Class.DIFFERENT), equal=1))
    kept.close()
    other = journal(tmp_path, size=15)
    assert (other.windows.begin, other.windows.cursor, other.windows.judged) == (1000, 1020, [])
    assert other.state.totals == {"equal": 3, "different": 3}
    assert len(listed(other)) == 2, "of windows that are judged anew nothing is left"


def test_larger_windows_begin_where_an_old_one_ends_and_none_is_left_out(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    for start in range(1000, 1070, 10):
        keep(kept, judged(start, equal=1))
    kept.close()
    assert journal(tmp_path, size=50).windows.cursor == 1050, "1050 to 1070 once more rather than never"


def test_reports_are_kept_for_their_time(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    for start in (1000, 1010):
        keep(kept, judged(start, finding("a", Class.DIFFERENT)))
    kept.prune(1005 + KEPT_FOR)
    assert kept.found(Span(1000, 1010)) is None
    assert kept.found(Span(1010, 1020)) is not None
    assert len(listed(kept)) == 1
    kept.close()
    assert journal(tmp_path).windows.cursor == 1020, "and nothing is judged twice for that"


def test_what_was_held_against_new_is_kept_as_long_as_its_window_may_be_judged_again(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    for start in (1000, 1010):
        keep(kept, judged(start, finding(f"e{start}", Class.LOST, "new")))

    def held() -> list[int]:
        return [home for (home,) in kept.db.execute("SELECT home FROM held ORDER BY home")]

    last = 1010 + HORIZON
    kept.prune(last)
    assert held() == [1000, 1010]
    with kept.db:
        kept.note([1005], last - 1)
    kept.prune(last + 10 * SIZE)
    assert held() == [1000, 1010], "it is to be judged once more"
    keep(kept, judged(1000, finding("e1000", Class.LOST, "new")))
    assert kept.state.trial.lost == 2, "and nothing is held against new twice"
    kept.prune(last + 2 * SIZE)
    assert held() == []


def test_another_kind_of_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"no database" * 100)
    with pytest.raises(apsw.NotADBError):
        journal(tmp_path)
