"""upgrade: the code that is on the disk takes over, while traffic flows."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from proxy.cli.confirm import confirm, confirm_options
from proxy.cli.failure import FAILED, ROLLED_BACK, TIMEOUT, UNREACHABLE, USAGE, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import clean
from proxy.cli.routing import change_body
from proxy.cli.waiting import POLL, Clock

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

_CODES = {"refused": USAGE, "put-back": ROLLED_BACK, "failed": FAILED}
_HINTS = {
    "refused": "nothing was touched; install a version that can be loaded, and try again",
    "put-back": "the code before serves on; see the log of the process that failed",
    "failed": "see proxyctl status and the launcher's log; a restart of the instance starts everything anew",
}


def add(commands: Commands) -> None:
    """Add upgrade to the parser."""
    parser = commands.add(
        "upgrade",
        "let the installed code take over, process by process, without dropping a connection",
        run=upgrade,
        example="upgrade --wait --timeout 5m\nupgrade --yes --reason 'crossfade 1.3'",
    )
    change_options(parser, route=False, wait="every process runs the new code")
    confirm_options(parser)


def upgrade(args: argparse.Namespace) -> int:
    """`upgrade`."""
    confirm(args, "upgrade: the code on the disk takes over, process by process; what fails is put back.")
    return on_each(args, lambda admin: begin(admin, args), render)


def begin(admin: Admin, args: argparse.Namespace, clock: Clock | None = None) -> Json:
    """Ask for the upgrade; with --wait until it has ended. Raises Failure: 3 when it was put back, 4 too late."""
    state = admin.change("POST", "/api/v1/upgrade", change_body(args), args.if_epoch)
    if args.wait and not args.dry_run:
        state = wait(admin, state["number"], args.timeout, clock or Clock())
    return state | {"admin": admin.address}


def wait(admin: Admin, number: int, timeout: float, clock: Clock) -> Json:
    """The state of a switch at its end. Its supervisor goes away in between, when another one takes over."""
    end = clock.now() + timeout
    while True:
        state = _look(admin)
        if state is not None and state["number"] != number:
            raise Failure(FAILED, f"{admin.address} is at switch {state['number']} now, not {number}: it was restarted")
        if state is not None and state["phase"] == "ended":
            break
        if clock.now() >= end:
            raise Failure(
                TIMEOUT, f"not ended after {timeout:g} s: {progress(state) if state else f'{admin.address} is away'}"
            )
        clock.sleep(POLL)
    result = state["result"]
    if result in _CODES:
        raise Failure(_CODES[result], f"{summary(state)}: {state['reason']}", hint=_HINTS[result], switch=state)
    return state


def _look(admin: Admin) -> Json | None:
    try:
        return admin.get("/api/v1/switch")
    except Failure as failure:
        if failure.code in (UNREACHABLE, TIMEOUT):
            return None
        raise


def summary(state: Json) -> str:
    """A switch in some words."""
    words = {"": "runs", "done": "is done", "refused": "was refused", "put-back": "was put back", "failed": "failed"}
    return f"{clean(state['kind'])} {clean(state['number'])} {words.get(state['result'], clean(state['result']))}"


def progress(state: Json) -> str:
    """How far it is."""
    steps = ", ".join(f"{clean(each['name'])} {clean(each['state'])}" for each in state.get("processes", []))
    return f"{clean(state['phase'])}{f' ({steps})' if steps else ''}"


def versions(state: Json) -> str:
    """From which version to which."""
    before, after = clean(state["version_before"]), clean(state["version_after"])
    return f"version {before}" if before == after else f"version {before} to {after}"


def render(state: Json) -> str:
    """What upgrade did."""
    where = clean(state["admin"])
    if state["dry_run"]:
        return f"dry run: {where} would let the code on the disk take over"
    if state["phase"] != "ended":
        return f"{where}: {summary(state)}, {progress(state)}\nnext: proxyctl status -w"
    return f"{where}: {summary(state)}, {versions(state)}"
