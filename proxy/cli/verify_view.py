"""What a check found, as text."""

from __future__ import annotations

from typing import Any

from proxy.cli.output import bold, clean, count, red, table

Json = dict[str, Any]
MISMATCHES = ("lost", "unrecorded", "different", "duplicate")
"""As `consistency.classes` has them; a test holds the two together."""


def render_verify(answer: Json) -> str:
    """The verdict first, then what it rests on, then names."""
    lines = [_verdict(answer)]
    lines.append(f"span        {clean(answer['from'])} to {clean(answer['to'])}, {clean(answer['record'])}")
    if "judged_until" in answer:
        lines.append(f"judged      until {clean(answer['judged_until'])}")
    if left_out := answer.get("left_out_s"):
        lines.append(f"left out    what is younger than {left_out:g} s: a store may not show it yet")
    windows = answer["windows"]
    lines.append(
        f"windows     {', '.join(f'{count(number)} {name}' for name, number in windows.items() if number) or '0'}"
    )
    if answer["depth"] == "sums":
        lines.append("depth       sums of both stores, and rows where these differ; --full reads every row")
    lines += [
        f"{_marked(name)}{' ' * (12 - len(name))}{count(number)}"
        for name, number in answer["classes"].items()
        if number
    ]
    if answer["enriched_fields"]:
        lines.append(f"enriched    {count(answer['enriched_fields'])} fields stand in new alone, and are not compared")
    lines += _fields(answer["fields"])
    lines += [
        f"inconclusive from {clean(each['from'])}, {count(each['windows'])} windows: {clean(each['reason'])}"
        for each in answer["inconclusive"]
    ]
    lines += [f"json_fields that no row has: {clean(each)}" for each in answer["unseen_json_fields"]]
    if answer["timeless_events"]:
        lines.append(
            f"{count(answer['timeless_events'])} events have no time of their own to be believed: their arrival's"
        )
    if answer["result"] == "nodata":
        lines.append("nothing is there in that span: is `time_unit` that of the stores?")
    lines += [f"rule that matched nothing: {clean(each)}" for each in answer["unused_rules"]]
    if answer["findings"]:
        lines += ["", *table(["time", "class", "by", "identity", "what"], map(_finding, answer["findings"]))]
    if answer["findings_untold"]:
        lines.append(f"and {count(answer['findings_untold'])} more: --top N")
    return "\n".join(lines + _repair(answer.get("repair")))


def render_diff(answer: Json) -> str:
    """Each event, with old's value and new's of each field that differs."""
    lines = [_verdict(answer)]
    lines += [f"inconclusive from {clean(each['from'])}: {clean(each['reason'])}" for each in answer["inconclusive"]]
    for finding in answer["findings"]:
        by = f" by {clean(' '.join(finding['by']))}" if finding["by"] else ""
        name = bold(clean(finding["identity"]))
        lines += ["", f"{name}  {clean(finding['time'])}  {_marked(clean(finding['class']))}{by}"]
        rows = [
            [each["path"], _value(each["old"]), _value(each["new"]), each["reason"]] for each in finding["differences"]
        ]
        lines += table(["field", "old", "new", ""], rows, "  ") if rows else []
    if not answer["findings"]:
        lines.append("nothing of the kind was found")
    if answer["findings_untold"]:
        lines += ["", f"and {count(answer['findings_untold'])} more: --top N"]
    return "\n".join(lines)


def render_suggest(answer: Json) -> str:
    """Rules as lines to copy, with what speaks for each."""
    lines = [_verdict(answer)]
    lines += [f"inconclusive from {clean(each['from'])}: {clean(each['reason'])}" for each in answer["inconclusive"]]
    if not answer["suggestions"]:
        return "\n".join([*lines, "nothing that differs looks like noise"])
    lines += ["", "rules:   # none of them is applied: keep those that you know to be right"]
    for each in answer["suggestions"]:
        lines.append(f"  {clean(each['yaml'])}")
        lines.append(f"      # {count(each['differ'])} of {count(each['settled'])} events: {clean(each['why'])}")
    return "\n".join(lines)


def _verdict(answer: Json) -> str:
    rate = answer["mismatch_rate"]
    shown = "-" if rate is None else f"{rate * 100:.4g} %"
    routes = f"route{'s' if len(answer['routes']) > 1 else ''} {clean(', '.join(answer['routes']))}"
    text = (
        f"{answer['result']}: {count(answer['mismatches'])} mismatches of {count(answer['settled'])} settled events "
        f"({shown}) of {routes}"
    )
    return red(text) if answer["result"] in ("fail", "inconclusive") else bold(text)


def _marked(name: str) -> str:
    return red(name) if name in MISMATCHES else name


def _fields(fields: Json) -> list[str]:
    return [
        f"{name:<12}{', '.join(f'{clean(path)} {count(number)}' for path, number in found.items())}"
        for name, found in (("differ", fields["different"]), ("let pass", fields["tolerated"]))
        if found
    ]


def _finding(finding: Json) -> list[object]:
    what = "; ".join(
        f"{each['path']}: {each['reason']}, {_value(each['old'])} / {_value(each['new'])}"
        for each in finding["differences"][:3]
    )
    more = len(finding["differences"]) - 3
    return [
        finding["time"],
        finding["class"],
        " ".join(finding["by"]),
        finding["identity"],
        what + (f"; {more} more" if more > 0 else ""),
    ]


def _value(value: object) -> str:
    text = "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _repair(repair: Json | None) -> list[str]:
    if repair is None:
        return []
    written = ", ".join(f"{count(number)} to {side}" for side, number in repair["written"].items())
    done = "would be written" if repair["dry_run"] else "written; what is told above is as it is now"
    if repair["broke_off"]:
        done = red(f"written, then it broke off: {clean(repair['broke_off'])}")
    lines = ["", f"repair      rows {written}: {done}"]
    if repair["not_looked_at"]:
        lines.append(
            f"repair      {count(repair['not_looked_at'])} more were not looked at: there are too many at once"
        )
    if repair["in_no_store"]:
        lines.append(f"repair      {count(repair['in_no_store'])} are in no store: proxyctl ledger replay")
    return lines
