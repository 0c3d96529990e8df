"""The chosen cases, one after the other, each with a daemon of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import compiled
from benchmarks.live import carry, noise, reverts, rollback
from benchmarks.live.breaks import Break, Dead, Faulty
from benchmarks.live.figures import Reverts, carried, reverted, rolled_back, undisturbed
from benchmarks.live.reverts import BUSY, SPARSE, Traffic
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Target
from proxy.core.errors import CrossfadeError


class Failure(NamedTuple):
    """bound: seconds until every worker has weight 0; rounds: full, and quick; quantile: that has to see it."""

    name: str
    broken: Break
    traffic: Traffic
    bound: float
    rounds: tuple[int, int]
    quantile: float | None = None


FAILURES: Final = {
    "dead": Failure("new is killed, 200 events/s", Dead(), BUSY, 1.0, (7, 2)),
    "errors-30": Failure("30 % fail at new, 200 events/s", Faulty("errors", 0.3), BUSY, 3.0, (7, 2)),
    "errors-5": Failure("5 % fail at new, 200 events/s", Faulty("errors", 0.05), BUSY, 60.0, (7, 1)),
    "slow": Failure("new is 200 ms slower, 200 events/s", Faulty("slow", 1.0, 0.2), BUSY, 30.0, (5, 1)),
    "slow-tail": Failure(
        "a fifth of new's answers is 200 ms slower, 200 events/s", Faulty("slow", 0.2, 0.2), BUSY, 30.0, (5, 1), 0.95
    ),
    "sparse-errors": Failure("all fail at new, 17 events/min", Faulty("errors"), SPARSE, 90.0, (3, 1)),
    "sparse-dead": Failure("new is killed, 17 events/min", Dead(), SPARSE, 10.0, (3, 1)),
}
CASES: Final = (*FAILURES, "noise", "rollback", "carry-over")
NOISE_SECONDS: Final = (600.0, 60.0)
ROLLBACKS: Final = (5, 2)
CARRIED: Final = (100_000, 10_000)
"""In the full form, and quick."""


class Run:
    """One run of the chosen cases. targets, figures: so far; show: is given each target as soon as it is measured."""

    def __init__(self, *, is_quick: bool, show: Callable[[Target], None]) -> None:
        self._form = int(is_quick)
        self._show = show
        self.targets: list[Target] = []
        self.figures: dict[str, Any] = {}

    async def __call__(self, cases: list[str]) -> None:
        """Raises BenchmarkFailed, or what else made it impossible to measure."""
        others: dict[str, Callable[[], Awaitable[None]]] = {
            "noise": self._noise,
            "rollback": self._rollback,
            "carry-over": self._carry_over,
        }
        for case in cases:
            print(f"measuring {case}", file=sys.stderr, flush=True)
            if case in FAILURES:
                await self._failure(case, FAILURES[case])
            else:
                await others[case]()

    async def _failure(self, case: str, failure: Failure) -> None:
        rounds = failure.rounds[self._form]
        measured = await reverts.measure(failure.broken, failure.traffic, failure.bound, rounds)
        self.figures[case] = _told(measured)
        self._add(reverted(failure.name, measured, failure.bound, failure.quantile))

    async def _noise(self) -> None:
        measured = await noise.measure(NOISE_SECONDS[self._form])
        self.figures["noise"] = measured._asdict() | {"revert": measured.revert and measured.revert._asdict()}
        self._add(undisturbed("healthy new, 200 events/s", measured.seconds, measured.noise, measured.revert))

    async def _rollback(self) -> None:
        measured = await rollback.measure(ROLLBACKS[self._form])
        self.figures["rollback"] = measured._asdict()
        for target in rolled_back(measured):
            self._add(target)

    async def _carry_over(self) -> None:
        events = CARRIED[self._form]
        measured = await carry.measure(events)
        self.figures["carry-over"] = measured._asdict()
        self._add(carried(measured, events))

    def _add(self, target: Target) -> None:
        self.targets.append(target)
        self._show(target)


def _told(measured: Reverts) -> dict[str, Any]:
    return measured._asdict() | {"found": [each and each._asdict() for each in measured.found]}


def main(options: argparse.Namespace) -> int:
    """The exit code. options: quick, only, plain, strict, results."""
    run = Run(is_quick=options.quick, show=lambda target: print(target.line(), flush=True))
    try:
        if not options.plain:
            os.environ["PYTHONPATH"] = str(compiled.build())
        asyncio.run(run(options.only or list(CASES)))
    except (BenchmarkFailed, CrossfadeError, TimeoutError, subprocess.CalledProcessError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    finally:
        _keep(run, options)
    return 1 if options.strict and not all(target.met for target in run.targets) else 0


def _keep(run: Run, options: argparse.Namespace) -> None:
    """What there is, also of a run that failed or was ended."""
    path: Path = options.results / "guard-live.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"is_quick": options.quick, "is_compiled": not options.plain, "cores": os.cpu_count()}
    machine = form | {"python": platform.python_version(), "kernel": platform.release()}
    path.write_text(json.dumps(machine | {"cases": run.figures}, indent=1) + "\n")
