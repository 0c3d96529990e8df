"""What is known of the states of a source that has a snapshot, and what a snapshot says that is news.

    connected --> heard, heard --> compare(snapshot) --> heard ...     connection lost --> connected --> ...

A state's version is when it was updated last, as the source writes it (ISO 8601), or a digest of it. What was heard on
the present connection stands before or behind the snapshot in the order of that connection; there the later one counts.
What was known before it is of another connection: any other version is news, for clocks are set back as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple


class News(NamedTuple):
    """Names of states that a snapshot has otherwise than they were told, and of those that it has not any more."""

    changed: list[str]
    gone: list[str]


class KnownStates:
    """Versions by name of a state, as they were told last.

    is_established: a snapshot was compared once; the very first one is news as a whole, or, unless `tells_first`, none.
    """

    def __init__(self, versions: Mapping[str, str], *, is_established: bool, tells_first: bool) -> None:
        self.versions = dict(versions)
        self.is_established = is_established
        self._tells_first = tells_first
        self._heard: set[str] = set()

    def connected(self) -> None:
        """A new connection: what comes from now on is in its order."""
        self._heard.clear()

    def heard(self, name: str, version: str | None) -> None:
        """The source told this state. version: None when it is gone."""
        self._heard.add(name)
        self._note(name, version)

    def compare(self, found: Mapping[str, str], *, is_whole: bool) -> News:
        """Take a snapshot; what of it is to be told. is_whole: what is missing in it is gone, not still to come."""
        changed = [name for name, version in found.items() if self._is_news(name, version)]
        gone = [name for name in self.versions if name not in found and name not in self._heard] if is_whole else []
        for name in changed:
            self._note(name, found[name])
        for name in gone:
            self._note(name, None)
        is_told = self.is_established or self._tells_first
        self.is_established = True
        return News(changed, gone) if is_told else News([], [])

    def _is_news(self, name: str, version: str) -> bool:
        known = self.versions.get(name)
        if known == version:
            return False
        if name not in self._heard:
            return True
        # Gone on this connection: the snapshot was made before that, else its state would have been heard again.
        return known is not None and _is_later(version, known)

    def _note(self, name: str, version: str | None) -> None:
        if version is None:
            self.versions.pop(name, None)
        else:
            self.versions[name] = version


def _is_later(version: str, known: str) -> bool:
    """Where there is no telling, what differs is told: twice is better than never."""
    try:
        return datetime.fromisoformat(version) > datetime.fromisoformat(known)
    except (ValueError, TypeError):
        return True
