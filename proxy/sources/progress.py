"""How far a source is: which of its states were accepted, for the supervisor to keep and to give to the next worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from proxy.control.link import SourceProgress
from proxy.sources.event import SourceEvent


class Progress:
    """states: versions by name, as accepted before; see `proxy.core.known_states`."""

    def __init__(self, states: Mapping[str, str], *, is_established: bool, had_connection: bool) -> None:
        self._states = dict(states)
        self.is_established = is_established
        """What these states are held against is whole: a snapshot was taken."""
        self.had_connection = had_connection
        self._news: dict[str, str | None] = {}
        self._is_new = False
        self._order = 0
        self._newest: dict[str, int] = {}
        """Of states with events that are not accepted yet: the place of the latest one that is."""
        self._unaccepted: Counter[str] = Counter()

    def read(self, event: SourceEvent) -> int:
        """This event was read; its place in the order of the source."""
        self._order += 1
        if event.state:
            self._unaccepted[event.state] += 1
        return self._order

    def accepted(self, event: SourceEvent, order: int) -> None:
        """It is accepted. Events of one state may have several keys, hence be accepted in another order."""
        if not event.state:
            return
        if order > self._newest.get(event.state, 0):
            self._newest[event.state] = order
            self._note(event.state, event.version)
        self._unaccepted[event.state] -= 1
        if not self._unaccepted[event.state]:
            del self._unaccepted[event.state], self._newest[event.state]

    def connected(self) -> None:
        """There is a connection, or was one: what follows it is a gap."""
        self._is_new |= not self.had_connection
        self.had_connection = True

    def establish(self, versions: Mapping[str, str]) -> None:
        """The first snapshot was taken: what is in it counts as told, but for what is still on its way."""
        for name, version in versions.items():
            if name not in self._unaccepted:
                self._note(name, version)
        self.is_established = self._is_new = True

    def take(self, name: str, generation: int, *, is_whole: bool) -> SourceProgress | None:
        """What is new since this was taken last, or all; None when that is nothing."""
        if not (is_whole or self._news or self._is_new):
            return None
        states: dict[str, str | None] = {**self._states} if is_whole else self._news
        self._news, self._is_new = {}, False
        return SourceProgress(name, generation, is_whole, self.is_established, self.had_connection, states)

    def _note(self, name: str, version: str | None) -> None:
        self._news[name] = version
        if version is None:
            self._states.pop(name, None)
        else:
            self._states[name] = version
