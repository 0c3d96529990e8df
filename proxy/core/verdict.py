"""What is thought of new at the present weight, in one word and with its reasons."""

from __future__ import annotations

from typing import Final, NamedTuple

PASS: Final = "pass"  # noqa: S105 - no password
FAIL: Final = "fail"
INCONCLUSIVE: Final = "inconclusive"
NODATA: Final = "nodata"
NAMES: Final = (PASS, FAIL, INCONCLUSIVE, NODATA)


class Verdict(NamedTuple):
    """name: one of NAMES; reasons: what failed, or what stands against going on; samples, failed: answers of new since
    weight or copy was changed last, and the failures among them; alerts: what a person should look at though nothing is
    reverted for it; act: what is done about what failed, empty where nothing did.
    """

    name: str
    reasons: tuple[str, ...] = ()
    samples: int = 0
    alerts: tuple[str, ...] = ()
    failed: int = 0
    act: str = ""


NOTHING_YET: Final = Verdict(NODATA)


def verdict(failed: list[str], alerts: list[str], doubts: list[str], samples: int) -> Verdict:
    """By what was found. failed: what is wrong enough to go back for; doubts: what is not, and is no good sign."""
    if failed:
        return Verdict(FAIL, tuple(failed), samples, tuple(alerts))
    against = (*alerts, *doubts)
    if against:
        return Verdict(INCONCLUSIVE, against, samples, tuple(alerts))
    return Verdict(PASS if samples else NODATA, (), samples)
