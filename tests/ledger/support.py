"""Events, fakes and a worker for the ledger's tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from config.model import Ledger, Settings
from proxy.core.dedupe import body_digest, fingerprint, id_digest
from proxy.core.event import BOTH, DELIVERED, Attempt, Event, Outcome
from proxy.core.owed import EVER_OWED, STATE_NAMES
from proxy.core.routing import Dials, Routing
from proxy.ledger.backlog import Backlog
from proxy.ledger.book import Book
from proxy.ledger.disk import Disk
from proxy.ledger.entry import Stream
from proxy.ledger.framing import Unpacker, pack
from proxy.ledger.keeper import Keeper
from proxy.ledger.marks import Marks, create
from proxy.ledger.protocol import (
    Claims,
    Durable,
    Frame,
    Hello,
    LedgerFrame,
    Report,
    Turn,
    Verdicts,
    Welcome,
    from_ledger,
    to_ledger,
)
from proxy.ledger.store import Store

ROUTE = "events"
HEAD = b"POST /api/v1/events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n"
SECOND = 10**9


def event(n: int, *, key: str = "k", owed: int = BOTH, authority: int = 0, **changes: Any) -> Event:
    """An event of one bucket per key."""
    values: dict[str, Any] = {
        "n": n, "id": f"id-{n}", "route": ROUTE, "key": key, "bucket": bucket(key), "epoch": 1, "authority": authority,
        "owed": owed, "handed": 0, "deferred": 0, "after_authority": False, "accepted_ns": n * 1000,
        "transport": "http", "context": HEAD, "body": f'{{"n":{n}}}'.encode(),
    }  # fmt: skip
    return Event(**(values | changes))


def bucket(key: str) -> int:
    """A bucket for a key."""
    return zlib.crc32(key.encode()) % 10_000


def frame(
    number: int, events: list[Event] | None = None, reports: list[Report] | None = None,
    turns: list[int] | None = None, *, urgent: bool = False,
) -> LedgerFrame:  # fmt: skip
    """A frame as the ledger decodes it. reports: (n, side, code, status)."""
    message = Frame(number, urgent, events or [], reports or [], turns or [])
    decoded = to_ledger.decode(pack(message)[4:])
    assert isinstance(decoded, LedgerFrame)
    return decoded


def content(body: bytes) -> bytes:
    """The fingerprint of an event with this body."""
    return fingerprint(HEAD[: HEAD.index(b"\r\n")], body_digest(body))


class FakeMarks:
    """Marks by (route index, side, bucket); those of 0 are left out."""

    def __init__(self) -> None:
        self.counts: dict[tuple[int, int, int], int] = {}

    @property
    def marked(self) -> set[tuple[int, int, int]]:
        return set(self.counts)

    def show(self, route: int, side: int, bucket: int, count: int) -> None:
        self.counts[route, side, bucket] = count
        if not count:
            del self.counts[route, side, bucket]


class FakeObserver:
    """A replayer that only remembers what it was told. reads: it says that it reads something."""

    def __init__(self) -> None:
        self.reads = True
        self.told: list[tuple[Any, ...]] = []

    def has_more(self, route: str, side: int) -> None:
        self.told.append(("has_more", side))

    def handed(self, route: str, side: int, seq: int, key: str) -> None:
        self.told.append(("handed", side, seq))

    def parked(self, route: str, side: int, seq: int, key: str) -> None:
        self.told.append(("parked", side, seq))

    def settled(self, route: str, side: int, seq: int, key: str) -> None:
        self.told.append(("settled", side, seq))

    def released(self, route: str, side: int, seq: int, key: str) -> None:
        self.told.append(("released", side, seq))

    def answered(self, route: str, side: int, n: int) -> None:
        self.told.append(("answered", side, n))

    def is_reading(self) -> bool:
        return self.reads

    def left(self, route: str, side: int, seq: int) -> None:
        self.told.append(("left", side, seq))


class Clock:
    """A wall clock that a test turns."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.ns

    def go(self, seconds: float) -> None:
        self.ns += int(seconds * SECOND)


class Desk:
    """A book on a store, without a loop: commits are calls. window: seconds in which what was received may be lost."""

    def __init__(self, directory: Path, *, window: float = 0.0, **ledger: Any) -> None:
        self._windows = {ROUTE: int(window * SECOND)} if window else {}
        self.settings = Ledger.model_validate(ledger)
        self.directory = directory
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        """Open, or open again after `crash` or `close`."""
        self.store = Store(self.directory, self.settings, self.clock)
        self.marks = FakeMarks()
        self.observer = FakeObserver()
        self.backlog = Backlog({ROUTE: 0}, self.marks)
        self.book = Book(
            self.backlog, self.observer, next_seq=self.store.next_seq, retain_bodies=self.settings.retain_bodies,
            windows=self._windows,
        )  # fmt: skip
        for route, side, at, n in self.store.pending_by_bucket():
            self.backlog.enter(route, side, at, n)
        self.book.restore(self.store.streams(), self.store.last_stream_id, self.store.held_rows())
        if self._windows:
            self.book.restore_received(self.store.received_rows(self.book.windows.longest), self.clock())
        # At `complete` all that is deferred stays so.
        self.book.turn(Routing(1, {ROUTE: Dials(100.0)}))

    def commit(self, young_ns: int = 0) -> list[Stream]:
        """Commit everything, but for what may wait; streams with a new durable frame."""
        group = self.book.take(self.clock(), young_ns)
        self.store.commit(group)
        return self.book.committed(group)

    def crash(self) -> None:
        """Lose what was not committed."""
        self.store.close(clean=False)

    def states(self) -> dict[str, tuple[str, str]]:
        """States of (old, new) on disk, by event id."""
        found = {}
        for segment in self.store.segments:
            for id, old, new in rows(segment.path, "SELECT id, old_state, new_state FROM receipt ORDER BY seq"):
                assert id not in found, f"{id} is in the record twice"
                found[id] = (STATE_NAMES[old], STATE_NAMES[new])
        return found

    def bodies(self) -> set[str]:
        """Ids of events whose bodies are on disk."""
        query = "SELECT id FROM receipt JOIN body USING (seq)"
        return {str(id) for segment in self.store.segments for (id,) in rows(segment.path, query)}


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of a segment file, read by a connection of its own."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def counted(store: Store) -> dict[tuple[str, int], list[int]]:
    """The balance by counting all rows of all segments."""
    table: dict[tuple[str, int], list[int]] = {}
    for segment in store.segments:
        for side, name in enumerate(("old", "new")):
            query = f"SELECT route, {name}_state, count(*) FROM receipt WHERE {name}_state > 0 GROUP BY 1, 2"
            for route, state, n in rows(segment.path, query):
                counts = table.setdefault((route, side), [0] * len(STATE_NAMES))
                counts[state] += n
                counts[EVER_OWED] += n
    return table


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def settings_for(
    directory: Path, *, ordering: str = "answered", route: dict[str, Any] | None = None, **ledger: Any
) -> Settings:
    """Settings of one route between backends old and new."""
    defaults = {
        "reserve": "0B",
        "min_free": "0B",
        "commit_interval": "10ms",
        "retry_initial": "10ms",
        "retry_max": "40ms",
    }
    return Settings.model_validate({
        "version": 1, "salt": "salt-for-tests", "state_dir": str(directory), "admin": {"tcp": "off"},
        "backends": {"old": {"url": "http://127.0.0.1:1"}, "new": {"url": "http://127.0.0.1:2"}},
        "routes": ({"name": ROUTE, "match": {"path": "/api/v1/events"}, "ordering": ordering, **(route or {})},),
        "ledger": defaults | ledger,
    })  # fmt: skip


class FakeBackends:
    """Both backends behind `deliver`. answers: what each side says, by event id, else `default`."""

    def __init__(self) -> None:
        self.got: list[tuple[int, str]] = []
        self.attempts: Counter[tuple[int, str]] = Counter()
        self.numbers: dict[tuple[int, str], list[int]] = {}
        self.events: dict[str, Event] = {}
        self.answers: dict[tuple[int, str], Outcome] = {}
        self.default: dict[int, Outcome] = {0: Outcome(DELIVERED, 200), 1: Outcome(DELIVERED, 200)}
        self.open = asyncio.Event()
        self.open.set()
        self.in_flight = 0
        self.most_in_flight = 0

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """Answer as told."""
        assert attempt.role == "replay"
        self.attempts[attempt.side, event.id] += 1
        self.numbers.setdefault((attempt.side, event.id), []).append(attempt.number)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self.in_flight -= 1
        outcome = self.answers.get((attempt.side, event.id), self.default[attempt.side])
        if outcome.kind == DELIVERED:
            self.got.append((attempt.side, event.id))
            self.events[event.id] = event
        return outcome

    def order(self, side: int) -> list[str]:
        """Ids in the order in which a side got them."""
        return [id for at, id in self.got if at == side]


class Died(Exception):
    """The ledger would have ended its process."""


class Ledgers:
    """Keepers on one directory, one after another."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.directory = directory / "ledger"
        self.socket = directory / "run" / "ledger.sock"
        self.settings = settings
        self.clock = Clock()
        self.backends = FakeBackends()
        descriptor = create(1)
        self.marks = Marks(descriptor)
        os.close(descriptor)  # the map keeps the memory
        self.deaths: list[str] = []
        self.keeper: Keeper | None = None
        self.workers: list[FakeWorker] = []

    async def worker(self, stream: str = "s1", worker: int = 0) -> FakeWorker:
        """A connected worker; it dies with the test."""
        fake = FakeWorker(self.socket, stream, worker)
        self.workers.append(fake)
        await fake.connect()
        return fake

    async def start(self) -> Keeper:
        """Start one."""
        store = Store(self.directory, self.settings.ledger, self.clock)
        disk = Disk(self.directory, self.settings.ledger.reserve, self.settings.ledger.min_free)
        self.keeper = Keeper(
            self.settings, store, disk, self.marks, self.backends.deliver, now_ns=self.clock, die=self.deaths.append
        )
        await self.keeper.start(self.socket)
        return self.keeper

    async def stop(self, *, clean: bool = True) -> None:
        """Stop it; not clean: without the note that it ended in order."""
        keeper, self.keeper = self.keeper, None
        if keeper is not None:
            await keeper.stop(clean=clean)

    def states(self) -> dict[str, tuple[str, str]]:
        """States of (old, new) on disk, by event id."""
        found = {}
        for path in sorted(self.directory.glob("segment-*.db")):
            for id, old, new in rows(path, "SELECT id, old_state, new_state FROM receipt ORDER BY seq"):
                found[id] = (STATE_NAMES[old], STATE_NAMES[new])
        return found


class FakeWorker:
    """A worker's end of the socket that says what a test tells it."""

    def __init__(self, path: Path, stream: str = "s1", worker: int = 0) -> None:
        self._path = path
        self._hello = Hello(stream, worker, 1)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self.number = 0
        self.welcome: int | None = None
        self.durable = 0
        self.turns: list[int] = []
        self.verdicts: list[tuple[int, int, int]] = []
        self.is_closed = False

    async def connect(self) -> None:
        """Connect, say hello, wait for the welcome."""
        self.is_closed, self.welcome = False, None
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        self._writer.write(pack(self._hello))
        self._task = asyncio.create_task(self._listen())
        await until(lambda: self.welcome is not None or self.is_closed, "a welcome")

    async def _listen(self) -> None:
        unpacker = Unpacker()
        assert self._reader is not None
        while data := await self._reader.read(2**16):
            for payload in unpacker.feed(data):
                message = from_ledger.decode(payload)
                if isinstance(message, Welcome):
                    self.welcome = self.durable = message.durable
                elif isinstance(message, Durable):
                    self.durable = message.number
                elif isinstance(message, Turn):
                    self.turns.append(message.n)
                elif isinstance(message, Verdicts):
                    self.verdicts += message.verdicts
        self.is_closed = True

    def say(
        self, events: list[Event] | None = None, reports: list[Report] | None = None,
        turns: list[int] | None = None, *, urgent: bool = False, answers: list[tuple[int, int]] | None = None,
    ) -> int:  # fmt: skip
        """Send a frame; its number."""
        assert self._writer is not None
        self.number += 1
        message = Frame(self.number, urgent, events or [], reports or [], turns or [], answers or [])
        self._writer.write(pack(message))
        return self.number

    def ask(self, *claims: Any, withdrawn: list[int] | None = None, anew: bool = False) -> None:
        """Send claims: (n, event id, body), and a fourth True for one that was granted before."""
        assert self._writer is not None
        rows = [(n, ROUTE, id_digest(id), content(body), bool(granted)) for n, id, body, *granted in claims]
        self._writer.write(pack(Claims(rows, withdrawn or [], anew)))

    def send_raw(self, data: bytes) -> None:
        """Send whatever."""
        assert self._writer is not None
        self._writer.write(data)

    async def say_durably(self, *args: Any, **kwargs: Any) -> None:
        """Send a frame and wait until it is durable."""
        number = self.say(*args, **kwargs, urgent=True)
        await until(lambda: self.durable >= number, f"frame {number} is durable")

    async def die(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None


async def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait until something holds, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited {seconds:g} s for: {what}") from None
