"""Plain lines stay plain; the live view puts its figures below whatever was said."""

from __future__ import annotations

import io

from proxy.demo.view import LiveView, View


def screen(written: str) -> list[str]:
    """What a terminal shows after these bytes: it knows newline, cursor up, and the two ways of erasing."""
    lines, row = [""], 0
    for part in written.replace("\x1b[2K", "").split("\x1b["):
        text = part
        if part[:1].isdecimal() and "A" in part:
            up, text = part.split("A", 1)
            row -= int(up)
        elif part.startswith("J"):
            text = part[1:]
            del lines[row:]
            lines.append("")
        for character in text:
            if character == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            else:
                lines[row] += character
    return [line for line in lines if line]


def test_plain_lines_carry_the_time_and_no_figures() -> None:
    out = io.StringIO()
    view = View(out)
    view.show(["figures"])
    view.say("something happened")
    view.end("the end")
    first, last = out.getvalue().splitlines()
    assert first.endswith(" s  something happened")
    assert last == "the end"


def test_live_figures_stay_below_the_lines() -> None:
    out = io.StringIO()
    view = LiveView(out, 80)
    view.show(["one", "two"])
    view.say("said")
    view.show(["three", "four"])
    shown = screen(out.getvalue())
    assert shown[0].endswith("said")
    assert shown[1:] == ["three", "four"]


def test_live_figures_go_at_the_end_and_fit_the_width() -> None:
    out = io.StringIO()
    view = LiveView(out, 6)
    view.show(["0123456789"])
    assert screen(out.getvalue()) == ["01234"]
    view.end("done")
    assert screen(out.getvalue()) == ["done"]
