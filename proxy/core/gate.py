"""What gates say, and what that means for a step of a rollout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

YES: Final = "yes"
NO: Final = "no"
NO_ANSWER: Final = "no answer"
"""It hangs, it is away, or what it says is neither: the step waits, and it is asked again."""

GO: Final = "go"
HOLD: Final = "hold"
PAUSE: Final = "pause"
STEP_BACK: Final = "step-back"
REVERT: Final = "revert"
SEVERITY: Final = (REVERT, STEP_BACK, PAUSE, HOLD)


class Said(NamedTuple):
    """What a gate said last. text: why, in its own words; on_fail: what a no does."""

    answer: str
    text: str = ""
    on_fail: str = HOLD


class Ruling(NamedTuple):
    """What comes of all answers. act: GO, or what is to be done instead; reason: which gates stand against going on."""

    act: str
    reason: str = ""


def ruling(names: tuple[str, ...], said: Mapping[str, Said]) -> Ruling:
    """All must say yes. Of several that say no, the one whose no does most decides."""
    against = {name: said.get(name, Said(NO_ANSWER, "it is being asked")) for name in names}
    against = {name: each for name, each in against.items() if each.answer != YES}
    if not against:
        return Ruling(GO)
    acts = {each.on_fail for each in against.values() if each.answer == NO}
    act = next((act for act in SEVERITY if act in acts), HOLD)
    return Ruling(act, "; ".join(_told(name, each) for name, each in against.items()))


def _told(name: str, said: Said) -> str:
    return f"gate {name}: {said.answer}{f' ({said.text})' if said.text else ''}"
