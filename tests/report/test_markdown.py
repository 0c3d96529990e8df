"""A report as Markdown: what others wrote in it stays text, in tables, headings and paragraphs."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from proxy.report.markdown import WIDEST, markdown, sparkline
from proxy.report.page import Block, Chart, Facts, Page, Pair, Plot, Section, Table, Text

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=y>",
    "![p](http://evil.example/p.png)",
    "[click](javascript:x)",
    "<http://evil.example>",
    "`code` **bold** _it_ ~~gone~~",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "2) item",
    "> quote",
    "---",
    "===",
    "a | b | c",
    "one\n\n# two",
    "&lt;b&gt; &amp;",
    "\\",
    "ends with \\",
    "$x$",
    "    indented",
    "\ttab",
]


def page(*blocks: Block) -> Page:
    return Page("A title", "pass", True, "it is so", [Section("A section", blocks)])


def rendered(text: str) -> str:
    return str(MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(text))


def plain(text: str) -> str:
    """What is to be seen of it in HTML."""
    shown = text.replace("\n", "\\n").replace("\t", "\\t").strip()
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_text(text: str) -> None:
    blocks = (Facts([(text, text)]), Table([text, "b"], [[text, "1"]]), Pair(text, text, [(text,) * 4]), Text(text))
    made = markdown(Page(text, text, False, text, [Section(text, blocks)]))
    html = rendered(made)
    for tag in ("<script", "<img", "<a ", "<code", "<em", "<s>", "<li", "<blockquote", "<hr", "<pre", "<del"):
        assert tag not in html, tag
    assert (html.count("<h1>"), html.count("<h2>"), html.count("<h3>"), html.count("<table>")) == (1, 1, 1, 3)
    assert html.count("<td") == 2 + 2 + 4, "no cell more"
    assert html.count(plain(text)) >= 9, "and it is told as it is"


def test_addresses_are_no_links() -> None:
    made = markdown(page(Text("see https://evil.example or www.evil.example")))
    assert "https://" not in made
    assert "www." not in made
    assert "see https://evil.example or www.evil.example" in rendered(made)


@pytest.mark.parametrize(
    "text", ["@channel", "ping @ann", "ann@evil.example", "see #12", "#12", "a/b#12 @here", "1. #1"]
)
def test_nobody_is_mentioned_and_nothing_referred_to(text: str) -> None:
    blocks = (Facts([(text, text)]), Pair(text, text, []), Text(text))
    html = rendered(markdown(Page(text, text, False, text, [Section(text, blocks)])))
    assert not re.search(r"[@#]\w", html)
    assert html.replace("\u200b", "").count(text) >= 7, "it is told as it is"


def test_control_characters_are_shown() -> None:
    made = markdown(page(Text("a\x1b[31m\x00\u202egnp.exe")))
    assert all(each.isprintable() for each in made.split("\n"))
    assert "\\\\x1b" in made


def test_every_kind_of_block_is_told() -> None:
    made = markdown(
        page(
            Facts([("a name", "a value")]),
            Table(("one", "two"), [("cell", "7")], figures=(1,)),
            Chart("a chart", ["12:00", "12:01", "12:02"], {"new": [0.0, None, 2.0]}, lambda value: f"{value:g} s"),
            Chart("an empty one", ["12:00"], {"new": [None]}, str),
            Chart("a rate", ["12:00", "12:01"], {"new": [2.0, 0.0], "old": [1.0, 1.0]}, str, overall={"new": 1.5}),
            Plot("a plot", "data:x"),
            Pair("an event", "lost by new", [("/field", "1", "2", "value")]),
            Pair("another", "lost by old", []),
            Text("a paragraph"),
        )
    )
    assert made.startswith("# A title\n\n**pass**: it is so\n\n## A section\n")
    for part in (
        "| a name | a value |",
        "|---|--:|\n| cell | 7 |",
        "**a chart**",
        "|  | least | most | at the end | course |",
        "| new | 0 s | 2 s | 2 s | ▁·█ |",
        "|  | least | most | overall | course |",
        "| new | 0.0 | 2.0 | 1.5 | █▁ |",
        "| old | 1.0 | 1.0 | · | █",
        "12:00 to 12:02",
        "Nothing is known.",
        "**a plot**: see the page",
        "| /field | 1 | 2 | value |",
        "### another\n\nlost by old\n\na paragraph",
    ):
        assert part in made, part


@pytest.mark.parametrize(
    ("values", "top", "shown"),
    [
        ([], None, ""),
        ([None, None], None, "··"),
        ([0.0, 0.0], None, "▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], None, "▁▂▃▄▅▆▇█"),
        ([50.0, 100.0], 100.0, "▅█"),
        ([200.0, -1.0], 100.0, "█▁"),
    ],
)
def test_sparklines(values: list[float | None], top: float | None, shown: str) -> None:
    assert sparkline(values, top) == shown


def test_a_long_sparkline_keeps_its_peaks() -> None:
    values: list[float | None] = [0.0] * 1000
    values[500] = 9.0
    shown = sparkline(values)
    assert len(shown) <= WIDEST
    assert shown.count("█") == 1
