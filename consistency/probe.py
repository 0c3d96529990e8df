"""A probe: a marked event through the proxy, until both stores show it as it should be.

    metrics of checkpoints are read --> event --> 2xx --+--> old's store --+--> the same content
                                                        +--> new's store --+
                                                        +--> each checkpoint

Everything behind the answer is waited for at the same time, and has its own seconds. A side that is not owed the event
is not waited for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from config.consistency import Check
from config.model import Settings
from config.probe import Probe, filled
from consistency.assembly import naming_of
from consistency.checkpoints import Watch
from consistency.documents import taken_apart
from consistency.identity import PROBE, text_of
from consistency.judge import Sleep
from consistency.ledger import Asker
from consistency.recorded import RecordsUnavailable
from consistency.rows import Key, Row
from consistency.rules import Incomparable, Rules
from consistency.shown import shown
from consistency.stores import pointers
from consistency.stores.errors import StoreError
from consistency.stores.protocol import Store
from proxy.core.event import SIDES

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds between two looks, half as long again each time."""
RECORDED_WITHIN: Final = 2.0
"""Seconds from its answer until an event is on record; what nobody has on record is waited for in both stores."""
LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - nobody listens there
"""For an address that means all of this machine's."""
CONTENT: Final = "content"
SEND: Final = "send"


class Step(NamedTuple):
    """name: `send`, `old`, `new`, `content` or a checkpoint's; seconds: since it was sent, None where it was never seen
    or not waited for; error: what went wrong, or empty; is_skipped: it is not owed there; is_unknown: the store could
    not be asked in the end, which says nothing of the event.
    """

    name: str
    seconds: float | None
    error: str = ""
    is_skipped: bool = False
    is_unknown: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        seconds = None if self.seconds is None else round(self.seconds, 3)
        return {"name": self.name, "seconds": seconds, "error": self.error, "skipped": self.is_skipped}


class Outcome(NamedTuple):
    """id: of the event; at: when it was sent, nanoseconds since the epoch; route: by which it went, as the record says;
    empty when nobody knows.
    """

    id: str
    at: int
    steps: tuple[Step, ...]
    route: str = ""

    @property
    def is_passed(self) -> bool:
        """All was as it should be."""
        return not any(step.error for step in self.steps)

    @property
    def error(self) -> str:
        """The first thing that went wrong, with its name; empty when nothing did."""
        return next((f"{step.name}: {step.error}" for step in self.steps if step.error), "")

    def step(self, name: str) -> Step | None:
        """By name."""
        return next((step for step in self.steps if step.name == name), None)

    @property
    def is_against_new(self) -> bool:
        """It is on record that both were owed it; old's store showed it in time, and new's did not, when asked."""
        old, new = self.step("old"), self.step("new")
        if not self.route or old is None or new is None or old.error or old.is_skipped:
            return False
        return bool(new.error) and not new.is_unknown

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "result": "pass" if self.is_passed else "fail",
            "id": self.id,
            "route": self.route or None,
            "sent": datetime.fromtimestamp(self.at / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "error": self.error,
            "steps": [step.as_dict() for step in self.steps],
        }


def url_of(settings: Settings, probe: Probe) -> str:
    """Where clients reach the proxy."""
    if probe.url is not None:
        return probe.url.rstrip("/")
    plain = next(each.address for each in settings.listen if each.tls is None)
    host, _, port = plain.rpartition(":")
    return f"http://{LOOPBACK.get(host, host)}:{port}"


@dataclass(frozen=True)
class Prober:
    """Sends probes of one check. url: of the proxy; admin: who is asked which sides an event is owed to, if anybody.

    `run` never raises for what a store, the proxy or a checkpoint says.
    """

    check: Check
    probe: Probe
    url: str
    admin: Asker | None = None
    sleep: Sleep = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], int] = time.time_ns

    async def run(self, stores: tuple[Store, Store]) -> Outcome:
        """Send one, and see what becomes of it."""
        step = 10**9 if self.probe.uses("time_s") else 10**6  # a time that every form of it says exactly
        at = self.wall() // step * step
        id = f"{PROBE}{secrets.token_hex(10)}"
        run = _Run(self, stores, id, at)
        try:
            steps = await run.steps()
        except Exception as error:  # a store of another package, or a setting that nobody foresaw
            log.exception("a probe broke off")
            steps = (Step(SEND, None, f"{type(error).__name__}: {error}"),)
        return Outcome(id, at, steps, run.route)


class _Run:
    """One event on its way."""

    def __init__(self, prober: Prober, stores: tuple[Store, Store], id: str, at: int) -> None:
        self._prober = prober
        self._check, self._probe = prober.check, prober.probe
        self._stores = stores
        self._id = id
        self._values = _values(id, at)
        naming = naming_of(*stores)
        self._step = naming.precision
        self._key = Key(text_of([filled(each, self._values) for each in self._probe.identity]), at)
        self._begun = 0.0
        self._found: dict[str, Row] = {}
        self._owed: tuple[bool, bool] | None = None
        """Whether (old, new) have to have it, once that is known."""
        self.route = ""

    async def steps(self) -> tuple[Step, ...]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            watches = [Watch(each, self._values, self._probe.timeout) for each in self._probe.checkpoints]
            try:
                await asyncio.gather(*(watch.begin() for watch in watches))
                self._begun = self._prober.clock()
                send = await self._send(session)
                if send.error:
                    return (send,)
                recorded = asyncio.create_task(self._look_at_record())
                try:
                    seen = await asyncio.gather(
                        *(self._visible(side, name) for side, name in enumerate(SIDES)),
                        *(self._passed(watch) for watch in watches),
                    )
                    await recorded
                finally:
                    recorded.cancel()
            finally:
                await asyncio.gather(*(watch.close() for watch in watches))
        return (send, *seen[:2], *self._content(), *seen[2:])

    async def _send(self, session: aiohttp.ClientSession) -> Step:
        probe = self._probe
        url = URL(self._prober.url + filled(probe.path, self._values), encoded=True)
        headers = CIMultiDict({"X-Event-Id": self._id})
        headers.update({name: filled(value, self._values) for name, value in probe.headers.items()})
        body = filled(probe.body, self._values).encode() or None
        try:
            async with (
                asyncio.timeout(probe.timeout),
                session.request(probe.method, url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                said = (await answer.content.read(400)).decode("utf-8", "replace")
        except TimeoutError:
            return Step(SEND, None, f"no answer within {probe.timeout:g} s")
        except aiohttp.ClientConnectorError as error:
            return Step(SEND, None, f"no connection: {error.os_error.strerror or type(error.os_error).__name__}")
        except (aiohttp.ClientError, OSError) as error:
            return Step(SEND, None, f"no answer: {type(error).__name__}")  # its text may hold the whole address
        seconds = self._seconds()
        if not 200 <= answer.status < 300:
            return Step(SEND, seconds, f"answered {answer.status}: {' '.join(said.split())}")
        return Step(SEND, seconds)

    async def _look_at_record(self) -> None:
        """By which route it went, and which sides have to have it: both, as long as nobody says otherwise."""
        admin, pause, begun = self._prober.admin, FIRST_PAUSE, self._prober.clock()
        while admin is not None and self._prober.clock() - begun < RECORDED_WITHIN:
            try:
                receipts = (await admin.ask(f"ledger/events/{self._id}"))["receipts"]
            except RecordsUnavailable:
                receipts = []
            if receipts:
                self.route = str(receipts[0]["route"])
                old, new = (any(_is_due(each[side]) for each in receipts) for side in SIDES)
                self._owed = old, new
                return
            await self._prober.sleep(pause)
            pause = _longer(pause)

    async def _visible(self, side: int, name: str) -> Step:
        store, pause = self._stores[side], FIRST_PAUSE
        while True:
            trouble = ""
            rows: list[Row] = []
            try:
                rows = taken_apart(await store.fetch([self._key], self._step), self._check.json_fields)
            except StoreError as error:
                trouble = str(error)
            seconds = self._seconds()
            if rows:
                self._found[name] = rows[0]
                return Step(name, seconds, self._wrong(rows[0], seconds))
            if self._owed is not None and not self._owed[side]:
                return Step(name, None, is_skipped=True)
            if seconds >= self._probe.timeout:
                late = f"not there within {self._probe.timeout:g} s"
                return Step(name, None, trouble or late, is_unknown=bool(trouble))
            await self._prober.sleep(min(pause, self._probe.timeout - seconds))
            pause = _longer(pause)

    def _wrong(self, row: Row, seconds: float) -> str:
        """What is not as it should be in one store's row."""
        for pointer, wanted in self._probe.expect.items():
            value = pointers.resolve(row.fields, pointers.parse(pointer))
            if value != wanted or isinstance(value, bool) != isinstance(wanted, bool):
                there = "nothing" if value is pointers.MISSING else repr(shown(value))
                return f"{pointer} is {there}, expected {wanted!r}"
        if seconds > self._probe.visible_within:
            return f"there after {seconds:.2f} s, may take {self._probe.visible_within:g} s"
        return ""

    def _content(self) -> tuple[Step, ...]:
        """Both rows by the rules of the check, where both are there."""
        if len(self._found) < len(SIDES):
            return ()
        rules = Rules(self._check.rules, only_new=self._check.only_new)
        try:
            said = rules.compare(*(self._found[name].fields for name in SIDES))
        except Incomparable as error:
            return (Step(CONTENT, None, str(error)),)
        wrong = "; ".join(
            f"{each.path} is {shown(each.old)!r} in old and {shown(each.new)!r} in new" for each in said.differences[:3]
        )
        return (Step(CONTENT, None, wrong),)

    async def _passed(self, watch: Watch) -> Step:
        pause = FIRST_PAUSE
        while True:
            reason = await watch.look()
            seconds = self._seconds()
            if not reason:
                return Step(watch.name, seconds)
            if seconds >= self._probe.timeout:
                return Step(watch.name, None, f"{reason}, after {self._probe.timeout:g} s")
            await self._prober.sleep(min(pause, self._probe.timeout - seconds))
            pause = _longer(pause)

    def _seconds(self) -> float:
        return self._prober.clock() - self._begun


def _is_due(side: dict[str, Any] | None) -> bool:
    """Whether a receipt says that this side has it, or will soon."""
    return side is not None and side["state"] in ("pending", "delivered")


def _values(id: str, at: int) -> dict[str, str]:
    seconds = at // 10**9
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {
        "id": id,
        "time": f"{moment}.{at % 10**9 // 1000:06d}Z",
        "time_s": str(seconds),
        "time_ms": str(at // 10**6),
        "time_us": str(at // 1000),
        "time_ns": str(at),
    }


def _longer(pause: float) -> float:
    return min(1.5 * pause, LONGEST_PAUSE)
