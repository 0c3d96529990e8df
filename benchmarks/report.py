"""The whole run as one value: judged against its targets, as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.attacked import Measured
from benchmarks.commands import WeightResult
from benchmarks.rounds import Summary
from benchmarks.stalled import StalledResult
from benchmarks.websocket.idle import IdleResult

KIB: Final = 2**10
MIB: Final = 2**20
SPLIT_BOUND: Final = 1.6
DUAL_BOUND: Final = 0.8
STALLED_BOUND: Final = 0.015
RSS_BOUND: Final = 128 * MIB
WEIGHT_BOUND: Final = 0.050
HELP_BOUND: Final = 0.100
ATTACKED_BOUND: Final = 1.2
"""p99 of healthy clients of an attacked proxy over that of the same proxy beside it; or what it is with nginx."""
WINDOW_BOUNDS: Final = {32: 2.5, 1: 3.5}
"""Our CPU time per message over nginx's, by messages of a client that are on their way."""
THROUGHPUT_BOUND: Final = 3.0
THROUGHPUT_WINDOW: Final = 32
IDLE_BOUND: Final = 16 * KIB
IDLE_LATENCY_BOUND: Final = 0.001
"""Seconds that p99 of requests may differ with idle sessions beside them; rounds of the same differ as well."""


@dataclass(frozen=True)
class Target:
    """One promise and what was measured of it, both as a person reads them."""

    name: str
    measured: str
    bound: str
    met: bool


@dataclass
class Report:
    """What was measured; a part that was not asked for is None or empty.

    split, dual: first nginx, then ours, then what is printed beside them. help_seconds: of `proxyctl --help`.
    websocket: by window, first nginx, then ours, then the dual writer made of the `websockets` library.
    """

    machine: dict[str, str]
    rounds: int
    seconds: float
    split: list[Summary] = field(default_factory=list)
    dual: list[Summary] = field(default_factory=list)
    stalled: StalledResult | None = None
    weight: WeightResult | None = None
    help_seconds: float | None = None
    websocket: dict[int, list[Summary]] = field(default_factory=dict)
    idle: IdleResult | None = None
    unread: StalledResult | None = None
    attacked: dict[str, dict[str, Measured]] = field(default_factory=dict)
    """By kind of attack and name of the proxy."""

    def targets(self) -> list[Target]:
        """Every target whose figures exist."""
        found = [
            *_cost("split", self.split, SPLIT_BOUND),
            *_cost("dual write", self.dual, DUAL_BOUND),
        ]
        if self.stalled is not None:
            found += _stalled("stalled copy", "client p99", self.stalled)
        if self.weight is not None:
            worst, errors = self.weight.worst, self.weight.errors
            name = f"weight change on all workers, worst of {self.weight.changes}"
            met = worst < WEIGHT_BOUND and not errors
            found.append(Target(name, f"{_ms(worst)}, {errors} client errors", f"< {_ms(WEIGHT_BOUND)}, 0", met))
        if self.help_seconds is not None:
            bound = f"< {_ms(HELP_BOUND)}"
            found.append(Target("proxyctl --help", _ms(self.help_seconds), bound, self.help_seconds < HELP_BOUND))
        for window, summaries in self.websocket.items():
            found += _cost(f"WebSocket, window {window}", summaries, WINDOW_BOUNDS[window], per="message")
            if window == THROUGHPUT_WINDOW:
                found += _throughput(f"WebSocket, window {window}", summaries)
        if self.idle is not None:
            found += _idle(self.idle)
        if self.unread is not None:
            found += _stalled("copy that stops reading", "acknowledgement p99", self.unread)
        return found + [_attacked(kind, proxies) for kind, proxies in self.attacked.items()]

    def as_json(self) -> str:
        """Everything, with names; seconds, bytes and ratios 0-1."""
        plain: dict[str, Any] = {
            "machine": self.machine,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "split": [one._asdict() for one in self.split],
            "dual": [one._asdict() for one in self.dual],
            "stalled": self.stalled._asdict() if self.stalled else None,
            "weight": self.weight._asdict() if self.weight else None,
            "help_seconds": self.help_seconds,
            "websocket": {window: [one._asdict() for one in found] for window, found in self.websocket.items()},
            "idle": self.idle._asdict() if self.idle else None,
            "unread": self.unread._asdict() if self.unread else None,
            "attacked": {
                kind: {name: one._asdict() for name, one in proxies.items()} for kind, proxies in self.attacked.items()
            },
            "targets": [dataclasses.asdict(target) for target in self.targets()],
        }
        return json.dumps(plain, indent=2) + "\n"

    def as_markdown(self) -> str:
        """Tables for a person."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        lines = [f"{machine}; {self.rounds} rounds of {self.seconds:g} s, in turn", ""]
        lines += _table("Split, 25 % to new", self.split) + _table("Dual write", self.dual)
        if self.stalled is not None:
            lines += _stalled_lines("Copy's backend stalled", "events", self.stalled)
        for window, summaries in self.websocket.items():
            lines += _table(f"WebSocket, each client with {window} on their way", summaries, event="message")
        if self.idle is not None:
            lines += _idle_lines(self.idle)
        if self.unread is not None:
            lines += _stalled_lines("Copy's backend stops reading", "messages", self.unread)
        if self.attacked:
            lines += _attacked_lines(self.attacked)
        targets = self.targets()
        if targets:
            lines += ["| target | measured | bound | |", "|---|--:|--:|---|"]
            lines += [f"| {t.name} | {t.measured} | {t.bound} | {'met' if t.met else '**MISSED**'} |" for t in targets]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, directory: Path, name: str) -> Path:
        """Keep both forms as NAME.json and NAME.md; the path of the first."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.md").write_text(self.as_markdown())
        path = directory / f"{name}.json"
        path.write_text(self.as_json())
        return path


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _by_role(cpu_us: dict[str, float]) -> str:
    return ", ".join(f"{name} {spent:.1f}" for name, spent in cpu_us.items())


def _cost(name: str, summaries: list[Summary], bound: float, *, per: str = "event") -> list[Target]:
    """Ours over nginx: the second line of a group over its first. Client errors spoil a ratio."""
    if len(summaries) < 2 or not summaries[1].proxy.startswith("crossfade"):
        return []
    nginx, ours = summaries[:2]
    ratio = ours.cpu_us / nginx.cpu_us
    measured = f"{ratio:.2f} ({ours.cpu_us:.1f} / {nginx.cpu_us:.1f} µs), {ours.errors} client errors"
    met = ratio <= bound and not ours.errors
    return [Target(f"{name}: CPU per {per}, ours / {nginx.proxy}", measured, f"≤ {bound:g}, 0", met)]


def _throughput(name: str, summaries: list[Summary]) -> list[Target]:
    """Ours over the last of the group, in messages per second."""
    if len(summaries) < 3:
        return []
    ours, peer = summaries[1], summaries[-1]
    ratio = ours.rate / peer.rate
    measured = f"{ratio:.2f} ({ours.rate:.0f} / {peer.rate:.0f} messages/s)"
    met = ratio >= THROUGHPUT_BOUND
    return [Target(f"{name}: throughput, ours / {peer.proxy}", measured, f"≥ {THROUGHPUT_BOUND:g}", met)]


def _idle(one: IdleResult) -> list[Target]:
    name = f"{one.sessions} idle sessions"
    per_session, bound = one.bytes_per_session, one.p99_without + IDLE_LATENCY_BOUND
    measured = f"{_ms(one.p99_with)}, {one.failed} failed"
    met = one.p99_with <= bound and not one.failed
    return [
        Target(
            f"{name}: memory of each",
            f"{per_session / KIB:.1f} KiB",
            f"≤ {IDLE_BOUND / KIB:.0f} KiB",
            per_session <= IDLE_BOUND,
        ),
        Target(f"{name}: p99 of requests beside them", measured, f"≤ {_ms(bound)}, 0", met),
    ]


def _stalled(name: str, latency: str, one: StalledResult) -> list[Target]:
    bound = one.healthy_p99 + STALLED_BOUND
    growth = one.rss_stalled - one.rss_healthy
    missing = f"{one.lost} lost, {one.failed} failed"
    return [
        Target(f"{name}: {latency}", _ms(one.stalled_p99), f"≤ {_ms(bound)}", one.stalled_p99 <= bound),
        Target(f"{name}: events", missing, "0, 0", not one.lost and not one.failed),
        Target(
            f"{name}: memory gained",
            f"{growth / MIB:.0f} MiB",
            f"≤ {RSS_BOUND / MIB:.0f} MiB",
            growth <= RSS_BOUND,
        ),
    ]


def _attacked(kind: str, proxies: dict[str, Measured]) -> Target:
    ours, nginx = proxies["crossfade"].ratio, proxies["nginx"].ratio
    bound = max(ATTACKED_BOUND, nginx)
    return Target(f"{kind}: p99 of others, attacked / beside it", f"{ours:.2f}", f"≤ {bound:.2f}", ours <= bound)


def _table(title: str, summaries: list[Summary], *, event: str = "event") -> list[str]:
    if not summaries:
        return []
    lines = [
        f"### {title}",
        "",
        f"| proxy | CPU µs/{event} (min-max) | ratio | {event}s/s | p50 | p99 | did | errors | of which |",
    ]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|---|")
    for one in summaries:
        cpu = f"{one.cpu_us:.1f} ({one.cpu_us_min:.1f}-{one.cpu_us_max:.1f}) | {one.cpu_us / summaries[0].cpu_us:.2f}"
        did = f"{one.copied:.1%} copied" if one.copied else f"{one.share_new:.1%} to new"
        if one.handed:
            did += f", {one.handed:.1%} by the ledger"
        speed = f"{one.rate:.0f} | {_ms(one.p50)} | {_ms(one.p99)}"
        lines.append(f"| {one.proxy} | {cpu} | {speed} | {did} | {one.errors} | {_by_role(one.by_role)} |")
    return [*lines, ""]


def _idle_lines(one: IdleResult) -> list[str]:
    lines = [f"### {one.sessions} idle sessions, {one.rate:.0f} requests/s beside them, {one.rounds} rounds", ""]
    lines += ["| sessions | p50 | p99 | memory |", "|--:|--:|--:|--:|"]
    for sessions, p50, p99, rss in (
        (0, one.p50_without, one.p99_without, one.rss_without),
        (one.sessions, one.p50_with, one.p99_with, one.rss_with),
    ):
        lines.append(f"| {sessions} | {_ms(p50)} | {_ms(p99)} | {rss / MIB:.0f} MiB |")
    return [*lines, ""]


def _stalled_lines(title: str, events: str, one: StalledResult) -> list[str]:
    lines = [f"### {title}, {one.rate:.0f} {events}/s in an open loop, {one.events} {events}", ""]
    lines += [f"| | p50 | p99 | memory | CPU µs/{events.removesuffix('s')} |", "|---|--:|--:|--:|---|"]
    for name, p50, p99, rss, cpu in (
        ("healthy", one.healthy_p50, one.healthy_p99, one.rss_healthy, one.healthy_cpu),
        ("stalled", one.stalled_p50, one.stalled_p99, one.rss_stalled, one.stalled_cpu),
    ):
        lines.append(f"| {name} | {_ms(p50)} | {_ms(p99)} | {rss / MIB:.0f} MiB | {_by_role(cpu)} |")
    return [*lines, "", f"Lost {one.lost}, failed {one.failed}, delivered twice {one.duplicates}.", ""]


def _attacked_lines(attacked: dict[str, dict[str, Measured]]) -> list[str]:
    lines = ["### Under slowhttptest, 20 new attackers a second", ""]
    lines += ["| attack | proxy | p99 attacked | p99 beside it | ratio | processor of the two |"]
    lines += ["|---|---|--:|--:|--:|--:|"]
    for kind, proxies in attacked.items():
        for name, one in proxies.items():
            p99 = " | ".join(map(_ms, one.p99))
            lines.append(f"| {kind} | {name} | {p99} | {one.ratio:.2f} | {one.cpu[0]:.1%}, {one.cpu[1]:.1%} |")
    return [*lines, ""]
