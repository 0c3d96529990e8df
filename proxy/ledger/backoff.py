"""How long to wait after the n-th failure: exponential with jitter, by tenacity's wait strategy.

The strategy alone is used: tenacity's retry loop would cost an object per delivery on the success path,
and a waiting task per failing key.
"""

from __future__ import annotations

from typing import Final

from tenacity import RetryCallState, Retrying, stop_never, wait_random_exponential

_LEAST_SHARE: Final = 0.5


class Backoff:
    """initial, longest: seconds."""

    def __init__(self, initial: float, longest: float) -> None:
        self._longest = longest
        # Half of the wait is certain and half is chance: many keys fail together and must not come back together.
        self._wait = wait_random_exponential(multiplier=initial, max=longest, min=initial)
        self._state = RetryCallState(Retrying(stop=stop_never, wait=self._wait), None, (), {})

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures, from 1."""
        self._state.attempt_number = failures
        certain = float(self._wait.exp_base ** min(failures - 1, 64)) * float(self._wait.multiplier)
        return max(self._wait(self._state), min(certain, self._longest) * _LEAST_SHARE)
