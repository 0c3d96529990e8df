"""The processes of an instance: started, heard, reaped, and started again when they die.

Child    a place that shall always be filled: the ledger, worker 0, worker 1 ...
Life     one process: it stands by, serves, is relieved, ends (`proxy.control.duty`)
Outfit   what lives get: code, settings, descriptors; a switch makes another one

standby --go--> serving --relieve--> standby (relieved) --dismiss--> gone
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from proxy.control.crew_state import Deaths
from proxy.control.duty import GO, GO_AFTER, relief_of
from proxy.control.inherit import EXIT_REFUSED
from proxy.control.outfit import Outfit

log = logging.getLogger(__name__)

BACKOFF_FIRST: Final = 0.05
BACKOFF_MAX: Final = 2.0
BACKOFF_RESET: Final = 10.0
"""Seconds: first wait before a restart, doubled up to the longest; a life this long starts anew."""
LOOPS_AFTER: Final = 5
"""Short lives in a row after which a process counts as crash-looping."""
MODULES: Final = {
    "ledger": "proxy.worker.ledger_process",
    "supervisor": "proxy.control.supervisor",
    "worker": "proxy.worker",
    "checker": "consistency.live",
}


@dataclass(eq=False)
class Life:
    """One process. duty_fd: to tell it to begin, -1 once it is dismissed."""

    name: str
    kind: str
    pid: int
    duty_fd: int
    popen: subprocess.Popen[bytes] | None = None
    on_trial: bool = False
    """Its place is not its own yet: whoever put it there looks after it."""
    was_told: bool = False
    """It was told to begin, and not relieved since."""
    is_ending: bool = False
    """It was told to stop for good."""
    code: int | None = None
    refused: str = ""
    standby: asyncio.Event = field(default_factory=asyncio.Event)
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def runs(self) -> bool:
        """It has not been reaped, so nobody else has its number."""
        return self.code is None

    def signal(self, number: int) -> None:
        """Send a signal while it runs."""
        if self.runs:
            os.kill(self.pid, number)

    def go(self, *, after: bool = False) -> None:
        """It may begin. after: in the place of a worker that serves still."""
        self.was_told = True
        self.standby.clear()
        with suppress(OSError):  # it died: whoever waits for it sees that
            os.write(self.duty_fd, GO_AFTER if after else GO)

    def relieve(self) -> None:
        """Stop in order, and stand by."""
        self.was_told = False
        self.serving.clear()
        self.standby.clear()
        self.signal(relief_of(self.kind))

    def dismiss(self) -> None:
        """Nobody needs it any more: it ends once it stands by."""
        if self.duty_fd >= 0:
            os.close(self.duty_fd)
            self.duty_fd = -1

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if self.code is None:
            return "runs"
        if self.refused:
            return f"refused: {self.refused}"
        return f"killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"exited with {self.code}"


@dataclass(eq=False)
class Child:
    """A place that shall always be filled. short_lives: how many in a row ended soon; died: how often one did."""

    kind: str
    index: int
    module: str
    outfit: Outfit
    backoff: float = BACKOFF_FIRST
    started_at: float = 0.0
    short_lives: int = 0
    died: int = 0
    last_end: str = ""
    life: Life | None = None
    restart: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"worker {self.index}" if self.kind == "worker" else self.kind

    @property
    def is_running(self) -> bool:
        """Started and not reaped yet."""
        return self.life is not None and self.life.runs

    @property
    def loops(self) -> bool:
        """It dies soon after each start."""
        return self.short_lives >= LOOPS_AFTER

    def signal(self, number: int) -> None:
        """Send a signal if it runs."""
        if self.life is not None:
            self.life.signal(number)

    def lived(self) -> bool:
        """Note that it has lived long enough; true when it counted as crash-looping until now."""
        looped = self.loops
        if self.is_running and time.monotonic() - self.started_at >= BACKOFF_RESET:
            self.backoff, self.short_lives = BACKOFF_FIRST, 0
        return looped and not self.loops


class Listener(Protocol):
    """Is told what becomes of the processes."""

    def is_refusal_final(self, child: Child, reason: str) -> bool:
        """A child refuses to start: true when everything ends for that, so that it is not started again."""

    def supervisor_ready(self, tcp: str) -> None:
        """Traffic may come. tcp: where the admin API is on TCP, or empty."""

    def crew_changed(self) -> None:
        """Who lives, who died or who keeps dying is not as before."""

    def had_to_be_killed(self) -> None:
        """A process did not end in time, and what it had to finish may be undone."""


class Crew:
    """All processes of an instance. ready_read_fd: what they say is read there."""

    def __init__(self, listener: Listener, ready_read_fd: int) -> None:
        self._listener = listener
        self._ready_read_fd = ready_read_fd
        self.children: list[Child] = []
        self.leaving: set[Life] = set()
        """Lives without a place: on their way out, or waiting for what becomes of a successor."""
        self.is_stopping = False

    def of(self, kind: str) -> list[Child]:
        """The places of a kind, by their index."""
        return sorted((child for child in self.children if child.kind == kind), key=lambda child: child.index)

    def lives(self) -> Iterator[Life]:
        """Every process that has not been reaped."""
        yield from (child.life for child in self.children if child.life is not None and child.life.runs)
        yield from self.leaving

    def deaths(self) -> list[Deaths]:
        """Those that have died, for `proxy.control.crew_state`."""
        return [
            Deaths(child.name, child.died, child.short_lives, child.loops, child.last_end)
            for child in self.children
            if child.died
        ]

    # --- hearing -------------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Read what the processes said: `proxy.control.inherit` lists it."""
        try:
            lines = os.read(self._ready_read_fd, 65536).decode(errors="replace").splitlines()
        except BlockingIOError:
            return
        for what, _, rest in (line.partition(" ") for line in lines):
            if what == "ready":
                self._listener.supervisor_ready(rest)
            elif what == "refused":
                pid, _, reason = rest.partition(" ")
                if (life := self._life(pid)) is not None:
                    life.refused = reason
            elif what in ("standby", "serving") and (life := self._life(rest.rpartition(" ")[2])) is not None:
                (life.standby if what == "standby" else life.serving).set()

    def _life(self, pid: str) -> Life | None:
        return next((life for life in self.lives() if str(life.pid) == pid), None)

    # --- starting ------------------------------------------------------------------------------------------

    def start(self, child: Child) -> None:
        """Fill a place; when that fails it is tried again."""
        child.restart = None
        if self.is_stopping:
            return
        child.started_at = time.monotonic()
        try:
            child.life = self.launch(child, child.outfit)
        except OSError as error:
            log.error("%s could not be started: %s", child.name, error)
            self._again(child)
            return
        child.life.go()
        if child.short_lives:
            asyncio.get_running_loop().call_later(BACKOFF_RESET + 0.1, self._look, child)
        self._listener.crew_changed()

    def _look(self, child: Child) -> None:
        if child.lived():
            log.info("%s has lived for %g s: it does not keep dying any more", child.name, BACKOFF_RESET)
            self._listener.crew_changed()

    def launch(self, child: Child, outfit: Outfit) -> Life:
        """A new process that stands by, for a place that it has not got yet; raises OSError."""
        reading, writing = os.pipe()
        environment = dict(outfit.environment) | {"CROSSFADE_DUTY_FD": str(reading)}
        arguments = ("--index", str(child.index)) if child.kind == "worker" else ()
        try:
            popen = subprocess.Popen(
                outfit.code.command("-m", child.module, *arguments),
                env=environment,
                pass_fds=(*outfit.for_kind(child.kind), reading),
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        life = Life(child.name, child.kind, popen.pid, writing, popen)
        log.info("%s started", child.name, extra={"child": life.pid})
        try:
            self.watch(child, life)
        except OSError:  # no descriptor: nobody would see it end
            popen.kill()
            popen.wait()
            life.dismiss()
            raise
        return life

    def watch(self, child: Child, life: Life) -> None:
        """Reap the process when it ends. A pidfd becomes readable then; uvloop keeps SIGCHLD for itself."""
        loop = asyncio.get_running_loop()
        descriptor = os.pidfd_open(life.pid)

        def reap() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self.hear()  # what it said before it ended
            _, status = os.waitpid(life.pid, 0)
            life.code = os.waitstatus_to_exitcode(status)
            if life.popen is not None:
                life.popen.returncode = life.code
            life.dismiss()
            self.leaving.discard(life)
            self._ended(child, life)
            life.gone.set()
            self._listener.crew_changed()

        loop.add_reader(descriptor, reap)

    # --- dying ---------------------------------------------------------------------------------------------

    def _ended(self, child: Child, life: Life) -> None:
        extra = {"child": life.pid}
        if self.is_stopping or child.life is not life:
            log.log(logging.INFO if life.code == 0 else logging.WARNING, "%s %s", life.name, life.how, extra=extra)
            return
        child.life = None
        if life.code == EXIT_REFUSED and self._listener.is_refusal_final(child, life.refused):
            return
        child.died += 1
        child.last_end = life.how
        log.warning("%s %s unexpectedly", life.name, life.how, extra=extra)
        if not life.on_trial:
            self._again(child)

    def _again(self, child: Child) -> None:
        """Start it again after a wait that doubles with each short life."""
        if time.monotonic() - child.started_at >= BACKOFF_RESET:
            child.backoff, child.short_lives = BACKOFF_FIRST, 0
        child.short_lives += 1
        if child.short_lives == LOOPS_AFTER:
            log.error(
                "%s keeps dying: %d short lives in a row, the last one %s", child.name, LOOPS_AFTER, child.last_end
            )
        wait, child.backoff = child.backoff, min(child.backoff * 2, BACKOFF_MAX)
        log.info("starting %s again in %g s", child.name, wait)
        child.restart = asyncio.get_running_loop().call_later(wait, self.start, child)

    def cancel_restart(self, child: Child) -> None:
        """Somebody else fills this place."""
        if child.restart is not None:
            child.restart.cancel()
            child.restart = None

    def let_go(self, life: Life, limit: float) -> None:
        """A life without a place ends when it has drained, and is killed if it has not in `limit` seconds."""
        life.dismiss()
        asyncio.get_running_loop().call_later(limit, self._cut, life)

    def _cut(self, life: Life) -> None:
        if life.runs:
            log.warning("%s did not drain in time: killing it", life.name)
            life.signal(signal.SIGKILL)
            self._listener.had_to_be_killed()

    async def settle(self, kind: str, grace: float, hurry: asyncio.Event | None = None) -> list[Life]:
        """Let one serve of a kind of which only one does, where a switch was left between two of them.

        One that was told to stop has to end first: grace seconds, or until told to hurry; those that were killed.
        """
        (child,) = self.of(kind)
        killed = await self.end([life for life in self.lives() if life.kind == kind and life.is_ending], grace, hurry)
        self._fill(child)
        return killed

    def _fill(self, child: Child) -> None:
        kind = child.kind
        lives = [life for life in self.lives() if life.kind == kind and not life.is_ending and life.duty_fd >= 0]
        if any(life.was_told for life in lives):
            return
        self.cancel_restart(child)
        if not lives:
            self.start(child)
            return
        life = child.life if child.life in lives else lives[0]
        if child.life is not None and child.life is not life and child.life.runs:
            self.leaving.add(child.life)
        child.life = life
        self.leaving.discard(life)
        life.on_trial = False
        life.go()  # one that is on its way to stand by hears it then

    # --- ending --------------------------------------------------------------------------------------------

    async def end(self, lives: Sequence[Life], grace: float, hurry: asyncio.Event | None = None) -> list[Life]:
        """Ask processes to stop, and kill those that have not after `grace` seconds or when told to; those killed."""
        for life in lives:
            life.is_ending = True
            if life.was_told or not life.standby.is_set():  # else it waits, and ends by being dismissed
                life.signal(signal.SIGTERM)
            life.dismiss()
        waiting = [asyncio.ensure_future(life.gone.wait()) for life in lives if life.runs]
        if waiting:
            everyone = asyncio.ensure_future(asyncio.wait(waiting))
            hurried = asyncio.ensure_future((hurry or asyncio.Event()).wait())
            try:
                await asyncio.wait((everyone, hurried), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurried.cancel()
                everyone.cancel()
        killed = [life for life in lives if life.runs]
        for life in killed:
            log.warning("%s did not stop in time: killing it", life.name)
            life.signal(signal.SIGKILL)
        for life in killed:
            await life.gone.wait()
        for each in waiting:
            each.cancel()
        return killed
