"""What `report` gathered, as a page: what happened to a route in some time, and what it was like meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from proxy.cli.evidence import detected, facts
from proxy.cli.output import age, count, percent, position, rate, seconds, share, size, words
from proxy.report.check import pair
from proxy.report.page import Block, Chart, Facts, Page, Section, Table, Text

Json = dict[str, Any]
Values = dict[str, float | None]
SIDES: Final = ("old", "new")
MOST_TIMES: Final = 1000
"""Of a chart."""


def page_of(gathered: Json) -> Page:
    """Of what `proxyctl report -o json` shows."""
    reverts = _reverts(gathered["entries"])
    sections = [
        Section("What happened", [Text(_account(gathered, reverts))]),
        Section("Timeline", _timeline(gathered)),
        *(Section(f"Revert at {entry.get('at')}", [_evidence(entry, gathered["entries"])]) for entry in reverts),
        Section("Figures", _figures(gathered)),
        Section("Latest differences", _differences(gathered)),
        Section("Now", _now(gathered)),
    ]
    verdict, said = _headline(gathered, reverts)
    title = f"Route {gathered['route']}, {gathered['since']} to {gathered['until']}"
    return Page(title, verdict, verdict == "no revert", said, sections)


# --- what happened -----------------------------------------------------------------------------------------


def in_effect(entries: list[Json]) -> list[Json]:
    """Without those that a `not-applied` took back. entries: oldest first; changes go one at a time."""
    kept: list[Json] = []
    for entry in entries:
        undone = (entry.get("evidence") or {}).get("action") if entry.get("action") == "not-applied" else None
        found = (
            number
            for number in reversed(range(len(kept)))
            if kept[number].get("action") == undone
            and kept[number].get("route") == entry.get("route")
            and kept[number].get("previous_epoch") == entry.get("epoch")
        )
        if undone is not None and (last := next(found, None)) is not None:
            del kept[last]
        else:
            kept.append(entry)
    return kept


def _reverts(entries: list[Json]) -> list[Json]:
    """Those that took effect, drills among them."""
    return [entry for entry in in_effect(entries) if entry.get("action") == "revert"]


def _is_drill(entry: Json) -> bool:
    return bool((entry.get("evidence") or {}).get("drill"))


def _headline(gathered: Json, reverts: list[Json]) -> tuple[str, str]:
    """The verdict, and what it says in half a sentence; what a drill reverted is none of it."""
    drilled = sum(map(_is_drill, reverts))
    verdict, said = _verdict_on(gathered, [entry for entry in reverts if not _is_drill(entry)])
    return verdict, f"{said}; reverts by drills: {drilled}" if drilled else said


def _verdict_on(gathered: Json, reverts: list[Json]) -> tuple[str, str]:
    if not reverts and gathered["entries_cut"]:
        return "not known", f"nothing was reverted since {gathered['entries_since']}; what was before is not known"
    if not reverts:
        return "no revert", "nothing was reverted"
    by = Counter(_by(entry) for entry in reverts)
    said = f"reverted {'at least ' if gathered['entries_cut'] else ''}{_times(len(reverts))}"
    if len(by) == 1:
        return "reverted", f"{said} {next(iter(by))}"
    return "reverted", f"{said}: {', '.join(f'{_times(number)} {who}' for who, number in by.items())}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _by(entry: Json) -> str:
    """Who reverted: the proxy itself, or what told it to."""
    evidence = entry.get("evidence") or {}
    trigger, actor = evidence.get("trigger"), words(entry.get("actor"))
    if _is_drill(entry):
        return f"in a drill of {words(evidence['drill'].get('actor'))}"
    if trigger in ("alert", "webhook"):
        return f"by {'an alert' if trigger == 'alert' else 'a webhook'} ({actor})"
    if entry.get("actor") != "crossfade":
        return f"by {actor}"
    return "by a gate of the rollout" if trigger == "gate" else "by the proxy itself"


def _account(gathered: Json, reverts: list[Json]) -> str:
    """One paragraph."""
    entries, route = gathered["entries"], gathered["route"]
    began = gathered["instance"].get("started_at")
    said = []
    if began and gathered["since"] <= utc(began) <= gathered["until"]:
        said.append(f"The instance was started at {began}.")
    moves = [each for each in in_effect(entries) if _moves_weight(each) and each.get("action") != "revert"]
    if moves:
        said.append(
            f"The weight of {route} was turned {_times(len(moves))}, "
            f"from {_weight(moves[0].get('before'))} to {_weight(moves[-1].get('after'))}."
        )
    said += [_told(entry, entries) for entry in reverts]
    if all(map(_is_drill, reverts)) and not gathered["entries_cut"]:
        said.append("Nothing else was reverted." if reverts else "Nothing was reverted.")
    if gathered["entries_cut"]:
        said.append(f"What happened before {gathered['entries_since']} is not known: the audit trail is longer.")
    state = gathered["state"]
    if state.get("latched"):
        said.append(f"The route is latched at weight 0 ({state.get('latch_reason') or 'no reason is recorded'}).")
    said.append(f"It is at {position(_dials(state))} now, and the verdict on new is {words(_verdict(state))}.")
    return " ".join(said)


def _told(entry: Json, entries: list[Json]) -> str:
    """One revert."""
    text = (
        f"At {entry.get('at')} the weight was moved from {_weight(entry.get('before'))} to "
        f"{_weight(entry.get('after'))} {_by(entry)} (epoch {entry.get('previous_epoch')} to {entry.get('epoch')}): "
        f"{entry.get('reason') or 'no reason is recorded'}."
    )
    detect, recover = _took(entry, entries)
    if detect is not None:
        text += f" It was detected after {detected(entry, detect)}."
    if recover is not None:
        text += f" Every worker had applied it {_lasted(recover)} after the decision."
    return text


def _took(entry: Json, entries: list[Json]) -> tuple[float | None, float | None]:
    """Seconds to detect and to recover, as far as they are recorded."""
    applied = next(
        (
            each
            for each in entries
            if each.get("action") == "revert-applied" and each.get("epoch") == entry.get("epoch")
        ),
        {},
    )
    found = (
        (entry.get("evidence") or {}).get("seconds_to_detect"),
        (applied.get("evidence") or {}).get("seconds_to_recover"),
    )
    detect, recover = (float(each) if isinstance(each, int | float) else None for each in found)
    return detect, recover


def _lasted(value: float) -> str:
    return seconds(value) if value < 60 else age(value)


def _moves_weight(entry: Json) -> bool:
    before, after = entry.get("before") or {}, entry.get("after") or {}
    return "weight" in before and "weight" in after and before["weight"] != after["weight"]


def _weight(dials: Json | None) -> str:
    weight = (dials or {}).get("weight")
    return percent(weight) if isinstance(weight, int | float) else words(weight)


def _dials(state: Json) -> Json:
    return {"stage": state.get("stage"), "weight": state.get("weight_target"), "latched": state.get("latched")}


def _verdict(state: Json) -> str | None:
    return (state.get("verdict") or {}).get("name")


def _timeline(gathered: Json) -> list[Block]:
    entries = gathered["entries"]
    blocks: list[Block] = []
    if gathered["entries_cut"]:
        blocks.append(Text("There are older entries of this time, which are not shown: proxyctl history."))
    if not entries:
        when = f"since {gathered['entries_since']}" if gathered["entries_cut"] else "in this time"
        return [*blocks, Text(f"Nobody changed anything {when}.")]
    rows = [
        (
            words(each.get("at")),
            words(each.get("actor")),
            words(each.get("action")),
            _change(each),
            words(each.get("epoch")),
            words(each.get("reason") or None),
        )
        for each in entries
    ]
    return [*blocks, Table(("at", "who", "did", "before → after", "epoch", "why"), rows, figures=(4,))]


def _change(entry: Json) -> str:
    before, after = entry.get("before"), entry.get("after")
    if not before and not after:
        return "-"
    return f"{_position(before)} → {_position(after)}"


def _position(value: Any) -> str:
    return position(value) if isinstance(value, dict) and "weight" in value else words(value or None)


def _evidence(entry: Json, entries: list[Json]) -> Facts:
    """What the trigger went by."""
    detect, recover = _took(entry, entries)
    rows = [("reason", words(entry.get("reason") or None)), ("change", _change(entry))]
    rows.append(("detected after", "not recorded" if detect is None else detected(entry, detect)))
    rows.append(("applied after", "not recorded" if recover is None else f"{_lasted(recover)}, by every worker"))
    return Facts([*rows, *facts(entry.get("evidence") or {})])


# --- figures -----------------------------------------------------------------------------------------------


def _figures(gathered: Json) -> list[Block]:
    figures = gathered["figures"]
    if figures is None:
        return [Text(f"The figures of this time are not known: {gathered['figures_error']}")]
    points, total = figures.get("points") or [], figures.get("total")
    if not points or not total:
        began = figures.get("began")
        since = f"they are kept since {began}" if began else "none was kept yet"
        return [Text(f"There are no figures of this time: {since}, and only while the instance runs.")]
    slots = _slots(figures, points)
    return [*_missing(gathered, figures, total), *_drilled(gathered), *_totals(total), *_charts(slots, total)]


def _drilled(gathered: Json) -> list[Block]:
    """That some of it was no failure of new."""
    drills = sum(entry.get("action") == "drill" for entry in gathered["entries"])
    text = f"These figures contain what drills failed, of which {drills} began in this time."
    return [Text(text)] if drills or any(map(_is_drill, _reverts(gathered["entries"]))) else []


def _missing(gathered: Json, figures: Json, total: Json) -> list[Block]:
    """How much of the time nobody counted."""
    asked = (_moment(gathered["until"]) - _moment(gathered["since"])).total_seconds()
    lacking = asked - total["seconds"]
    if lacking <= 2 * figures["step_s"]:
        return []
    began = figures.get("began")
    why = "in which the instance did not run"
    if began and utc(began) > gathered["since"]:
        why = f"for they are kept since {began}, and only while the instance runs"
    return [Text(f"Of {age(asked)} there are figures of {age(total['seconds'])}, {why}. Gaps are left open below.")]


def _slots(figures: Json, points: list[Json]) -> list[tuple[str, Json | None]]:
    """A point, or None, for each step from the first to the last."""
    by_time = {_moment(point["at"]): point for point in points}
    step, at, end = timedelta(seconds=max(1, figures["step_s"])), min(by_time), max(by_time)
    slots: list[tuple[str, Json | None]] = []
    while at <= end and len(slots) < MOST_TIMES:
        slots.append((at.strftime("%m-%d %H:%M:%S"), by_time.get(at)))
        at += step
    return slots


def _totals(total: Json) -> list[Block]:
    names = ("side", "answers", "failed", "errors", "p50", "p95", "p99", "accepted bodies", "most pending", "oldest")
    rows = []
    for side in SIDES:
        each = total["sides"][side]
        rows.append(
            (
                side,
                count(each["answers"]),
                count(each["failed"]),
                share(each["error_rate"]),
                *(seconds(each[name]) for name in ("p50", "p95", "p99")),
                size(each["body_bytes"]),
                count(each["pending"]),
                age(each["oldest_age_s"]) if each["oldest_age_s"] else "-",
            )
        )
    events = f"{count(total['accepted'])} events were accepted, {rate(total['rate'])}"
    found = total["mismatches"]
    if found is None:
        checked = "No live checker looked at what both sides stored."
    elif found:
        checked = f"The live checker found mismatches: {words(found)}."
    else:
        checked = "The live checker found no mismatch."
    return [Text(f"{events}. {checked}"), Table(names, rows, figures=tuple(range(1, len(names))))]


def _charts(slots: list[tuple[str, Json | None]], total: Json) -> list[Block]:
    """Lines of the points, and what they come to in the whole time: a last point may be of a second."""
    times = [time for time, _ in slots]
    points = [point for _, point in slots]

    def chart(title: str, values: Callable[[Json], Values], written: Callable[[float], str], **more: Any) -> Chart:
        overall = values(total)
        lines = [values(point) if point is not None else {} for point in points]
        series = {name: [line.get(name) for line in lines] for name in overall}
        return Chart(title, times, series, written, **{"overall": overall} | more)

    at_the_end: Json = {"overall": None}
    blocks: list[Block] = [
        chart("Events a second", lambda point: {"accepted": point["rate"]}, rate),
        chart("Answers that were failures, %", lambda point: _of_sides(point, "error_rate", scale=100.0), percent),
        chart("Latency, seconds", lambda point: _of_sides(point, "p50", "p95", "p99"), seconds),
        chart("Weight, %", _weights, percent, top=100.0, **at_the_end),
        chart("Events that the ledger owes", lambda point: _of_sides(point, "pending"), count, **at_the_end),
    ]
    kinds = sorted({kind for point in points if point is not None for kind in point["mismatches"] or {}})
    if kinds:
        blocks.append(chart("Mismatches", lambda point: _mismatches(point, kinds), count))
    return blocks


def _of_sides(point: Json, *names: str, scale: float = 1.0) -> Values:
    """Values of both sides, by the side's name, and the value's where there are several."""
    return {
        side if len(names) == 1 else f"{side} {name}": None if value is None else scale * value
        for side in SIDES
        for name in names
        for value in [point["sides"][side][name]]
    }


def _weights(point: Json) -> Values:
    return {"target": point["weight_target"], "observed": point["weight_observed"]}


def _mismatches(point: Json, kinds: list[str]) -> Values:
    found = point["mismatches"]
    return {kind: None if found is None else found.get(kind, 0) for kind in kinds}


# --- what differs, and how it is now -----------------------------------------------------------------------


def _differences(gathered: Json) -> list[Block]:
    answer = gathered["differences"]
    if answer is None:
        return [Text(gathered["differences_error"])]
    blocks: list[Block] = [pair(each) for each in answer["findings"]]
    blocks += [Text(_not_compared(each)) for each in answer["inconclusive"]]
    if answer["findings_untold"]:
        blocks.append(Text(f"And {answer['findings_untold']:,} more: proxyctl diff --live."))
    return blocks if answer["findings"] else [Text("The live checker named none in this time."), *blocks]


def _not_compared(each: Json) -> str:
    """Of which time the differences are not known, and why."""
    windows = "one window" if each["windows"] == 1 else f"{count(each['windows'])} windows, the first"
    lacking = f"the live checker could not compare {windows} from {each['from']}"
    return f"Differences may be missing: {lacking}: {each['reason']}"


def _balance(is_balanced: bool | None) -> str:
    if is_balanced is None:
        return "not known: it has not told of itself"
    return "balanced" if is_balanced else "NOT BALANCED: keep its files and report this"


def _now(gathered: Json) -> list[Block]:
    instance, state, ledger = gathered["instance"], gathered["state"], gathered["ledger"]
    observed = state.get("weight_observed")
    facts = [
        ("looked at", gathered["made_at"]),
        ("version", words(instance.get("version"))),
        ("running since", words(instance.get("started_at"))),
        ("ready", words(instance.get("ready"))),
        ("epoch", words(instance.get("epoch"))),
        ("position", position(_dials(state))),
        ("observed weight", percent(observed) if isinstance(observed, int | float) else "-"),
        ("copy", words(state.get("copy"))),
        ("verdict on new", words(_verdict(state))),
        ("ledger", _balance(ledger.get("balanced"))),
    ]
    if state.get("old_incomplete_since"):
        facts.append(("old is incomplete since", words(state["old_incomplete_since"])))
    facts += [("warning", words(warning)) for warning in instance.get("warnings") or []]
    sides = state.get("sides") or {}
    counts = ("owed", "pending", "deferred", "delivered", "refused", "dead", "discarded", "lost", "released")
    rows = [
        (
            side,
            words(sides[side].get("backend")),
            words(sides[side].get("breaker")),
            *(count((sides[side].get("ledger") or {}).get(name)) for name in counts),
        )
        for side in SIDES
        if side in sides
    ]
    return [Facts(facts), Table(("side", "backend", "breaker", *counts), rows, figures=tuple(range(3, 12)))]


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def utc(text: str) -> str:
    """A moment in the form of the others, so that they can be compared; what is none as it is."""
    try:
        return iso(_moment(text))
    except ValueError:
        return text


def iso(at: datetime) -> str:
    """`2026-01-31T12:00:00.123Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
