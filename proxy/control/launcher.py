"""The launcher: the instance's first process. Holds the sockets; starts, reaps, restarts and stops the others.

    launcher --+-- ledger       SIGTERM second: after the workers have handed over everything
               +-- supervisor   SIGUSR1 first (not ready any more), SIGTERM last
               +-- worker 0..N  SIGTERM first: finish what is in flight, flush to the ledger
               +-- checker      SIGTERM first; where stores or answers are compared

Nothing else is decided here: this process must never need an upgrade or a fix while traffic flows.
Each child is a process group of its own, so that Ctrl-C in a terminal reaches the launcher alone and the
order above holds. When the launcher dies by force, the lifeline's end tells the children.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

import proxy
from config.model import Settings
from proxy.control import descriptors
from proxy.control.holdings import Holdings
from proxy.control.inherit import EXIT_REFUSED
from proxy.control.logs import one_line, setup_logging
from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)

BACKOFF_FIRST: Final = 0.05
BACKOFF_MAX: Final = 2.0
BACKOFF_RESET: Final = 10.0
"""Seconds: first wait before a restart, doubled up to the longest; a life this long starts anew."""
MARGIN: Final = 5.0
"""Seconds beyond `stop_grace` until a child that does not stop is killed."""
SAME_REQUEST: Final = 1.0
"""Seconds in which another SIGTERM or SIGINT is the first one again: Ctrl-C and a service manager often send both."""
STRANGERS_EVERY: Final = 5.0
"""Seconds between two looks for orphans that the kernel gave to process 1."""
MODULES: Final = ("proxy.worker.ledger_process", "proxy.control.supervisor", "proxy.worker", "consistency.live")
_ROOT: Final = str(Path(proxy.__file__).resolve().parent.parent)


@dataclass
class Child:
    """One process that shall always run. arguments: after the interpreter; descriptors: inherited."""

    name: str
    arguments: tuple[str, ...]
    descriptors: tuple[int, ...]
    backoff: float = BACKOFF_FIRST
    started_at: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_running(self) -> bool:
        """Started and not reaped yet."""
        return self.process is not None

    def signal(self, number: int) -> None:
        """Send a signal if it runs."""
        if self.process is not None:
            self.process.send_signal(number)


def children_of(holdings: Holdings, modules: Sequence[str] | None = None) -> list[Child]:
    """The processes of an instance, in the order in which they start.

    modules: ledger, supervisor, worker and checker modules; tests give stand-ins.
    """
    ledger, supervisor, worker, checker = modules or MODULES
    shared = (holdings.config_fd, holdings.marks_fd, holdings.lifeline_fd, holdings.ready_fd)
    listeners = tuple(each.fileno() for each in holdings.sockets)
    # The ledger holds the lock too: as long as there is a writer of the record, no other instance starts.
    # Workers alone hold the listeners: when we are killed, the port is free as soon as they stop.
    return [
        Child("ledger", ("-m", ledger), (*shared, holdings.lock_fd)),
        Child("supervisor", ("-m", supervisor), shared),
        *(
            Child(f"worker {index}", ("-m", worker, "--index", str(index)), (*shared, *listeners))
            for index in range(holdings.settings.workers)
        ),
        *([Child("checker", ("-m", checker), shared)] if holdings.settings.needs_checker else []),
    ]


def environment_of(holdings: Holdings) -> dict[str, str]:
    """A child's environment; `proxy.control.inherit` says what each name means."""
    path = os.environ.get("PYTHONPATH", "")
    return os.environ | {
        "PYTHONPATH": f"{_ROOT}{os.pathsep}{path}" if path else _ROOT,
        "CROSSFADE_CONFIG_PATH": str(holdings.config_path),
        "CROSSFADE_CONFIG_FD": str(holdings.config_fd),
        "CROSSFADE_MARKS_FD": str(holdings.marks_fd),
        "CROSSFADE_LISTEN_FDS": ",".join(str(each.fileno()) for each in holdings.sockets),
        "CROSSFADE_LIFELINE_FD": str(holdings.lifeline_fd),
        "CROSSFADE_READY_FD": str(holdings.ready_fd),
        "CROSSFADE_LAUNCHER_PID": str(os.getpid()),
        "CROSSFADE_STARTED_NS": str(time.time_ns()),
    }


class Launcher:
    """Keeps the children of one instance running until it is told to stop."""

    def __init__(
        self,
        holdings: Holdings,
        modules: Sequence[str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holdings = holdings
        self._clock = clock
        self._children = children_of(holdings, modules)
        self._environment = environment_of(holdings)
        self._stopping = False
        self._ready = False
        self._said = ""
        self.refusal = ""
        """Why a child refused to start; empty when none did."""
        self._asked_at = 0.0
        self.had_to_kill = False
        """A child did not stop by itself: what it had to finish may be undone, and a successor must look out."""
        self._stop: asyncio.Event = asyncio.Event()
        self._kill: asyncio.Event = asyncio.Event()

    async def run(self) -> int:
        """Run until stopped; the exit code: 0, 1 when a child had to be killed, 2 when one refused to start."""
        loop = asyncio.get_running_loop()
        # Ignored signals stay ignored in a new program, so an early SIGUSR1 cannot kill a young supervisor.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        loop.add_reader(self._holdings.ready_read_fd, self._on_news)
        if os.getpid() == 1:
            self._reap_strangers()
        try:
            for child in self._children:
                self._start(child)
            await self._stop.wait()
            await self._stop_all()
        finally:
            loop.remove_reader(self._holdings.ready_read_fd)
            for child in self._children:
                child.signal(signal.SIGKILL)
            # Nobody is left to stop: one signal more, as the loop takes its handlers away, must not change how we end.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        return 2 if self.refusal else 1 if self.had_to_kill else 0

    def _start(self, child: Child) -> None:
        if self._stopping:
            return
        child.gone.clear()
        child.started_at = time.monotonic()
        # Ignored in the new program until it has a handler: it is told of changed files, and must not die of that.
        heard = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            child.process = subprocess.Popen(
                # -P: a folder named `proxy` or `config` where the user stands must not shadow ours.
                (sys.executable, "-P", *child.arguments),
                env=self._environment,
                pass_fds=child.descriptors,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            log.error("%s could not be started: %s", child.name, error)
            self._restart(child)
            return
        finally:
            signal.signal(signal.SIGHUP, heard)
        log.info("%s started", child.name, extra={"child": child.process.pid})
        self._watch(child, child.process)

    def _watch(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        """Reap the process when it ends. A pidfd becomes readable then; uvloop keeps SIGCHLD for itself."""
        loop = asyncio.get_running_loop()
        descriptor = os.pidfd_open(process.pid)

        def reap() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            child.process = None
            self._on_exit(child, process.pid, process.wait())
            child.gone.set()

        loop.add_reader(descriptor, reap)

    def _reap_strangers(self) -> None:
        reap_strangers({child.process.pid for child in self._children if child.process is not None})
        asyncio.get_running_loop().call_later(STRANGERS_EVERY, self._reap_strangers)

    def _on_exit(self, child: Child, pid: int, code: int) -> None:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if self._stopping:
            log.log(logging.INFO if code == 0 else logging.WARNING, "%s %s", child.name, how, extra={"child": pid})
            return
        self._on_news()  # what it said before it ended
        if code == EXIT_REFUSED and not self._ready:
            log.error("%s refuses to start; stopping", child.name)
            self.refusal = self._said or f"{child.name} has a reason that its log tells"
            self._stop.set()
            return
        log.warning("%s %s unexpectedly", child.name, how, extra={"child": pid})
        self._restart(child)

    def _restart(self, child: Child) -> None:
        """Start it again after a wait that doubles with each short life."""
        if time.monotonic() - child.started_at >= BACKOFF_RESET:
            child.backoff = BACKOFF_FIRST
        wait, child.backoff = child.backoff, min(child.backoff * 2, BACKOFF_MAX)
        log.info("starting %s again in %g s", child.name, wait)
        asyncio.get_running_loop().call_later(wait, self._start, child)

    def _on_news(self) -> None:
        """A child said something: the supervisor `ready ADMIN`, once per its life; one that refuses why."""
        try:
            lines = os.read(self._holdings.ready_read_fd, 65536).decode(errors="replace").splitlines()
        except BlockingIOError:
            return
        for what, _, rest in (line.partition(" ") for line in lines):
            if what == "refused":
                self._said = rest
            elif what == "ready" and not self._ready:
                self._on_ready(rest)

    def _on_ready(self, tcp: str) -> None:
        """Only the first time is news."""
        self._ready = True
        clients = ", ".join(self._holdings.urls)
        admin = ", ".join([f"unix:{self._holdings.places.admin_socket}", *([tcp] if tcp else [])])
        print(f"crossfade is ready: {clients} (admin {admin})", file=sys.stderr, flush=True)

    def _on_stop(self, name: str) -> None:
        if self._stop.is_set():
            if self._clock() - self._asked_at >= SAME_REQUEST:
                log.warning("%s again: killing what still runs", name)
                self._kill.set()
            return
        log.info("%s: stopping", name)
        self._asked_at = self._clock()
        self._stop.set()

    def _on_hangup(self) -> None:
        """Certificates were renewed: everybody looks at the files now, which they do every second anyway."""
        log.info("SIGHUP: looking at the certificates' files")
        for child in self._children:
            child.signal(signal.SIGHUP)

    async def _stop_all(self) -> None:
        """Workers and checker, then the ledger, then the supervisor; each gets its grace, then it is killed."""
        self._stopping = True
        grace = self._holdings.settings.stop_grace + MARGIN
        ledger, supervisor, *others = self._children
        supervisor.signal(signal.SIGUSR1)
        # Before the workers hear of it: what is in the listeners' queues by now is accepted, nothing new gets in.
        self._holdings.stop_listening()
        await self._end(others, grace)
        await self._end([ledger], grace)
        await self._end([supervisor], MARGIN)

    async def _end(self, children: list[Child], grace: float) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        everyone_gone = asyncio.create_task(self._all_gone(children))
        told_to_kill = asyncio.create_task(self._told_to_kill())
        await asyncio.wait((everyone_gone, told_to_kill), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        told_to_kill.cancel()
        for child in children:
            if child.is_running:
                log.warning("%s did not stop in time: killing it", child.name)
                self.had_to_kill = True
                child.signal(signal.SIGKILL)
        await everyone_gone

    async def _all_gone(self, children: list[Child]) -> None:
        for child in children:
            if child.is_running:
                await child.gone.wait()

    async def _told_to_kill(self) -> None:
        await self._kill.wait()


def reap_strangers(ours: set[int]) -> None:
    """Reap orphans that the kernel gave to process 1, but none of our own children."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in ours:
            return
        os.waitpid(ended.si_pid, 0)


def launch(settings: Settings, path: Path, *, modules: Sequence[str] | None = None) -> int:
    """Run an instance until it is stopped; the process's exit code.

    path: the configuration file; modules: see `children_of`. Returns 0 after a graceful stop, 1 after one by force,
    2 when something refuses to start: the last line on stderr says why then, and nothing was overwritten.
    """
    setup_logging(settings.log, "launcher")
    descriptors.raise_limit()
    try:
        holdings = Holdings(settings, path)
    except RefuseToStart as refusal:
        _say_refusal(str(refusal))
        return 2
    try:
        launcher = Launcher(holdings, modules)
        code = uvloop.run(launcher.run())
        if not launcher.had_to_kill:
            holdings.stopped_cleanly()
        if launcher.refusal:
            _say_refusal(launcher.refusal)
        return code
    finally:
        holdings.close()


def _say_refusal(reason: str) -> None:
    """For people, whatever the log's format; nothing comes after it."""
    print(f"crossfade refuses to start: {one_line(reason)}", file=sys.stderr, flush=True)
