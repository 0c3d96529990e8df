"""What the doctor says of one thing."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

State = Literal["ok", "warn", "fail"]
OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"

CLOCKS: Final = "clocks"
HOST: Final = "host"
DISK: Final = "disk"
RECORD: Final = "ledger"
BACKENDS: Final = "backends"
STORES: Final = "stores"
INSTANCE: Final = "instance"
AREAS: Final = (CLOCKS, HOST, DISK, RECORD, BACKENDS, STORES, INSTANCE)


class Finding(msgspec.Struct, frozen=True):
    """area: one of AREAS; name, seen: what was looked at, and what was seen; advice: what to change, empty when ok."""

    area: str
    name: str
    state: State
    seen: str
    advice: str = ""


def ok(area: str, name: str, seen: str) -> Finding:
    """As it should be."""
    return Finding(area, name, OK, seen)


def warn(area: str, name: str, seen: str, advice: str) -> Finding:
    """It works, and may not for long, or not as well as it could."""
    return Finding(area, name, WARN, seen, advice)


def fail(area: str, name: str, seen: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(area, name, FAIL, seen, advice)


def judged(area: str, name: str, value: float, limits: tuple[float, float], seen: str, advice: str) -> Finding:
    """By two limits: above the first it is a warning, above the second a failure."""
    if value > limits[1]:
        return fail(area, name, seen, advice)
    return warn(area, name, seen, advice) if value > limits[0] else ok(area, name, seen)


def size_text(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
