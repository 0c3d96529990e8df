"""What a load test shows: a line each second, and the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from proxy.cli.output import age, clean, count, rate, red, seconds, share

if TYPE_CHECKING:
    from proxy.load.run import Second


class Live:
    """A line each second: over the last one on a terminal, else below it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._is_open = False

    def show(self, second: Second) -> None:
        """Show what happened in the last second."""
        waiting = f"  {count(second.waiting)} wait" if second.waiting else ""
        line = (
            f"{age(second.at):>7}  {rate(second.rate):>9}  errors {count(second.errors)}"
            f"  p50 {seconds(second.p50)}  p99 {seconds(second.p99)}{waiting}"
        )
        print(f"\r{line}\x1b[K" if self._is_terminal else line, end="" if self._is_terminal else "\n", file=self._out)
        self._out.flush()
        self._is_open = self._is_terminal

    def end(self) -> None:
        """What comes next starts on a line of its own."""
        if self._is_open:
            print(file=self._out, flush=True)


def render(found: dict[str, Any]) -> str:
    """The summary as text."""
    wanted = found["rate"]["wanted"]
    of = "" if wanted is None else f" of {rate(wanted)} wanted"
    cut = ", interrupted" if found["interrupted"] else ""
    pace = f"{rate(found['rate']['achieved'])}{of}"
    forced = "" if found["side"] is None else f", all forced to {found['side']}"
    connections = "sessions" if found["transport"] == "websocket" else "connections"
    lines = [
        f"target     {clean(found['target'])}, {found['connections']} {connections}{forced}",
        f"sent       {count(found['sent'])} events in {age(found['duration_s'])}{cut}: {pace}",
        f"accepted   {count(found['accepted'])}{_by_status(found, '2')}",
        f"refused    {count(found['refused'])}{_by_status(found, '34')}",
        f"failed     {count(found['failed'])}{_by_status(found, '5', **found['failures'])}",
    ]
    if found["unanswered"]:
        lines.append(f"unanswered {count(found['unanswered'])}, on their way when it ended")
    quantiles = "  ".join(f"{name} {seconds(value)}" for name, value in found["latency_s"].items())
    lines.append(f"latency    {quantiles}")
    generator = found["generator"]
    late = "" if wanted is None else f"at most {seconds(generator['late_max_s'])} late, "
    lines.append(f"generator  {late}{share(generator['cpu_share'])} of a core")
    lines += [f"stored     {clean(name)}: {_stored(held)}" for name, held in found["stored"].items()]
    lines += [f"note       {note}" for note in found["notes"]]
    lines += [red(f"MISSED     {missed_text(each)}") for each in found["missed"]]
    lines += [red(f"STORED     {problem}") for problem in found["store_problems"]]
    if found["rate"]["problem"]:
        lines.append(red(f"RATE       {found['rate']['problem']}"))
    return "\n".join(lines)


def _by_status(found: dict[str, Any], classes: str, **more: int) -> str:
    """`: 503 x4, timeout x2`; empty when there is nothing to tell apart."""
    kinds = {status: n for status, n in found["statuses"].items() if status[0] in classes} | more
    return f": {', '.join(f'{kind} x{count(n)}' for kind, n in kinds.items())}" if kinds else ""


def _stored(held: dict[str, Any]) -> str:
    if "error" in held:
        return f"cannot be asked: {clean(held['error'])}"
    return f"{count(held['events'])} events (+{held['duplicates']} duplicates)"


def missed_text(missed: dict[str, Any]) -> str:
    """`p95 is 120.3 ms, at most 100.0 ms was wanted`."""
    form = share if missed["name"] == "errors" else seconds
    is_shown = missed["name"] == "errors" or missed["value"]
    value = form(missed["value"]) if is_shown else "unknown, for nothing was answered"
    return f"{missed['name']} is {value}, at most {form(missed['limit'])} was wanted"
