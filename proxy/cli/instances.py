"""One command on one instance, or on several one after the other, each reported by its address."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import FAILED, OK, Failure
from proxy.cli.output import Render, clean, complain, emit

if TYPE_CHECKING:
    from proxy.cli.client import Admin

Act = Callable[["Admin"], Any]


def admins(args: argparse.Namespace) -> list[Admin]:
    """The instances that the options, the environment or the context file name; nothing is contacted yet."""
    from proxy.cli.client import Admin
    from proxy.cli.endpoints import targets

    return [Admin(target) for target in targets(args)]


def on_each(args: argparse.Namespace, act: Act, render: Render) -> int:
    """Do `act` on every instance and print what came of it.

    Raises Failure of the one instance; with several, all are tried and the exit code is the failures'
    when they agree, else 1.
    """
    found = admins(args)
    if len(found) == 1:
        emit(args.output, act(found[0]), render)
        return OK
    reports: list[dict[str, Any]] = []
    codes: list[int] = []
    for admin in found:
        report: dict[str, Any] = {"admin": admin.address}
        try:
            report["result"] = act(admin)
        except Failure as failure:
            codes.append(failure.code)
            report["error"] = failure.as_dict()
            if args.output == "text":
                complain("text", failure, admin.address)
        else:
            if args.output == "text":
                emit("text", f"{clean(admin.address)}:\n{render(report['result'])}", str)
        reports.append(report)
    if args.output != "text":
        emit(args.output, {"instances": reports}, str)
    if codes:
        code = codes[0] if len(set(codes)) == 1 else FAILED
        raise Failure(code, f"{len(codes)} of {len(found)} instances failed")
    return OK
