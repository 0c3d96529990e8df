"""top: what is shown at each width, keys on a real terminal, plain lines elsewhere."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest
from rich.console import Console

from proxy.cli import top
from proxy.cli.top_rows import lines, routes
from proxy.cli.top_view import View
from proxy.core.routing import Dials
from tests.cli.conftest import ROOT, Ctl
from tests.cli.fake_admin import FakeAdmin, serving

Json = dict[str, Any]


def a_side(rate: float, p99: float, **changes: Any) -> Json:
    figures = {"backend": "a-backend", "rate": rate, "error_rate": 0.0, "p50": 0.001, "p95": 0.002, "p99": p99}
    return figures | {"breaker": "closed", "healthy": True, "ledger": {"pending": 0, "dead": 0}} | changes


def a_route(name: str, rate: float, p99: float = 0.01, **changes: Any) -> Json:
    dials = {"stage": "live", "weight_target": 25.0, "weight_observed": 24.7, "latched": False, "rate": rate}
    return {"name": name, "sides": {"old": a_side(rate, 0.001), "new": a_side(1.0, p99)}} | dials | changes


def a_status(*found: Json, **changes: Any) -> Json:
    head = {"admin": "unix:a.sock", "ready": True, "epoch": 7, "workers": [{"alive": True}], "warnings": []}
    return head | {"routes": list(found)} | changes


def drawn(view: View, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, legacy_windows=False, color_system=None)
    console.print(view.render(width))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


STATUS = a_status(
    a_route("orders", 50.0),
    a_route("events", 120.0, 0.3, latched=True, rollout={"phase": "reverted", "step": 2, "of": 6}),
)


def test_a_wide_terminal_shows_everything() -> None:
    view = View()
    view.take([STATUS])
    text = "\n".join(drawn(view, 140))
    assert "crossfade at unix:a.sock: ready, epoch 7, 1 of 1 workers" in text
    assert "old ─────●─────────────── new" in text
    assert "events  live  LATCHED  rollout reverted 2/6  25 %" in text
    for column in ("backend", "trend", "p50", "p95", "p99", "oldest", "dead"):
        assert column in text
    assert text.index("events") < text.index("orders")


@pytest.mark.parametrize("width", [30, 40, 55, 72, 90, 140])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    view = View()
    view.take([STATUS, {"admin": "http://127.0.0.1:9900", "away": "nobody there " * 20}])
    found = drawn(view, width)
    assert max(map(len, found)) <= width
    text = "\n".join(found)
    assert "120/s" in text, "the rate is always there"
    assert "errors" in text
    assert ("p95" in text) == (width >= 52)


def test_keys_sort_and_choose() -> None:
    view = View()
    view.take([STATUS])
    assert not view.press("x")
    order = []
    for _ in top.SORTS:
        order.append((view.sort, routes(STATUS, None, view.sort)[0]["name"]))
        assert view.press("s")
    assert dict(order) == {"name": "events", "rate": "events", "errors": "orders", "p99": "events", "pending": "orders"}
    seen = []
    for _ in range(3):
        view.press("r")
        seen.append(view.route)
    assert seen == ["events", "orders", None]
    fixed = View(route="events")
    fixed.take([STATUS])
    assert not fixed.press("r")
    assert "orders" not in "\n".join(drawn(fixed, 100))


def test_an_open_breaker_and_what_waits_stand_out() -> None:
    broken = a_side(0.0, 0.01, breaker="open", ledger={"pending": 12, "oldest_age_s": 75.0, "dead": 1})
    status = a_status(a_route("events", 1.0, sides={"old": a_side(1.0, 0.1), "new": broken}))
    (line,) = lines(status, None, "name")
    assert "12 pending, open" in line
    view = View()
    view.take([status])
    text = "\n".join(drawn(view, 140))
    assert "1m 15s" in text
    assert "open" in text


def test_what_else_a_person_should_know() -> None:
    ledger = {"alive": True, "balanced": True, "pending": 3, "dead": 1, "disk_free": 2**30, "commit_p99_s": 0.004}
    check = {"routes": ["events"], "since_change": {"mismatches": 2, "settled": 1204}}
    view = View()
    view.take([a_status(ledger=ledger, consistency=[check], warnings=[f"w{n}" for n in range(5)])])
    text = "\n".join(drawn(view, 100))
    assert "ledger balanced, 3 pending, 1 dead, 1.0 GiB free, commit p99 4.0 ms" in text
    assert "consistency events: 2 mismatches of 1,204 events" in text
    assert "warning: w2" in text
    assert "2 more warnings: proxyctl status" in text
    view.take([a_status(ledger={"alive": False})])
    assert "ledger DOWN" in "\n".join(drawn(view, 100))


def test_plain_lines_into_a_pipe(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(25.0, "durable")
    done = ctl("top", "--count", "1")
    (line,) = done.out.splitlines()
    assert "events live 25 % (24.7 % seen) | old 90.1/s 0 % p99 5.6 ms | new" in line
    assert json.loads(ctl("top", "--count", "1", "-o", "json").out)["epoch"] == 6


def test_a_route_that_is_not_there_and_nobody_at_all(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("top", "--count", "1", "--route", "nowhere").code == 2
    assert ctl("top", "--count", "1", "--admin", "unix:/nowhere/admin.sock").code == 6


class Terminal:
    """proxyctl on a terminal of so many columns."""

    def __init__(self, *words: str, width: int = 100) -> None:
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
        self.before = termios.tcgetattr(other)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": str(width)}
        command = [sys.executable, "-m", "proxy.cli.main", *words]
        self.process = subprocess.Popen(command, stdin=other, stdout=other, stderr=subprocess.PIPE, env=environment)
        self._other = other
        self.text = ""

    def until(self, true: Callable[[str], bool]) -> None:
        """Read until what was written since the last key is so."""
        deadline = time.monotonic() + 60
        while not true(self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self._main], [], [], 0.1)[0]:
                self.text += os.read(self._main, 65536).decode(errors="replace")

    def press(self, key: str) -> None:
        self.text = ""
        os.write(self._main, key.encode())

    def end(self) -> int:
        """Press q; the exit code."""
        self.press("q")
        code = self.process.wait(60)
        assert termios.tcgetattr(self._other)[3] == self.before[3], "the terminal is as it was"
        assert self.process.stderr is not None
        assert self.process.stderr.read() == b""
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._main)
        os.close(self._other)


@pytest.mark.parametrize("words", [["top"], ["status", "-w"]])
def test_keys_on_a_terminal(words: list[str], admin: FakeAdmin) -> None:
    admin.dials["orders"] = Dials(0.0, "none")
    with closing(Terminal(*words)) as terminal:
        terminal.until(lambda text: "all routes" in text and "orders" in text)
        terminal.press("s")
        terminal.until(lambda text: "sort: rate" in text)
        terminal.press("r")
        terminal.until(lambda text: "route events" in text)
        assert terminal.end() == 0


def test_it_outlives_a_restart_of_the_instance() -> None:
    with ExitStack() as instance:
        instance.enter_context(serving(FakeAdmin(), "a.sock"))
        with closing(Terminal("top", "--admin", "unix:a.sock", width=60)) as terminal:
            terminal.until(lambda text: "epoch 6" in text)
            instance.close()
            os.unlink("a.sock")
            terminal.until(lambda text: "AWAY" in text)
            terminal.text = ""
            instance.enter_context(serving(FakeAdmin(), "a.sock"))
            terminal.until(lambda text: "epoch 6" in text)
            assert terminal.end() == 0
