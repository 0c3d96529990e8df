"""How far a source is: the version accepted last of each state, in whatever order events are accepted."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.sources.event import SourceEvent
from proxy.sources.progress import Progress

NAMES = st.sampled_from(["a", "b", "c"])


class Accepting(RuleBasedStateMachine):
    """Events are read in order, accepted in any, and what is new is taken now and then by a supervisor."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = Progress({"a": "v0"}, is_established=False, had_connection=False)
        self.waiting: list[tuple[SourceEvent, int]] = []
        self.latest: dict[str, tuple[int, str | None]] = {"a": (0, "v0")}
        """What should be known of each state: of the latest event that was accepted."""
        self.kept: dict[str, str] = {"a": "v0"}
        self.read_last: dict[str, str | None] = {"a": "v0"}
        self.serial = 0

    @rule(name=NAMES, is_gone=st.booleans())
    def read(self, name: str, is_gone: bool) -> None:
        self.serial += 1
        version = None if is_gone else f"v{self.serial}"
        event = SourceEvent("", b"", name, version)
        self.waiting.append((event, self.progress.read(event)))
        self.read_last[name] = version

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        event, order = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.progress.accepted(event, order)
        if order > self.latest.get(event.state, (0, None))[0]:
            self.latest[event.state] = (order, event.version)

    @precondition(lambda self: not self.progress.is_established)
    @rule()
    def establish(self) -> None:
        """The snapshot has what was read last, for its messages are in that order."""
        self.progress.establish({name: version for name, version in self.read_last.items() if version is not None})

    @rule(is_whole=st.booleans())
    def take(self, is_whole: bool) -> None:
        said = self.progress.take("home", 1, is_whole=is_whole)
        if said is None:
            return
        if said.is_whole:
            self.kept.clear()
        for name, version in said.states.items():
            if version is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = version
        assert self.kept == {name: version for name, (_, version) in self.latest.items() if version is not None}

    @invariant()
    def nothing_is_kept_of_what_is_accepted(self) -> None:
        names = {event.state for event, _ in self.waiting}
        assert self.progress._unaccepted.keys() == names
        assert self.progress._newest.keys() <= names


TestAccepting = Accepting.TestCase
