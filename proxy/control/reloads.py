"""What stands against another configuration, who asked for it, and when the file is looked at by itself.

    proxyctl reload --> ask() --+
    the file changed -----------+-- SIGHUP --> launcher: a look at the file --ProposeSettings--> decide() --> Decided
    somebody's SIGHUP ----------+

What is decided is written down first: what is refused in the audit trail, what is approved in `configuration.json`,
from where the supervisor that follows has it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from proxy.control.audit import Entry, iso
from proxy.control.changes import Who
from proxy.control.configuration import Asked, Trouble, read_text, text_digest
from proxy.control.instance import Instance
from proxy.control.link import Decided, ProposeSettings
from proxy.control.peers import Peer
from proxy.control.problems import Problem
from proxy.control.switch_state import SwitchState
from proxy.control.views import ConfigView, FileErrorView, KeyChangeView, LastSwitch, ReloadView, TroubleView
from proxy.core.errors import BadChange
from proxy.core.routing import with_stage

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at a file that is watched; one that was changed must be the same at the next look."""
LOOK_WAIT: Final = 18.0
"""Seconds that somebody who asks waits for the file to be looked at; proxyctl waits for 20 s."""
_SIGNAL: Final = Who("SIGHUP")
_WATCH: Final = Who("file watch", "the file was changed")

Signature = tuple[int, int, int]


@dataclass(frozen=True)
class _Pending:
    """Somebody asked, and the next proposal is the answer. outcome: set by it; None where nobody waits."""

    who: Who
    leave_owed: bool = False
    outcome: asyncio.Future[ReloadView] | None = None


class Reloads:
    """Of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._pending: _Pending | None = None
        self._deciding: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    def _hang_up(self) -> None:
        """The launcher has the file looked at, now or after the switch that runs."""
        self._instance.ask_launcher(signal.SIGHUP)

    # --- looking -------------------------------------------------------------------------------------------

    def view(self) -> ConfigView:
        """What is served."""
        instance, served = self._instance, self._instance.configuration
        settings = instance.settings
        return ConfigView(
            file=str(served.file),
            digest=served.digest,
            loaded_at=served.loaded,
            epoch=instance.epoch,
            actor=served.actor or None,
            reason=served.reason or None,
            workers=instance.peers.serving(served.digest),
            of=settings.workers,
            reload=settings.reload,
            trouble=trouble_view(served.trouble),
            switch=last_switch(instance.switches.state),
            settings=served.shown(),
        )

    async def would(self, who: Who, *, leave_owed: bool) -> ReloadView:
        """What a reload would do now. Raises Problem 422 for a file with errors, 503 when nobody could look at it."""
        proposal = await self._looked()
        if proposal.errors:
            raise invalid(proposal)
        return self._view(proposal, list(self._against(proposal, leave_owed=leave_owed)), dry_run=who.dry_run)

    async def _looked(self) -> ProposeSettings:
        """In a process of its own, as the launcher does it."""
        inherited = [number for name, number in os.environ.items() if name == "CROSSFADE_CONFIG_FD"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "proxy.control.reload",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[int(number) for number in inherited],
        )
        try:
            async with asyncio.timeout(LOOK_WAIT):
                said, troubles = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Problem(503, f"the file could not be looked at within {LOOK_WAIT:g} s") from None
        try:
            return msgspec.msgpack.decode(said, type=ProposeSettings)
        except msgspec.DecodeError:
            log.error("the file could not be looked at: %s", troubles.decode(errors="replace")[-2000:])
            raise Problem(503, "the file could not be looked at; the supervisor's log says why") from None

    # --- asking --------------------------------------------------------------------------------------------

    async def ask(self, who: Who, *, leave_owed: bool) -> ReloadView:
        """Have the file looked at and applied; what became of it. Raises Problem."""
        if self._pending is not None and self._pending.outcome is not None:
            raise Problem(423, "somebody else has the file looked at just now; try again in a moment")
        switches = self._instance.switches
        if (state := switches.state) is None or state.kind != "reload":
            switches.check()  # another reload is waited for: the launcher keeps the request until then
        outcome: asyncio.Future[ReloadView] = asyncio.get_running_loop().create_future()
        mine = self._pending = _Pending(who, leave_owed, outcome)
        try:
            self._hang_up()
            async with asyncio.timeout(LOOK_WAIT):
                return await outcome
        except TimeoutError:
            raise Problem(
                503,
                f"the file was not looked at within {LOOK_WAIT:g} s; see proxyctl status for what is under way",
            ) from None
        finally:
            if self._pending is mine:
                self._pending = None

    # --- deciding ------------------------------------------------------------------------------------------

    def proposed(self, peer: Peer, proposal: ProposeSettings) -> None:
        """Decide, and tell the one who waits for it."""
        task = asyncio.create_task(self._answer(peer, proposal), name="decide on a configuration")
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)

    async def close(self) -> None:
        """What is being decided is."""
        await asyncio.gather(*self._deciding, return_exceptions=True)

    async def _answer(self, peer: Peer, proposal: ProposeSettings) -> None:
        pending = await self._whose(proposal)
        outcome = pending.outcome
        try:
            async with self._one_at_a_time:
                refused = await self.decide(proposal, pending.who, leave_owed=pending.leave_owed)
        except OSError as error:
            refused = [f"it could not be written down: {error.strerror or error}"]
            log.error("a configuration was not applied: %s", refused[0])
        peer.send(Decided(refused))
        if outcome is None or outcome.done():
            return
        if proposal.errors:
            outcome.set_exception(invalid(proposal))
        else:
            outcome.set_result(self._view(proposal, refused, dry_run=False))

    async def _whose(self, proposal: ProposeSettings) -> _Pending:
        """Who asked for this look. One that began before somebody asked may have read another file: his is to come."""
        if self._pending is not None and self._pending.outcome is not None:
            text = text_digest(await asyncio.to_thread(read_text, self._instance.configuration.file))
            if text != proposal.text:
                return _Pending(_SIGNAL)
        found, self._pending = self._pending or _Pending(_SIGNAL), None
        return found

    async def decide(self, proposal: ProposeSettings, who: Who, *, leave_owed: bool) -> list[str]:
        """Why it is not applied; empty when it is, or when there is nothing to apply. Raises OSError."""
        served = self._instance.configuration
        if not proposal.errors and not proposal.changes:
            await asyncio.to_thread(served.looked, proposal.text)
            return []
        refused = [str(error) for error in proposal.errors]
        if not refused:
            refused = list(self._against(proposal, leave_owed=leave_owed))
            expected = who.expected
            if expected is not None and expected != self._instance.epoch:
                refused.append(f"the epoch is {self._instance.epoch}, not {expected}: look at what changed")
        if not refused:
            asked = Asked(proposal.digest, who.actor, who.reason)
            await asyncio.to_thread(served.approve, asked, proposal.text)
            return []
        against = () if proposal.errors else refused
        if await asyncio.to_thread(served.refuse, proposal.text, proposal.errors, against):
            await self._tell_refusal(proposal, who, refused)
        return refused

    async def _tell_refusal(self, proposal: ProposeSettings, who: Who, refused: list[str]) -> None:
        epoch = self._instance.epoch
        count = f"{len(refused)} error{'s' * (len(refused) != 1)}"
        reason = f"the file has {count}" if proposal.errors else "; ".join(refused)
        log.warning("%s is not served: %s", proposal.file, reason)
        await self._instance.audit.write(
            Entry(
                at="",
                epoch=epoch,
                previous_epoch=epoch,
                actor=who.actor,
                action="reload-refused",
                reason=reason,
                evidence={"file": proposal.file, "refused": refused[:20]},
            )
        )

    def _against(self, proposal: ProposeSettings, *, leave_owed: bool) -> Iterator[str]:
        """Everything that stands against it."""
        if self._instance.draining:
            yield "the instance is draining"
        for each in proposal.changes:
            if each.kind == "fixed":
                yield f"{each.key} cannot change from {each.before} to {each.after} while an instance runs: {each.why}"
        for name in proposal.left:
            yield from self._against_leaving(name, leave_owed=leave_owed)
        for name, (stage, weight) in proposal.moved.items():
            yield from self._against_moving(name, stage, weight)

    def _against_leaving(self, name: str, *, leave_owed: bool) -> Iterator[str]:
        yield from self._held(name, "it would go")
        ledger = self._instance.tally.ledger
        if leave_owed:
            return
        if ledger is None:
            yield f"whether something is owed to {name}, which would go, is not known: the ledger is not connected"
            return
        for side in ledger.sides:
            owed = side.balance.get("pending", 0) + side.balance.get("deferred", 0)
            if side.route == name and owed:
                yield (
                    f"{owed} events of {name}, which would go, are owed to {side.backend or 'its backend'}: wait until "
                    "they are delivered, or let them stay owed with --leave-owed"
                )

    def _against_moving(self, name: str, stage: str, weight: float | None) -> Iterator[str]:
        state = self._instance.state
        before = state.routes[name].dials if state is not None and name in state.routes else None
        if before is None:
            return
        try:
            after = with_stage(before, stage, weight)
        except BadChange as error:
            yield f"{name} cannot go where the file says: {error}"
            return
        if after != before:
            yield from self._held(name, f"the file moves it to {stage}", is_lower=after.weight < before.weight)

    def _held(self, name: str, why: str, *, is_lower: bool = False) -> Iterator[str]:
        """What keeps a route as it is."""
        for each in (self._instance.freezes, self._instance.drills):
            try:
                each.allow(name, "reload", is_lower=is_lower)
            except BadChange as error:
                yield f"{error} ({why})"
        rollout = self._instance.rollouts.get(name)
        if rollout is not None and not rollout.progress.is_over:
            yield f"a rollout of {name} is under way ({why}): abort it first, or let it end"

    def _view(self, proposal: ProposeSettings, refused: list[str], *, dry_run: bool) -> ReloadView:
        return ReloadView(
            file=proposal.file,
            digest=proposal.digest,
            epoch=self._instance.epoch,
            changes=[KeyChangeView(e.key, e.before, e.after, e.kind, e.why or None) for e in proposal.changes],
            refused=refused,
            dry_run=dry_run,
            begun=bool(proposal.changes) and not refused and not dry_run,
        )

    # --- watching ------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look at the file for ever, where that is wanted; have it applied once it has changed and rests."""
        if self._instance.settings.reload != "watch":
            await asyncio.Event().wait()
        file = self._instance.configuration.file
        watched = Watched(file, self._instance.configuration.text)
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if await asyncio.to_thread(watched.look) and not self._instance.draining:
                log.info("%s has changed", file)
                self._pending = self._pending or _Pending(_WATCH)
                self._hang_up()


class Watched:
    """A file by its name: symlinks on the way may be turned, and editors put a new file in its place.

    Polled, for what is mounted by Kubernetes, NFS or FUSE tells inotify of no change, or of one in a directory that is
    gone by then. seen: digest of the content that needs no look any more.
    """

    def __init__(self, path: Path, seen: str) -> None:
        self.seen = seen
        self._path = path
        self._signature: Signature | None = None
        self._is_settled = False

    def look(self) -> bool:
        """Has it changed since `seen`, and was it the same at two looks in a row? True once for each content."""
        signature = self._sign()
        if signature is None or signature != self._signature:
            self._signature, self._is_settled = signature, False  # being written, or being replaced
            return False
        if self._is_settled:
            return False
        text = text_digest(read_text(self._path))
        if self._sign() != signature:
            return False
        self._is_settled = True
        is_new, self.seen = text != self.seen, text
        return is_new

    def _sign(self) -> Signature | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None  # away for a moment, in which it is replaced; or for good, and then nothing changes
        return found.st_mtime_ns, found.st_ino, found.st_size


def invalid(proposal: ProposeSettings) -> Problem:
    """A file with errors, as an answer."""
    count = len(proposal.errors)
    return Problem(
        422,
        f"{proposal.file} has {count} error{'s' * (count != 1)}; the configuration of before is served on",
        errors=[msgspec.to_builtins(FileErrorView(**msgspec.structs.asdict(each))) for each in proposal.errors],
    )


def last_switch(found: SwitchState | None) -> LastSwitch | None:
    """The last replacement of processes, as far as who waits for a reload has to know of it."""
    return None if found is None else LastSwitch(found.number, found.kind, found.phase, found.result, found.reason)


def trouble_view(found: Trouble | None) -> TroubleView | None:
    """Why the file is not served, as the API tells it."""
    if found is None:
        return None
    errors = [FileErrorView(**msgspec.structs.asdict(each)) for each in found.errors]
    return TroubleView(iso(found.since), errors, list(found.refused))
