"""One command on one instance, or on several at once, each reported by its address.

one       its result, or its failure, is the command's
several   every result is printed in the order of the addresses; the exit code is the worst failure's,
          by `WORST_FIRST`, and 0 only when all did it
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import INTERRUPTED, OK, WORST_FIRST, Failure
from proxy.cli.output import Render, clean, complain, emit

if TYPE_CHECKING:
    from proxy.cli.client import Admin

Act = Callable[["Admin"], Any]
AT_ONCE = 32
"""Instances that are spoken to at the same time; the others wait for one of them."""


def admins(args: argparse.Namespace) -> list[Admin]:
    """The instances that the options, the environment or the context name; nothing is contacted yet."""
    from proxy.cli.client import Admin
    from proxy.cli.endpoints import targets

    found = [Admin(target) for target in targets(args)]
    for admin in found[:0] if len(found) == 1 else found:
        admin.label = f"{clean(admin.address)}: "
    return found


def on_each(args: argparse.Namespace, act: Act, render: Render) -> int:
    """Do `act` on every instance and print what came of it.

    Raises Failure of the one instance; with several, after all have been tried, one with the worst exit code.
    """
    found = admins(args)
    if len(found) == 1:
        emit(args.output, act(found[0]), render)
        return OK
    reports: list[dict[str, Any]] = []
    try:
        for admin, came in at_once(found, act):
            reports.append(_report(admin, came))
            if args.output == "text":
                _print(admin, came, render)
    except KeyboardInterrupt:
        _complain_of_silence(args.output, found[len(reports) :])
        raise
    if args.output != "text":
        emit(args.output, reports, str)
    codes = [report["code"] for report in reports if report["code"] != OK]
    if codes:
        raise Failure(worst(codes), f"{len(codes)} of {len(found)} instances failed")
    return OK


def at_once(found: Sequence[Admin], act: Act) -> Iterator[tuple[Admin, Any]]:
    """Do `act` on all instances concurrently; each with its result or its Failure, in the given order.

    An interrupt ends the wait and leaves the threads to the end of the process: they are daemons, and a
    change that was sent cannot be taken back by waiting for its answer.
    """
    from threading import BoundedSemaphore, Thread  # one instance needs none

    places = BoundedSemaphore(AT_ONCE)
    results: dict[int, Any] = {}
    bugs: dict[int, Exception] = {}

    def run(index: int) -> None:
        with places:
            try:
                results[index] = act(found[index])
            except Failure as failure:
                results[index] = failure
            except Exception as error:  # noqa: BLE001 - raised again where the result is awaited
                bugs[index] = error

    threads = [Thread(target=run, args=(index,), daemon=True) for index in range(len(found))]
    for thread in threads:
        thread.start()
    for index, thread in enumerate(threads):
        thread.join()
        if index in bugs:
            raise bugs[index]
        yield found[index], results[index]


def worst(codes: Sequence[int]) -> int:
    """The exit code that stands for several."""
    return min(codes, key=WORST_FIRST.index)


def _report(admin: Admin, came: Any) -> dict[str, Any]:
    if isinstance(came, Failure):
        return {"admin": admin.address, "code": came.code, "error": came.as_dict()}
    return {"admin": admin.address, "code": OK, "result": came}


def _print(admin: Admin, came: Any, render: Render) -> None:
    if isinstance(came, Failure):
        complain("text", came, admin.address)
    else:
        emit("text", f"{clean(admin.address)}:\n{render(came)}", str)


def _complain_of_silence(form: str, silent: Sequence[Admin]) -> None:
    addresses = [admin.address for admin in silent]
    complain(
        form,
        Failure(
            INTERRUPTED,
            f"interrupted before it was known what came of it at {', '.join(addresses)}",
            hint="a change may have been made there: look with proxyctl status and proxyctl history",
            unknown=addresses,
        ),
    )
