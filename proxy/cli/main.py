"""proxyctl: the parser and the way out."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from functools import cache

from proxy.cli import (
    audit,
    backfill,
    baseline,
    completion,
    context,
    decommission,
    doctor,
    drain,
    freeze,
    load,
    local,
    log_level,
    monitoring,
    probe,
    records,
    rehearse,
    reload,
    report,
    rollout,
    routing,
    status,
    tokens,
    top,
    upgrade,
    validate,
    verify,
)
from proxy.cli.failure import FAILED, INTERRUPTED, Failure
from proxy.cli.options import FORMATS, Commands, Parser, examples, settle, shared_options
from proxy.cli.output import complain

_END = """

endpoint: --admin or --context, PROXYCTL_ADMIN, the current context, ./crossfade-state/admin.sock, http://127.0.0.1:9900
contexts: ~/.config/crossfade/contexts.yaml
exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 rolled back, 4 timeout, 5 epoch conflict, 6 unreachable,
            7 blocked by a guard"""


class _Version(argparse.Action):
    """--version; the installed version costs an import that nothing else needs."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"crossfade {version('crossfade')}")
        parser.exit()


@cache
def build() -> argparse.ArgumentParser:
    """The whole parser, made once: whoever has it only parses with it, or reads it."""
    parser = Parser(
        prog="proxyctl",
        description="Crossfade: move events from an old backend to a new one without losing any.",
        epilog=examples("demo\ninit --old http://127.0.0.1:9001 --new http://127.0.0.1:9002\nset-weight 10 --wait")
        + _END,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    shared_options(parser, 0)
    commands = Commands(parser, 1)
    families = (
        local,
        status,
        top,
        routing,
        rollout,
        baseline,
        rehearse,
        freeze,
        records,
        audit,
        report,
        verify,
        backfill,
        probe,
        validate,
        decommission,
        doctor,
        load,
        reload,
        drain,
        log_level,
        upgrade,
        monitoring,
        tokens,
        context,
        completion,
    )
    for family in families:
        family.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code. argv: without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a key may hold what a terminal cannot show
    try:
        args = settle(build().parse_args(words))
        run: int = args.run(args)
        sys.stdout.flush()
    except Failure as failure:
        complain(_form(words), failure)
        return failure.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return run


def _form(words: list[str]) -> str:
    """The form of errors, also of a command line that could not be parsed."""
    form = "text"
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if word in ("-o", "--output") and following in FORMATS:
            form = following
        elif word in [f"-o{name}" for name in FORMATS] + [f"--output={name}" for name in FORMATS]:
            form = word.removeprefix("--output=").removeprefix("-o")
    return form


if __name__ == "__main__":
    raise SystemExit(main())
