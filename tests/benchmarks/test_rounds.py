"""Rounds of load: how they are summed up, and what fails a run."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.admin import Admin
from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed, Started
from benchmarks.rounds import Round, check, settle, summarise
from benchmarks.stalled import logged_ids


def one_round(proxy: str, cpu_us: float, *, errors: int = 0, share_new: float = 0.25, copied: float = 0.0) -> Round:
    return Round(proxy, 1000, cpu_us, 20_000.0, 0.001, 0.002, errors, share_new, copied, {"worker": cpu_us})


def proxy(*, share_new: float = 25.0, copies: bool = False) -> Proxy:
    return Proxy("p", Started.__new__(Started), 1, share_new=share_new, copies=copies)


def test_rounds_are_summed_up_by_their_median() -> None:
    made = summarise([one_round("a", cpu) for cpu in (30.0, 10.0, 20.0)])
    assert (made.rounds, made.cpu_us, made.cpu_us_min, made.cpu_us_max) == (3, 20.0, 10.0, 30.0)


def test_the_share_of_few_events_may_be_off_by_chance() -> None:
    few = one_round("p", 1, share_new=0.30)
    check(proxy(), few, loses=True)
    with pytest.raises(BenchmarkFailed, match=r"30\.0% of the events went to new"):
        check(proxy(), few._replace(requests=100_000), loses=True)


def test_a_splitter_that_does_not_split_fails_the_run() -> None:
    check(proxy(), one_round("p", 1, share_new=0.26), loses=True)
    with pytest.raises(BenchmarkFailed, match=r"50\.0% of the events went to new"):
        check(proxy(), one_round("p", 1, share_new=0.5), loses=True)


def test_a_durable_copy_that_is_missing_fails_the_run() -> None:
    check(proxy(copies=True), one_round("p", 1, copied=0.995), loses=True)
    with pytest.raises(BenchmarkFailed, match="reached both backends"):
        check(proxy(copies=True), one_round("p", 1, copied=0.98), loses=True)
    with pytest.raises(BenchmarkFailed, match="reached both backends"):
        check(proxy(copies=True), one_round("p", 1, copied=0.999), loses=False)


class FakeAdmin(Admin):
    """A ledger with these figures."""

    def __init__(self, receipts: int, **balance: int) -> None:
        super().__init__(Path("/nowhere"))
        self._receipts = receipts
        self._balance = dict.fromkeys(("pending", "refused", "dead", "lost"), 0) | balance

    def receipts(self) -> int:
        return self._receipts

    def balance(self) -> dict[str, int]:
        return self._balance


@pytest.mark.parametrize(
    ("durability", "admin", "complaint"),
    [
        ("before-ack", FakeAdmin(1000), ""),
        ("before-ack", FakeAdmin(999), "waited .* to write 1000 receipts"),
        ("before-ack", FakeAdmin(1000, lost=1), "did not arrive"),
        ("before-ack", FakeAdmin(1000, dead=1), "did not arrive"),
        ("off", FakeAdmin(0, lost=1), ""),
        ("off", FakeAdmin(0, refused=1), "did not arrive"),
    ],
)
def test_our_ledger_is_held_to_its_promise(
    durability: str, admin: Admin, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.rounds.RECEIPTS_TIMEOUT", 0.05)
    ours = Proxy("p", Started.__new__(Started), 1, share_new=0, copies=True, durability=durability, admin=admin)
    with pytest.raises(BenchmarkFailed, match=complaint) if complaint else nullcontext():
        settle(ours, 1000)


def test_ids_are_read_from_the_whole_lines_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "ids.log"
    log.write_text("a\nb\na\nunfinish")
    assert logged_ids(log) == {"a": 2, "b": 1}
