"""The launcher: the instance's first process. Holds the sockets; starts, reaps, restarts and stops the others.

    launcher --+-- ledger       SIGTERM second: after the workers have handed over everything
               +-- supervisor   SIGUSR1 first (not ready any more), SIGTERM last
               +-- worker 0..N  SIGTERM first: finish what is in flight, flush to the ledger
               +-- checker      SIGTERM first; where stores or answers are compared

    SIGTERM, SIGINT   stop everything in order; again after a second: kill what still runs. SIGTERM takes new clients
                      for `drain.accept_for` first, until it comes again
    SIGUSR2           upgrade: the code on disk takes over, process by process, this one last (`proxy.control.switch`)
    SIGHUP            reload: look at the configuration's file, and at those of certificates

Nothing else is decided here: what a switch is to do is found by a short-lived process of the new code.
Each child is a process group of its own, so that Ctrl-C in a terminal reaches the launcher alone and the
order above holds. When the launcher dies by force, the lifeline's end tells the children.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvloop

from config.model import Settings
from proxy.control import baton, crew_state, descriptors, service_manager, succession, switch_state
from proxy.control.baton import Baton
from proxy.control.code_place import NAMED, CodePlace
from proxy.control.crew import MODULES, Child, Crew, Life
from proxy.control.holdings import Holdings
from proxy.control.logs import one_line, setup_logging
from proxy.control.outfit import Outfit, outfit_of
from proxy.control.plan import Plan
from proxy.control.preflight_call import ask
from proxy.control.switch import MARGIN, Switch
from proxy.control.switch_state import SwitchState
from proxy.control.version import VERSION
from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)

SAME_REQUEST: Final = 1.0
"""Seconds in which another SIGTERM or SIGINT is the first one again: Ctrl-C and a service manager often send both."""
TO_BE_HEARD: Final = 1.0
"""Seconds that a switch's end stands before a reload that was asked for meanwhile begins."""
_QUEUE_SECONDS: Final = 0.25
"""How long workers have to accept who has connected before nobody else may."""
STRANGERS_EVERY: Final = 5.0
"""Seconds between two looks for orphans that the kernel gave to process 1."""


class Launcher:
    """Keeps the processes of one instance running until it is told to stop.

    modules: by kind, what they are started by; tests give stand-ins. before: of the launcher that this one was.
    """

    def __init__(
        self,
        holdings: Holdings,
        modules: Mapping[str, str] | None = None,
        *,
        before: Baton | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holdings = holdings
        self._clock = clock
        self._modules = dict(modules or MODULES)
        self._before = before
        self._started_ns = before.started_ns if before is not None else time.time_ns()
        self._ready = before.is_ready if before is not None else False
        self._state = before.switch if before is not None else SwitchState(0, "", "ended", 0.0)
        self._pythonpath = before.pythonpath if before is not None else os.environ.get("PYTHONPATH", "")
        self._crew = Crew(self, holdings.ready_read_fd)
        self._switching: asyncio.Task[None] | None = None
        self._manager = service_manager.Notifier.from_environment()
        self.refusal = ""
        """Why a child refused to start; empty when none did."""
        self._asked_at = 0.0
        self._accept_for = 0.0
        self._accepted_enough: asyncio.Event = asyncio.Event()
        self._look_again = before.look_again if before is not None else False
        """SIGHUP came while nothing could come of it."""
        self.had_to_kill = before.had_to_kill if before is not None else False
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
        loop.add_signal_handler(signal.SIGUSR2, self.request, "upgrade")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, baton.BLOCKED)
        loop.add_reader(self._holdings.ready_read_fd, self._crew.hear)
        if os.getpid() == 1:
            self._reap_strangers()
        self._manager.start(loop)
        try:
            self._begin()
            await self._stop.wait()
            await self._stop_all()
        finally:
            loop.remove_reader(self._holdings.ready_read_fd)
            for life in list(self._crew.lives()):
                life.signal(signal.SIGKILL)
            # Nobody is left to stop: one signal more, as the loop takes its handlers away, must not change how we end.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        return 2 if self.refusal else 1 if self.had_to_kill else 0

    def _begin(self) -> None:
        """Start everybody, or go on with those whom the launcher before this one had."""
        outfit = self._outfit()
        if self._before is None:
            self._go_on_counting()
            self._crew.children = children_of(self._holdings, outfit, self._modules)
            for child in self._crew.children:
                self._crew.start(child)
            return
        baton.adopt(self._crew, self._before, outfit)
        for life in self._crew.leaving:
            self._crew.let_go(life, self._holdings.terms.drain_timeout + self._holdings.terms.stop_grace + MARGIN)
        self._state.version_after = VERSION
        self._end_switch("done")
        log.info("this launcher goes on as version %s", VERSION)
        self._look_soon()

    def _go_on_counting(self) -> None:
        """Switches are counted over an instance's lives; one that was under way when the last one ended has failed."""
        last = switch_state.read(self._holdings.places.switch)
        if last is not None:
            self._state = last
            if last.runs:
                self._end_switch("failed", "the instance ended while it was under way")
        self.crew_changed()

    def _code_for(self, kind: str) -> CodePlace:
        """Another configuration does not bring other code with it, which may lie there by now and is not asked for."""
        return NAMED if kind == "upgrade" else self._crew.children[0].outfit.code

    def _outfit(
        self, config_fd: int | None = None, listeners: list[int] | None = None, code: CodePlace = NAMED
    ) -> Outfit:
        """What processes get that are started from now on."""
        return outfit_of(
            self._holdings,
            code,
            started_ns=self._started_ns,
            pythonpath=self._pythonpath,
            config_fd=config_fd,
            listeners=listeners,
        )

    def _reap_strangers(self) -> None:
        # While a switch runs there are children that only it knows of; orphans can wait.
        if self._switching is None or self._switching.done():
            reap_strangers({life.pid for life in self._crew.lives()})
        asyncio.get_running_loop().call_later(STRANGERS_EVERY, self._reap_strangers)

    # --- what the crew says --------------------------------------------------------------------------------

    def is_refusal_final(self, child: Child, reason: str) -> bool:
        """Before the instance was ready a refusal ends it; later it is a crash."""
        if self._ready:
            return False
        log.error("%s refuses to start; stopping", child.name)
        self.refusal = reason or f"{child.name} has a reason that its log tells"
        self._stop.set()
        return True

    def supervisor_ready(self, tcp: str) -> None:
        """Only the first time is news."""
        if self._stop.is_set():  # one that was started anew while we drain
            self._say_not_ready()
        if self._ready:
            return
        self._ready = True
        clients = ", ".join(self._holdings.urls)
        admin = ", ".join([f"unix:{self._holdings.places.admin_socket}", *([tcp] if tcp else [])])
        print(f"crossfade is ready: {clients} (admin {admin})", file=sys.stderr, flush=True)
        self._manager.ready(f"serving {clients}")
        self._look_if_asked()

    def crew_changed(self) -> None:
        """Tell the supervisor who keeps dying."""
        try:
            crew_state.write(self._holdings.places.crew, self._crew.deaths())
        except OSError as error:
            log.warning("cannot write %s: %s", self._holdings.places.crew, error)

    def had_to_be_killed(self) -> None:
        """The successor of this instance must look out."""
        self.had_to_kill = True

    # --- switching -----------------------------------------------------------------------------------------

    def request(self, kind: str) -> None:
        """Begin an upgrade or a reload, unless something else is under way."""
        why = ""
        if self._stop.is_set():
            why = "the instance is stopping"
        elif self._switching is not None and not self._switching.done():
            why = f"{self._state.kind} {self._state.number} is still running ({self._state.phase})"
        elif not self._ready:
            why = "the instance has not started yet"
        if why:
            log.warning("%s refused: %s", kind, why)
            self._state.refused_again += 1
            self._tell_state()
            return
        last, self._state.before = self._state, None
        self._state = SwitchState(
            last.number + 1,
            kind,
            "checking",
            time.time(),
            version_before=VERSION,
            version_after=VERSION,
            before=last if last.number else None,
        )
        self._switching = asyncio.get_running_loop().create_task(self._switch(kind))
        self._switching.add_done_callback(lambda _: self._look_soon())

    def _look_soon(self) -> None:
        """Whoever asked for the switch that has just ended is to hear of it before another one begins."""
        asyncio.get_running_loop().call_later(TO_BE_HEARD, self._look_if_asked)

    async def _switch(self, kind: str) -> None:
        """Find out what is to be done, do it, and become the new code."""
        log.info("%s %d begins", kind, self._state.number)
        self._tell_state()
        self._manager.reloading()
        config_fd = os.memfd_create("crossfade-config")
        try:
            outfit = self._outfit(code=self._code_for(kind))
            found = await ask(
                kind,
                outfit.code,
                outfit.environment,
                self._holdings.config_fd,
                list(self._modules.values()),
                config_fd,
                self._holdings.terms.upgrade_timeout,
            )
            self._state.version_after = found.version or VERSION
            if found.plan is None:
                self._end_switch("refused", found.refused or "the new code says nothing")
            else:
                self._state.detail = found.plan.detail
                if await self.switch(found.plan, config_fd) and kind == "upgrade":
                    await self._become_new()
        except Exception as error:
            log.exception("%s failed", kind)
            self._end_switch("failed", f"{type(error).__name__}: {error}")
        # Where a stop ends the switch, it stays: successors may be started with it until the end.
        if config_fd != self._holdings.config_fd:
            os.close(config_fd)

    async def switch(self, plan: Plan, config_fd: int) -> bool:
        """Do what a plan says with the settings in a memfd; false when nothing came of it, and all is as before."""
        holdings = self._holdings
        try:
            listeners = holdings.listeners_for(plan.terms.listen)
        except RefuseToStart as refusal:
            self._end_switch("refused", str(refusal))
            return False
        fds = [each.socket.fileno() for each in listeners]
        outfit = self._outfit(config_fd, fds, self._code_for(plan.kind))
        switch = Switch(self._crew, outfit, plan, holdings.terms, self._modules, self._state, self._tell_state)
        if not await switch.run():
            holdings.drop(listeners)
            self._end_switch(self._state.result or "put-back", self._state.reason)
            return False
        holdings.take(plan.terms, config_fd, listeners)
        switch.commit()
        for child in self._crew.children:
            child.outfit = outfit
        if plan.kind != "upgrade":
            self._end_switch("done")
        return True

    async def _become_new(self) -> None:
        """Replace this program by the new one; when that cannot be, this one goes on."""
        self._state.phase = "launcher"
        self._tell_state()
        timeout = self._holdings.terms.upgrade_timeout
        why = await succession.become_new(
            self._baton, self._pythonpath, timeout, is_wanted=lambda: not self._stop.is_set()
        )
        if why:
            self._end_switch("failed", f"all other processes are new, but the launcher stays: {why}")

    def _baton(self) -> Baton:
        """What the next launcher needs."""
        children, leaving = baton.hold(self._crew)
        return Baton(
            version=VERSION,
            pid=os.getpid(),
            started_ns=self._started_ns,
            path=str(self._holdings.config_path),
            pythonpath=self._pythonpath,
            is_ready=self._ready,
            had_to_kill=self.had_to_kill,
            modules=self._modules,
            terms=self._holdings.terms,
            held=self._holdings.held,
            children=children,
            leaving=leaving,
            switch=self._state,
            look_again=self._look_again,
        )

    def _end_switch(self, result: switch_state.Result, reason: str = "") -> None:
        state = self._state
        state.phase, state.result, state.reason, state.ended_at = "ended", result, reason, time.time()
        level = logging.INFO if result == "done" else logging.ERROR
        log.log(level, "%s %d: %s%s", state.kind, state.number, result, f": {reason}" if reason else "")
        self._tell_state()
        self._manager.ready("")

    def _tell_state(self) -> None:
        try:
            switch_state.write(self._holdings.places.switch, self._state)
        except OSError as error:
            log.warning("cannot write %s: %s", self._holdings.places.switch, error)

    # --- stopping ------------------------------------------------------------------------------------------

    def _on_stop(self, name: str) -> None:
        if self._stop.is_set():
            if self._clock() - self._asked_at < SAME_REQUEST:
                return
            self._asked_at = self._clock()
            if self._accept_for and not self._accepted_enough.is_set():
                log.info("%s again: no further clients", name)
                self._accepted_enough.set()
            else:
                log.warning("%s again: killing what still runs", name)
                self._kill.set()
            return
        log.info("%s: stopping", name)
        self._asked_at = self._clock()
        # Nobody sends clients to a terminal.
        self._accept_for = self._holdings.terms.accept_for if name == "SIGTERM" and self._ready else 0.0
        self._stop.set()

    def _on_hangup(self) -> None:
        """The configuration is looked at, and certificates, which everybody does every second anyway."""
        log.info("SIGHUP: looking at the files")
        self._look_again = True
        self._look_if_asked()
        for life in self._crew.lives():
            if life.serving.is_set():  # a younger one looks at its start, and might not hear it yet
                life.signal(signal.SIGHUP)

    def _look_if_asked(self) -> None:
        """Reload if SIGHUP came, as soon as that can be."""
        is_busy = self._switching is not None and not self._switching.done()
        if self._look_again and self._ready and not is_busy and not self._stop.is_set():
            self._look_again = False
            self.request("reload")

    def _say_not_ready(self) -> None:
        for life in self._of("supervisor"):
            life.signal(signal.SIGUSR1)

    async def _stop_all(self) -> None:
        """Workers and checker, then the ledger, then the supervisor; each gets its grace, then it is killed."""
        self._manager.stopping()
        if self._switching is not None:
            self._switching.cancel()
            await asyncio.wait((self._switching,))
        grace = self._holdings.terms.stop_grace + MARGIN
        if not self.refusal:  # else there is one that cannot start, and nobody who needs it
            for kind in ("ledger", "supervisor"):
                if await self._crew.settle(kind, grace, self._kill):  # workers have records for it
                    self.had_to_kill = True
        self._say_not_ready()
        if self._accept_for:
            log.info("not ready any more; new clients are taken for %g s", self._accept_for)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._accept_for):
                    await self._accepted_enough.wait()
        self._crew.is_stopping = True
        # Before the workers hear of it: they accept what is in the listeners' queues, then nothing new gets in.
        await self._holdings.emptied(_QUEUE_SECONDS)
        self._holdings.stop_listening()
        await self._end(self._of("worker", "checker"), grace)
        await self._end(self._of("ledger"), grace)
        await self._end(self._of("supervisor"), MARGIN)

    def _of(self, *kinds: str) -> list[Life]:
        return [life for life in self._crew.lives() if life.kind in kinds]

    async def _end(self, lives: list[Life], grace: float) -> None:
        if await self._crew.end(lives, grace, self._kill):
            self.had_to_kill = True


def children_of(holdings: Holdings, outfit: Outfit, modules: Mapping[str, str]) -> list[Child]:
    """The places of an instance, in the order in which they are filled."""
    terms = holdings.terms
    return [
        Child("ledger", 0, modules["ledger"], outfit),
        Child("supervisor", 0, modules["supervisor"], outfit),
        *(Child("worker", index, modules["worker"], outfit) for index in range(terms.workers)),
        *([Child("checker", 0, modules["checker"], outfit)] if terms.needs_checker else []),
    ]


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


def launch(settings: Settings, path: Path, *, modules: Mapping[str, str] | None = None) -> int:
    """Run an instance until it is stopped; the process's exit code.

    path: the configuration file; modules: see `Launcher`. Returns 0 after a graceful stop, 1 after one by force,
    2 when something refuses to start: the last line on stderr says why then, and nothing was overwritten.
    """
    setup_logging(settings.log, "launcher")
    # These would end a program that does not listen to them yet; what comes now is heard when it does.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR2))
    descriptors.raise_limit()
    try:
        holdings = Holdings(settings, path, activated=service_manager.passed_sockets())
    except RefuseToStart as refusal:
        _say_refusal(str(refusal))
        return 2
    return keep_running(holdings, modules)


def keep_running(holdings: Holdings, modules: Mapping[str, str] | None, before: Baton | None = None) -> int:
    """Run the launcher to its end; the exit code, as of `launch`. before: what another launcher handed over."""
    try:
        launcher = Launcher(holdings, modules, before=before)
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
