"""Two wheels beside each other."""

from __future__ import annotations

from benchmarks.paired import line
from benchmarks.rounds import Round


def taken(*cpu_us: float) -> list[Round]:
    def one(cpu: float) -> Round:
        return Round("p", 1000, cpu, 20_000.0, 0.001, 0.002, 0, 0.25, 0.0, {"worker": cpu - 5, "ledger": 5.0})

    return [one(cpu) for cpu in cpu_us]


def test_pairs_are_compared_and_not_medians() -> None:
    """The machine became twice as slow meanwhile, and each of ours took a tenth less than the one beside it."""
    said = line("split", taken(20.0, 20.0, 40.0, 40.0), taken(18.0, 18.0, 36.0, 36.0))
    assert said.startswith("split: -10.0% CPU time per event (half of the pairs: -10.0% to -10.0%)")
    assert said.endswith("worker 25.0 -> 22.0, ledger 5.0 -> 5.0 µs")


def test_one_disturbed_pair_says_nothing() -> None:
    said = line("dual", taken(*[20.0] * 8), taken(*[19.0] * 7, 60.0))
    assert said.startswith("dual: -5.0% CPU time per event (half of the pairs: -5.0% to -5.0%)")
