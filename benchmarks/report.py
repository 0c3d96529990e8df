"""The whole run as one value: parts with their tables, targets and plots; as JSON, Markdown and SVG."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import plots
from benchmarks.plots import Bar

KIB: Final = 2**10
MIB: Final = 2**20


@dataclass(frozen=True)
class Target:
    """One promise and what was measured of it, both as a person reads them."""

    name: str
    measured: str
    bound: str
    met: bool

    def line(self, width: int = 0) -> str:
        """For a terminal. width: of the column of names."""
        return f"{self.name:<{width}}  {self.measured}  (target {self.bound}: {'met' if self.met else 'MISSED'})"


class Table(NamedTuple):
    """Text in rows and columns. The first column is read from its left, all others from their right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def lines(self) -> list[str]:
        """As Markdown, with an empty line behind it."""
        found = [f"### {self.title}", "", _row(self.header), _row(["---", *["--:"] * (len(self.header) - 1)])]
        found += [_row(row) for row in self.rows]
        return [*found, "", *([self.note, ""] if self.note else [])]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


class Plot(NamedTuple):
    """Bars beside each other. name: of its file; unit: of the values."""

    name: str
    title: str
    unit: str
    bars: Sequence[Bar]


@dataclass
class Part:
    """What a case has found. figures: all of it, as JSON has it: seconds, bytes and ratios 0-1."""

    figures: Any
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """SVGs by name, of what is no plot of ours."""


@dataclass
class Report:
    """What was measured, by case."""

    machine: dict[str, str]
    rounds: int
    seconds: float
    parts: dict[str, Part] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Cases that could not be measured, and why."""

    def targets(self) -> list[Target]:
        """Every target whose figures exist."""
        return [target for part in self.parts.values() for target in part.targets]

    def as_json(self) -> str:
        """Everything, with names."""
        plain: dict[str, Any] = {"machine": self.machine, "rounds": self.rounds, "seconds": self.seconds}
        plain |= {name: part.figures for name, part in self.parts.items()}
        plain["failed"] = self.failed
        plain["targets"] = [dataclasses.asdict(target) for target in self.targets()]
        return json.dumps(plain, indent=2) + "\n"

    def as_markdown(self) -> str:
        """Tables for a person."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        lines = [f"{machine}; {self.rounds} rounds of {self.seconds:g} s, in turn", ""]
        for part in self.parts.values():
            for table in part.tables:
                lines += table.lines()
        targets = self.targets()
        if targets:
            lines += ["| target | measured | bound | |", "|---|--:|--:|---|"]
            lines += [_row([t.name, t.measured, t.bound, "met" if t.met else "**MISSED**"]) for t in targets]
        lines += ["", *(f"**FAILED** {case}: {reason}" for case, reason in self.failed.items())]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, directory: Path, name: str) -> Path:
        """Keep all forms as NAME.json, NAME.md and NAME-PLOT.svg; the path of the first."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.md").write_text(self.as_markdown())
        for part in self.parts.values():
            for plot in part.plots:
                (directory / f"{name}-{plot.name}.svg").write_bytes(plots.draw(plot.title, plot.unit, plot.bars))
            for picture, drawn in part.pictures.items():
                (directory / f"{name}-{picture}.svg").write_bytes(drawn)
        path = directory / f"{name}.json"
        path.write_text(self.as_json())
        return path


def ms(seconds: float) -> str:
    """A time for a person."""
    return f"{seconds * 1000:.1f} ms"


def mib(size: float) -> str:
    """A size for a person."""
    return f"{size / MIB:.0f} MiB"
