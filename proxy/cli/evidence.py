"""What a revert went by, in words: `why` and `report` tell it alike."""

from __future__ import annotations

from typing import Any, Final

from proxy.cli.output import age, clean, count, percent, seconds, share, words

Json = dict[str, Any]
_NO_ANSWER: Final = "error"
"""The class of what has none."""
_NAMES: Final = {
    "checked": "events compared",
    "lost": "lost by new",
    "samples": "some of them",
    "visible": "shown after (s)",
    "owed": "owed to new",
    "taken": "taken by new",
    "seconds": "in",
    "pending": "still waiting",
    "oldest_age": "the oldest waited",
    "lasts": "behind for",
}
"""Figures whose names say less to a person than these."""
_NAMES_OF: Final = {
    "availability": {
        "down": "down for",
        "down_alone": "while old was not",
        "failed_probes": "probes that failed",
        "window": "of the last",
        "seconds": "since the first",
    },
    "breaker": {"lasts": "failing for"},
    "dependency": {"lasts": "failing for"},
    "health": {"lasts": "failing for"},
    "silence": {"lasts": "silent for", "waiting": "sent and not answered", "pending": "still owed"},
}
"""The same where it depends on the trigger."""
_DURATIONS: Final = frozenset({"down", "down_alone", "lasts", "oldest_age", "seconds", "window"})
_LIMITED_IN_TIME: Final = frozenset({"availability", "silence"})
"""Triggers whose limit is one of seconds."""
_TOLD: Final = frozenset({"error-rate", "slower"})
"""Triggers that count from when something was told, which for what has no answer is `response_timeout` later."""


def detected(entry: Json | None, detect: float) -> str:
    """`1.50 s at most`, and since when that is, where it is not since the first that went wrong had been sent."""
    trigger = ((entry or {}).get("evidence") or {}).get("trigger")
    since = ", counted from the first that was told" if trigger in _TOLD else ""
    return f"{seconds(detect) if detect < 60 else age(detect)} at most{since}"


def facts(evidence: Json) -> list[tuple[str, str]]:
    """Names and what is so of them, as text; what this version does not know as it is.

    How long it took to detect is left out: it stands beside how long it took to recover.
    """
    rest = {name: value for name, value in evidence.items() if name != "seconds_to_detect"}
    rows = []
    trigger = str(rest.get("trigger"))
    if "trigger" in rest:
        workers = rest.pop("workers", None)
        rows.append(("trigger", f"{clean(rest.pop('trigger'))}{f', in worker {words(workers)}' if workers else ''}"))
    if {"step", "of"} <= rest.keys():
        held = rest.pop("held_s", None)
        lasted = "" if held is None else f", for {age(held)}"
        rows.append(("rollout", f"at step {words(rest.pop('step'))} of {words(rest.pop('of'))}{lasted}"))
    if "weight" in rest:
        rows.append(("weight then", percent(rest.pop("weight"))))
    if isinstance(rest.get("test"), dict):
        rows.append(("test", _test(trigger, rest.pop("test"))))
    window = rest.pop("window_seconds", None)
    sides = [name for name in ("old", "new") if isinstance(rest.get(name), dict)]
    rows += [_side(name, rest.pop(name), window) for name in sides]
    gates = rest.pop("gates") if isinstance(rest.get("gates"), dict) else {}
    rows += [(f"gate {clean(name)}", _gate(said)) for name, said in gates.items()]
    names = _NAMES | _NAMES_OF.get(trigger, {})
    durations = _DURATIONS | {"limit"} if trigger in _LIMITED_IN_TIME else _DURATIONS
    return rows + [
        (
            names.get(name, clean(name).replace("_", " ")),
            age(value) if name in durations and isinstance(value, int | float) else words(value),
        )
        for name, value in rest.items()
    ]


def _side(name: str, figures: Json, window: float | None) -> tuple[str, str]:
    """`new (shop-b)`, `1,204 answers in the 10 s before, 1,200 2xx, 4 5xx, 3 events without an answer, p99 5.6 ms`."""
    classes: dict[str, int] = figures.get("code_classes") or {}
    silent = classes.get(_NO_ANSWER, 0)
    answers = sum(classes.values()) - silent
    parts = [f"{count(answers) if answers else 'no'} answers"] if answers or not silent else []
    parts += [f"{count(number)} {clean(each)}" for each, number in classes.items() if each != _NO_ANSWER]
    if silent:
        parts.append(f"{count(silent)} {'event' if silent == 1 else 'events'} without an answer")
    if answers:
        parts.append(f"p99 {seconds(figures.get('p99'))}")
    if window is not None:
        parts[0] += f" in the {age(window)} before"
    return f"{name} ({clean(figures.get('backend'))})", ", ".join(parts)


def _test(trigger: str, test: Json) -> str:
    """`4 of 120 answers failed in 3.1 s, limit 1 %`; or `took longer than 12.0 ms`, or `settled events differ`."""
    allowed = test.get("seconds_allowed")
    did = "answers failed" if allowed is None else f"answers took longer than {seconds(allowed)}"
    did = "settled events differ" if trigger == "mismatch-rate" else did
    counted = f"{count(test.get('failed'))} of {count(test.get('total'))} {did} in {age(test.get('seconds'))}"
    return f"{counted}, limit {share(test.get('limit'))}"


def _gate(said: Any) -> str:
    """`no (0.04 is not below 0.01)`."""
    if not isinstance(said, dict):
        return words(said)
    text = said.get("said")
    return f"{clean(said.get('answer'))}{f' ({clean(text)})' if text else ''}"
