"""Clocks: of this host beside NTP, beside its own monotonic clock, and beside the backends' `Date`."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from proxy.control.doctor.finding import CLOCKS, Finding, judged, warn

_UNSYNCHRONISED: Final = 0x0040
"""STA_UNSYNC of adjtimex(2)."""
_SKEW: Final = (3.0, 30.0)
"""Seconds that a backend's clock may be away; `Date` has whole ones."""
_STEPPED: Final = (1.0, 60.0)
"""Seconds that the wall clock may have gone otherwise than the monotonic one since the supervisor began."""
_NTP: Final = "let an NTP client run on this host (chrony, systemd-timesyncd) and look at it: timedatectl"


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_time() -> tuple[bool, float] | None:
    """Whether the kernel's clock is synchronised, and its largest error in seconds; None where that is not known."""
    timex = _Timex()
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not timex.status & _UNSYNCHRONISED, timex.maxerror / 1e6


def ntp(known: tuple[bool, float] | None) -> Finding:
    """What the kernel says of its clock. known: as `kernel_time` has it."""
    name = "synchronised by NTP"
    if known is None:
        return warn(CLOCKS, name, "not known: the kernel does not say", _NTP)
    is_synchronised, error = known
    if not is_synchronised:
        return warn(CLOCKS, name, "no: the kernel's clock runs by itself", _NTP)
    return judged(CLOCKS, name, error, (0.5, 5.0), f"yes, to {error * 1000:.0f} ms at worst", _NTP)


def stepped(wall: float, monotonic: float) -> Finding:
    """The wall clock beside the monotonic one: how far each went since the supervisor began, seconds."""
    away = abs(wall - monotonic)
    seen = f"{away:.1f} s apart after {monotonic:.0f} s"
    advice = "the wall clock was set by a step: receipts and windows of that time may be out of order. " + _NTP
    return judged(CLOCKS, "wall clock beside the monotonic one", away, _STEPPED, seen, advice)


def beside_backends(dates: Mapping[str, tuple[str, float]]) -> list[Finding]:
    """By backend, what its `Date` said, and when it came by our own clock (seconds since 1970)."""
    return [_beside(name, *found) for name, found in sorted(dates.items())]


def _beside(backend: str, date: str, at: float) -> Finding:
    name = f"clock of {backend}"
    moment = _moment(date)
    if moment is None:
        return warn(CLOCKS, name, "its answers have no Date", "let it send Date, so that clocks can be compared")
    # Date is cut off to seconds: half of one is the middle of what it may mean.
    away = moment.timestamp() + 0.5 - at
    seen = f"{abs(away):.0f} s {'ahead' if away > 0 else 'behind'}" if abs(away) > 1 else "within a second of ours"
    advice = "event times of both sides cannot be compared: let NTP run there and here"
    return judged(CLOCKS, name, abs(away), _SKEW, seen, advice)


def _moment(date: str) -> datetime | None:
    try:
        return parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
