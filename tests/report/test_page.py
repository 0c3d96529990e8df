"""A report is one file that loads nothing, and nothing that stands in it can do anything."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from proxy.report import plots
from proxy.report.page import Chart, Facts, Page, Pair, Plot, Section, Table, Text, html

EVIL = '<script>alert("x")</script>&amp; </td>"\' onload=x'


class Read(HTMLParser):
    """Tags with what they link to, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "what is opened last is closed first"

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def page(*blocks: Facts | Table | Plot | Chart | Pair | Text, is_good: bool = True) -> Page:
    return Page("A title", "pass", is_good, "it is so", [Section("A section", blocks)])


def svg(plot: Plot) -> ET.Element:
    return ET.fromstring(base64.b64decode(plot.uri.partition(",")[2]))


def texts(plot: Plot) -> list[str]:
    return [text for each in svg(plot).iter() if each.tag.endswith("text") and (text := "".join(each.itertext()))]


def test_every_kind_of_block_is_told() -> None:
    made = html(
        page(
            Facts([("a name", "a value")]),
            Table(("one", "two"), [("cell", "7")], figures=(1,)),
            plots.shares("a plot", {"/a": 0.5}),
            Pair("an event", "lost by new", [("/field", "1", "2", "value")]),
            Text("a paragraph"),
        )
    )
    said = " ".join(Read(made).said)
    for part in (
        "A title",
        "A section",
        "a name",
        "a value",
        "cell",
        "an event",
        "lost by new",
        "/field",
        "a paragraph",
    ):
        assert part in said
    assert '<td class="figure">7</td>' in made
    assert 'alt="a plot"' in made


def test_what_comes_from_clients_is_text() -> None:
    rows = [(EVIL,) * 4]
    made = html(
        Page(
            EVIL,
            EVIL,
            False,
            EVIL,
            [
                Section(
                    EVIL,
                    [
                        Facts([(EVIL, EVIL)]),
                        Table([EVIL], [[EVIL]]),
                        Pair(EVIL, EVIL, rows),
                        Text(EVIL),
                        plots.shares(EVIL, {EVIL: 1.0}),
                        plots.over_time(EVIL, [EVIL], {EVIL: [1]}),
                    ],
                )
            ],
        )
    )
    read = Read(made)
    assert read.open == []
    assert "script" not in {tag for tag, _ in read.tags}
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert "".join(read.said).count(EVIL) >= 10, "and is told as it is"


def test_it_loads_nothing() -> None:
    made = html(page(plots.over_time("plot", ["a"], {"x": [1]}), plots.shares("plot", {"x": 1.0})))
    links = [
        value for _, attributes in Read(made).tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert len(links) == 2
    assert all(value is not None and value.startswith("data:image/svg+xml") for value in links)
    assert "default-src 'none'" in made
    assert not re.search(r"@import|url\(", made)


def test_plots_say_what_they_are_given() -> None:
    made = plots.over_time("lost", ["12:00", "12:01"], {"lost": [3, 0], "different": [1, 2]})
    assert {"lost", "different"} <= set(texts(made))
    made = plots.seconds_over_time("late", ["12:00", "12:01"], {"seconds": [1.5, 0]})
    assert any("1.5 s" in each or "1 s" in each for each in texts(made))
    made = plots.shares("fields", {"/first": 0.25, "/second": 0.125})
    assert {"/first", "/second", "25 %", "12.5 %"} <= set(texts(made))


def test_many_times_are_not_all_named() -> None:
    times = [f"t{number}" for number in range(120)]
    said = texts(plots.over_time("lost", times, {"lost": [1] * 120}))
    assert 2 <= len(set(times) & set(said)) <= 10


def test_charts_are_drawn_with_gaps() -> None:
    chart = Chart("rate", ["a", "b", "c"], {"old": [1.0, None, 3.0], "new": [None] * 3}, lambda value: f"{value:g}/s")
    (block,) = plots.drawn(page(chart)).sections[0].blocks
    assert isinstance(block, Plot)
    assert block.title == "rate"
    assert {"old", "new"} <= set(texts(block))
    assert any(each.endswith("/s") for each in texts(block))
    assert "rate" in html(plots.drawn(page(chart)))


def test_a_scale_begins_at_nothing_and_ends_where_it_should() -> None:
    said = texts(
        plots.lines(Chart("weight", ["a", "b"], {"target": [40.0, 50.0]}, lambda value: f"{value:g} %", 100.0))
    )
    assert {"0 %", "100 %"} <= set(said)
    assert texts(plots.lines(Chart("none", ["a"], {"target": [0.0]}, str)))


def test_control_characters_are_shown_and_not_passed_on() -> None:
    made = html(page(Text("a\x1b[31m\x00\u202egnp.exe"), Facts([("", "é\n")])))
    assert "a\\x1b[31m\\x00\\u202egnp.exe" in made
    assert "é\\n" in made
