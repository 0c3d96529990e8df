"""What a check found, as a page: the answer of the checker that `verify` prints as text."""

from __future__ import annotations

import json
from typing import Any, Final

from proxy.core.checked import MISMATCHES
from proxy.report import plots
from proxy.report.page import Block, Facts, Page, Pair, Section, Table, Text

Json = dict[str, Any]
MOST_FIELDS: Final = 20
"""Fields that are drawn."""


def page_of(answer: Json) -> Page:
    """Of an answer of `verify` or `diff`, in the form that `-o json` shows."""
    sections = [
        Section("What was compared", [_facts(answer)]),
        Section("Classes", [_classes(answer)]),
        Section("Over time", _over_time(answer["timeline"])),
        Section("Lateness", _lateness(answer["timeline"])),
        Section("Fields", _fields(answer)),
        Section("Events", _findings(answer)),
    ]
    if left_out := _left_out(answer):
        sections.insert(1, Section("What is not known", left_out))
    if "repair" in answer:
        sections.append(Section("Repair", [_repair(answer["repair"])]))
    routes = f"route{'s' if len(answer['routes']) > 1 else ''} {', '.join(answer['routes'])}"
    rate = _share(answer["mismatch_rate"])
    said = f"{answer['mismatches']:,} mismatches of {answer['settled']:,} settled events ({rate})"
    return Page(f"What both stores hold of {routes}", answer["result"], answer["result"] == "pass", said, sections)


def _facts(answer: Json) -> Facts:
    windows = ", ".join(f"{number:,} {name}" for name, number in answer["windows"].items() if number)
    rows = [
        ("from", answer["from"]),
        ("to", answer["to"]),
        ("record", answer["record"]),
        ("windows", windows or "none"),
        ("looked at", "every row" if answer["depth"] == "rows" else "sums of both stores, and rows where they differ"),
        ("took", f"{answer['duration_s']:g} s"),
    ]
    if left_out := answer.get("left_out_s"):
        rows.append(("left out", f"what was younger than {left_out:g} s: a store may not have shown it yet"))
    if "judged_until" in answer:
        rows.append(("judged until", answer["judged_until"]))
    return Facts(rows)


def _classes(answer: Json) -> Table:
    total = sum(answer["classes"].values())
    return Table(
        ("class", "events", "share", ""),
        [
            (name, f"{number:,}", _share(number / total if total else None), "mismatch" if name in MISMATCHES else "")
            for name, number in answer["classes"].items()
        ],
        figures=(1, 2),
    )


def _over_time(timeline: list[Json]) -> list[Block]:
    names = sorted({name for each in timeline for name in each["classes"]} & MISMATCHES)
    if not names:
        return [Text("No window has a mismatch.")]
    series = {name: [each["classes"].get(name, 0) for each in timeline] for name in names}
    return [plots.over_time("Mismatches by class and the time of the events", _times(timeline), series)]


def _lateness(timeline: list[Json]) -> list[Block]:
    late = [each["classes"].get("late", 0) for each in timeline]
    if not any(late):
        return [Text("Whatever was there in the end was there when it was first looked for.")]
    return [
        plots.over_time("Events that were not there yet when first looked for", _times(timeline), {"late": late}),
        plots.seconds_over_time(
            "Seconds until the last of them was there",
            _times(timeline),
            {"seconds": [each["latest_s"] for each in timeline]},
        ),
    ]


def _fields(answer: Json) -> list[Block]:
    blocks: list[Block] = []
    settled = answer["settled"]
    for title, found in (
        ("Share of settled events that differ, by field", answer["fields"]["different"]),
        ("Share of settled events that differ and are let pass by a rule, by field", answer["fields"]["tolerated"]),
    ):
        if found and settled:
            shown = dict(list(found.items())[:MOST_FIELDS])
            blocks.append(plots.shares(title, {path: number / settled for path, number in shown.items()}))
            blocks.append(Table(("field", "events"), [(path, f"{number:,}") for path, number in found.items()], (1,)))
    if answer["enriched_fields"]:
        blocks.append(Text(f"{answer['enriched_fields']:,} fields stand in new alone and were not compared."))
    return blocks or [Text("No field differs.")]


def _findings(answer: Json) -> list[Block]:
    blocks: list[Block] = [pair(each) for each in answer["findings"]]
    if answer["findings_untold"]:
        blocks.append(Text(f"And {answer['findings_untold']:,} more, which are not listed."))
    return blocks or [Text("There is none to be named.")]


def pair(finding: Json) -> Pair:
    """An event of which both stores say something else."""
    by = f" by {' and '.join(finding['by'])}" if finding["by"] else ""
    ids = f"; id {', '.join(finding['ids'])}" if finding["ids"] else ""
    rows = [(each["path"], _value(each["old"]), _value(each["new"]), each["reason"]) for each in finding["differences"]]
    return Pair(finding["identity"], f"{finding['class']}{by}; {finding['time']}{ids}", rows)


def _left_out(answer: Json) -> list[Block]:
    blocks: list[Block] = []
    if answer["inconclusive"]:
        rows = [(each["from"], f"{each['windows']:,}", each["reason"]) for each in answer["inconclusive"]]
        blocks.append(Table(("from", "windows", "why nothing can be said"), rows, figures=(1,)))
    blocks += [Text(f"A rule that matched nothing: {each}") for each in answer["unused_rules"]]
    blocks += [Text(f"A field of documents that no row has: {each}") for each in answer["unseen_json_fields"]]
    if answer["timeless_events"]:
        blocks.append(Text(f"{answer['timeless_events']:,} events have no time of their own to be believed."))
    return blocks


def _repair(repair: Json) -> Facts:
    what = "would be written to" if repair["dry_run"] else "written to"
    rows = [(f"{what} {side}", f"{number:,} rows") for side, number in repair["written"].items()]
    if repair["in_no_store"]:
        rows.append(("in no store", f"{repair['in_no_store']:,} events: proxyctl ledger replay"))
    if repair["not_looked_at"]:
        rows.append(("not looked at", f"{repair['not_looked_at']:,} more events"))
    if repair["broke_off"]:
        rows.append(("broke off", repair["broke_off"]))
    return Facts(rows)


def _times(timeline: list[Json]) -> list[str]:
    """`01-31 12:00`."""
    return [f"{each['from'][5:10]} {each['from'][11:16]}" for each in timeline]


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio * 100:.4g} %"


def _value(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
