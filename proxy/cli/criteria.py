"""What has to hold before old can be let go, or after a rollback: each by what the instance says of itself.

All functions here take what the admin API and the checker answered, and ask nobody.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from proxy.cli.output import age, clean, count, percent, seconds, share

Json = dict[str, Any]

PERFORMANCE = "performance"
INTEGRITY = "integrity"
HEALTH = "health"
END_TO_END = "end-to-end"
MONITORING = "monitoring"
_UNKNOWN = "the ledger has not told of itself"
AREAS = (PERFORMANCE, INTEGRITY, HEALTH, END_TO_END, MONITORING)


class Limits(NamedTuple):
    """error_rate, slower, availability: 0-1; p99, slower_by, pending_age, scraped: seconds."""

    error_rate: float = 0.001
    p99: float = 0.5
    slower: float = 0.1
    slower_by: float = 0.01
    pending_age: float = 5.0
    scraped: float = 120.0
    availability: float = 0.999


class Criterion(NamedTuple):
    """holds: None when nothing was there to tell it by, which is as good as no; seen, wanted: as people read them."""

    area: str
    name: str
    holds: bool | None
    seen: str
    wanted: str


# --- new, before old is let go ------------------------------------------------------------------------------


def performance(route: Json, limits: Limits) -> list[Criterion]:
    """New's errors and latency, against limits and against old or its baseline."""
    verdict = route["verdict"]
    reasons = "".join(f": {clean(reason)}" for reason in verdict["reasons"][:1])
    return [
        Criterion(
            PERFORMANCE, "verdict on new", verdict["name"] == "pass", f"{clean(verdict['name'])}{reasons}", "pass"
        ),
        _errors("errors at new", verdict["failed"], verdict["samples"], limits),
        _p99("new", route, limits),
        _p95("new", route, limits),
    ]


def _errors(name: str, failed: int, samples: int, limits: Limits) -> Criterion:
    wanted = f"at most {share(limits.error_rate)}"
    if not samples:
        return Criterion(PERFORMANCE, name, None, "no answer since the weight was changed", wanted)
    seen = f"{share(failed / samples)} ({count(failed)} of {count(samples)} since the weight was changed)"
    return Criterion(PERFORMANCE, name, failed / samples <= limits.error_rate, seen, wanted)


def _p99(side: str, route: Json, limits: Limits) -> Criterion:
    found = route["sides"][side]["p99"]
    holds = None if found is None else found <= limits.p99
    seen = "no answer in the last ten seconds" if found is None else seconds(found)
    return Criterion(PERFORMANCE, f"p99 of {side}", holds, seen, f"at most {seconds(limits.p99)}")


def _p95(side: str, route: Json, limits: Limits) -> Criterion:
    """Against the baseline, or, where none was recorded, old's of the same seconds."""
    name, found, baseline = f"p95 of {side}", route["sides"][side]["p95"], route.get("baseline")
    against = baseline["p95"] if baseline else (route["sides"]["old"]["p95"] if side == "new" else None)
    if against is None:
        return Criterion(PERFORMANCE, name, None, "nothing to hold it against", "a baseline: proxyctl record-baseline")
    limit = against + max(against * limits.slower, limits.slower_by)
    what = "the baseline's" if baseline else "old's"
    wanted = f"at most {seconds(limit)}, by {what} {seconds(against)}"
    if found is None:
        return Criterion(PERFORMANCE, name, None, "no answer in the last ten seconds", wanted)
    return Criterion(PERFORMANCE, name, found <= limit, seconds(found), wanted)


def integrity(route: Json, status: Json, limits: Limits) -> list[Criterion]:
    """The record, and what the live checker has found."""
    return [
        *_record(status),
        *(criterion for side in ("old", "new") for criterion in _owed(side, route["sides"][side], limits)),
        *(_checked(check) for check in status["consistency"] if route["name"] in check["routes"]),
    ]


def _record(status: Json) -> list[Criterion]:
    ledger = status["ledger"]
    balanced = ledger["balanced"] if ledger["alive"] else False
    gaps = ledger["gaps"]
    has_none = None if gaps is None else gaps == 0
    return [
        Criterion(
            INTEGRITY,
            "ledger",
            balanced,
            _UNKNOWN if balanced is None else "balanced" if balanced else "not balanced, or not there",
            "every event accounted for",
        ),
        Criterion(INTEGRITY, "gaps in the record", has_none, count(gaps), "none"),
    ]


def _owed(name: str, side: Json, limits: Limits) -> list[Criterion]:
    """What is owed to a side is delivered, and nothing was given up."""
    ledger = side["ledger"]
    given_up_at, pending_at = f"given up at {name}", f"pending at {name}"
    none_given_up, none_old = "none dead or lost", f"none older than {age(limits.pending_age)}"
    if ledger is None:
        return [
            Criterion(INTEGRITY, given_up_at, None, _UNKNOWN, none_given_up),
            Criterion(INTEGRITY, pending_at, None, _UNKNOWN, none_old),
        ]
    given_up = {state: ledger[state] for state in ("dead", "lost") if ledger[state]}
    said = ", ".join(f"{count(number)} {state}" for state, number in given_up.items()) or "none"
    is_fresh = not ledger["pending"] or ledger["oldest_age_s"] <= limits.pending_age
    pending = f"{count(ledger['pending'])}, the oldest {age(ledger['oldest_age_s'])}" if ledger["pending"] else "none"
    return [
        Criterion(INTEGRITY, given_up_at, not given_up, said, none_given_up),
        Criterion(INTEGRITY, pending_at, is_fresh, pending, none_old),
    ]


def _checked(check: Json) -> Criterion:
    trial = check["since_change"]
    seen = f"{count(trial['mismatches'])} of {count(trial['settled'])} events since the weight was changed"
    if check["trouble"] or not trial["settled"]:
        said = clean(check["trouble"] or "nothing was judged since the weight was changed; a window takes its time")
        return Criterion(INTEGRITY, "live checker", None, said, "no mismatch")
    return Criterion(INTEGRITY, "live checker", check["alive"] and trial["mismatches"] == 0, seen, "no mismatch")


def verified(answer: Json | str) -> Criterion:
    """A full verify. answer: its report, or why there is none."""
    if isinstance(answer, str):
        return Criterion(INTEGRITY, "what both stores hold", None, clean(answer), "verify passes")
    seen = f"{clean(answer['result'])}: {count(answer['mismatches'])} mismatches of {count(answer['settled'])} events"
    return Criterion(INTEGRITY, "what both stores hold", answer["result"] == "pass", seen, "verify passes")


def complete(answer: Json | str) -> list[Criterion]:
    """What stands at one side alone, by right: from before copies were on, or in split. A full verify, or why not."""
    if isinstance(answer, str):
        return []
    number = answer["classes"].get("one-sided", 0)
    seen = f"{count(number)}; for those of old: proxyctl backfill --from old --to new --since T" if number else "none"
    return [Criterion(INTEGRITY, "events that one side alone was owed", not number, seen, "none")]


def at_the_end(route: Json) -> Criterion:
    """Old answers nothing any more."""
    weight, stage = route["weight_target"], clean(route["stage"])
    return Criterion(
        PERFORMANCE, "weight", weight == 100, f"{percent(weight)} ({stage})", "100 %: new answers everything"
    )


def health(route: Json, status: Json, sides: tuple[str, ...] = ("old", "new")) -> list[Criterion]:
    """The instance, its backends, and what these depend on."""
    found = [
        Criterion(
            HEALTH,
            "instance",
            status["ready"],
            "ready" if status["ready"] else clean("; ".join(status["not_ready"])),
            "ready, every worker at the epoch",
        ),
        *(_backend(side, route["sides"][side]) for side in sides),
        *(
            Criterion(
                HEALTH,
                f"{clean(each['name'])} behind {clean(each['backend'])}",
                each["healthy"],
                clean(each["detail"]),
                "well",
            )
            for each in status["dependencies"]
            if each["backend"] in {route["sides"][side]["backend"] for side in sides}
        ),
    ]
    if "new" in sides:
        latched = clean(route["latch_reason"]) if route["latched"] else "no"
        found.append(Criterion(HEALTH, "latched", not route["latched"], latched, "no"))
    return found


def _backend(side: str, figures: Json) -> Criterion:
    probed = {True: "healthy", False: "unhealthy", None: "no health probe"}[figures["healthy"]]
    holds = figures["breaker"] == "closed" and figures["healthy"] is not False
    seen = f"{probed}, breaker {clean(figures['breaker'])}"
    return Criterion(HEALTH, f"backend {clean(figures['backend'])} ({side})", holds, seen, "well, breaker closed")


def probed(answer: Json | str) -> Criterion:
    """A probe. answer: its report, or why there is none."""
    name, wanted = "a marked event into both stores", "shown in time, with the right content"
    if isinstance(answer, str):
        return Criterion(END_TO_END, name, None, clean(answer), wanted)
    wrong = [step for step in answer["steps"] if step["error"]]
    times = [
        f"{clean(step['name'])} {step['seconds']:.2f} s" for step in answer["steps"] if step["seconds"] is not None
    ]
    seen = f"{clean(wrong[0]['name'])}: {clean(wrong[0]['error'])}" if wrong else ", ".join(times)
    return Criterion(END_TO_END, name, answer["result"] == "pass", seen, wanted)


def monitoring(status: Json, limits: Limits) -> list[Criterion]:
    """Somebody watches, nothing warns, and clients could be served."""
    scraped, ratio, warnings = status["scraped_s"], status["availability"]["ratio"], status["warnings"]
    down, observed = status["availability"]["down_s"], status["availability"]["observed_s"]
    return [
        Criterion(
            MONITORING,
            "metrics are read",
            None if scraped is None else scraped <= limits.scraped,
            "by nobody yet: let a Prometheus scrape /metrics" if scraped is None else f"{age(scraped)} ago",
            f"within {age(limits.scraped)}",
        ),
        Criterion(MONITORING, "warnings", not warnings, clean("; ".join(warnings[:3])) or "none", "none"),
        Criterion(
            MONITORING,
            "availability",
            None if ratio is None else ratio >= limits.availability,
            "not known yet" if ratio is None else f"{share(ratio)} ({down:g} s down of {age(observed)} that are known)",
            f"at least {share(limits.availability)}",
        ),
    ]


# --- old, after a rollback ----------------------------------------------------------------------------------


def rolled_back(route: Json, status: Json, limits: Limits) -> list[Criterion]:
    """Old answers everything, as it used to, and has everything."""
    old = route["sides"]["old"]
    since = route["old_incomplete_since"]
    errors, deferred = old["error_rate"], (old["ledger"] or {}).get("deferred")
    return [
        Criterion(HEALTH, "weight", route["weight_target"] == 0, percent(route["weight_target"]), "0 %"),
        *health(route, status, ("old",)),
        Criterion(
            PERFORMANCE,
            "errors at old",
            None if errors is None else errors <= limits.error_rate,
            "no answer in the last ten seconds" if errors is None else share(errors),
            f"at most {share(limits.error_rate)}",
        ),
        _p95("old", route, limits),
        *_record(status),
        *_owed("old", old, limits),
        Criterion(INTEGRITY, "deferred for old", None if deferred is None else deferred == 0, count(deferred), "none"),
        Criterion(
            INTEGRITY, "old is complete", since is None, "yes" if since is None else f"not since {clean(since)}", "yes"
        ),
        *monitoring(status, limits),
    ]


def nothing_lost_by_old(answer: Json | str) -> Criterion:
    """answer: a diff of what is held against old as `lost`, or, where the record does not say what old was given, as
    `unrecorded`; or why there is none.
    """
    name = "lost by old"
    if isinstance(answer, str):
        return Criterion(INTEGRITY, name, None, clean(answer), "none")
    if answer["inconclusive"]:
        return Criterion(INTEGRITY, name, None, clean(answer["inconclusive"][0]["reason"]), "none")
    if answer["result"] == "nodata":
        return Criterion(INTEGRITY, name, None, "nothing was there to compare", "none")
    lost = [finding for finding in answer["findings"] if "old" in finding["by"]]
    if not lost and answer["findings_untold"]:
        return Criterion(INTEGRITY, name, None, "more events are lost than are listed", "none")
    record = "" if answer["record"] == "three-way" else f" ({clean(answer['record'])})"
    return Criterion(INTEGRITY, name, not lost, count(len(lost)) + record, "none")
