"""Whether a wall clock may be believed, by how far the monotonic one went: for whoever deletes by age.

    the last time that was believed + monotonic seconds since = what is expected
        near it              believed
        far ahead or behind  doubted, until both clocks went at the same pace for SURE

Doubt costs little, for what is old is kept a few hours longer. Belief in a false time costs everything that is older.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PACE: Final = 60.0
"""Seconds that the two clocks may differ by from one look to the next."""
AWAY: Final = 3600.0
"""Seconds that a process may have been away between two lives without a doubt."""
SURE: Final = 6 * 3600.0
"""Seconds at the same pace after which a time is believed that nothing else speaks for."""


class WallTime(NamedTuple):
    """What is known after a look.

    believed: the last time (seconds since 1970) that was believed, None before the first, which is; seconds: monotonic
    ones since then, as far as this life knows; last: the time at the last look of this life, None before its first;
    agreed: seconds at the same pace while in doubt
    """

    believed: float | None
    seconds: float = 0.0
    last: float | None = None
    agreed: float = 0.0
    is_believed: bool = False

    def after(self, at: float, seconds: float) -> WallTime:
        """It is `at` now, monotonic `seconds` after the last look, or after the start of this life."""
        passed = self.seconds + seconds
        agreed = 0.0
        if self.last is not None and abs(at - self.last - seconds) <= PACE:
            agreed = self.agreed + seconds
        if self.believed is not None and not self._is_near(at - self.believed - passed) and agreed < SURE:
            return WallTime(self.believed, passed, at, agreed)
        return WallTime(at, last=at, is_believed=True)

    def _is_near(self, ahead: float) -> bool:
        return -PACE <= ahead <= (AWAY if self.last is None else PACE)
