"""What a command prints: text for people, JSON or YAML for programs, and errors in the same form on stderr.

Keys, targets, reasons and actors come from clients and other people, so text never lets a control
character of theirs reach the terminal.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from proxy.cli.failure import Failure
from proxy.report.texts import printable

Render = Callable[[Any], str]
WIDTH = 100
"""Characters of a line that is wrapped."""
_RED, _BOLD, _PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"


def clean(value: object) -> str:
    """The value as one line of printable text; `-` for nothing."""
    return "-" if value is None or value == "" else printable(str(value))


def words(value: object) -> str:
    """A JSON value on one line, without brackets or quotes: `from 12:00, to 12:01`, `0, 1`, `yes`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{clean(name)} {words(entry)}" for name, entry in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(words(entry) for entry in value) or "-"
    return clean(value)


def emit(form: str, value: object, render: Render) -> None:
    """Print a result to stdout; `render` makes the text of it."""
    print(render(value) if form == "text" else encode(form, value, pretty=sys.stdout.isatty()), flush=True)


def encode(form: str, value: object, *, pretty: bool = False) -> str:
    """JSON (one line unless `pretty`) or YAML."""
    if form == "yaml":
        import yaml  # costs as much as the rest of a command

        return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, explicit_start=True)).rstrip("\n")
    return json.dumps(value, indent=2 if pretty else None)


def complain(form: str, failure: Failure, at: str = "") -> None:
    """Print an error to stderr. at: the instance that it is about, when there are several."""
    if form != "text":
        print(encode(form, {"error": failure.as_dict()}), file=sys.stderr, flush=True)
        return
    for line in failure.lines:
        print(clean(line), file=sys.stderr)
    print(f"proxyctl: {f'{clean(at)}: ' if at else ''}{_lines(failure.message)}", file=sys.stderr)
    if failure.hint:
        print(_lines(failure.hint), file=sys.stderr)
    sys.stderr.flush()


def _lines(text: str) -> str:
    return "\n".join(clean(line) if line else "" for line in text.split("\n"))


def table(header: Sequence[str], rows: Iterable[Sequence[object]], indent: str = "") -> list[str]:
    """Lines of left-aligned columns; figures are passed as text."""
    cells = [list(header)] + [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


def wrapped(start: str, text: str) -> list[str]:
    """Lines of WIDTH characters at most: the text behind its start, and further ones below it. A word stays whole."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def is_colourful() -> bool:
    """May the output have colours? On a terminal, unless NO_COLOR is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def red(text: str) -> str:
    """What somebody should look at."""
    return f"{_RED}{text}{_PLAIN}" if is_colourful() else text


def bold(text: str) -> str:
    """What the eye should find first."""
    return f"{_BOLD}{text}{_PLAIN}" if is_colourful() else text


def percent(value: float | None) -> str:
    """`25 %`, `24.71 %`. value: 0-100."""
    return "-" if value is None else f"{round(value, 2):g} %"


def share(ratio: float | None) -> str:
    """`1.2 %`. ratio: 0-1."""
    return "-" if ratio is None else percent(ratio * 100)


def seconds(value: float | None) -> str:
    """A latency: `0.25 ms`, `12.3 ms`, `1.50 s`."""
    if value is None:
        return "-"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.{2 if value < 1e-3 else 1}f} ms"


def age(value: float | None) -> str:
    """How long: `0.4 s`, `12 s`, `3m 20s`, `2h 5m`, `4d 3h`. value: seconds."""
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    whole = int(value)
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller_size}{smaller}"
    raise AssertionError("60 s and more are at least a minute")


def count(value: float | None) -> str:
    """`1,204`."""
    return "-" if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """`1,204/s`, `3.2/s`."""
    return "-" if value is None else f"{value:,.{0 if value >= 100 else 1}f}/s"


def size(value: float | None) -> str:
    """Bytes: `512 B`, `12.3 MiB`."""
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def position(dials: dict[str, Any]) -> str:
    """One side of a change: `live 25 %`, `dualwrite 0 % latched`."""
    latched = " latched" if dials.get("latched") else ""
    return f"{clean(dials.get('stage'))} {percent(dials.get('weight'))}{latched}"
