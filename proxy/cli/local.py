"""What needs no running instance: demo, init, check, run. Each imports what it starts when it is called."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import OK, USAGE, Failure
from proxy.cli.files import write_file
from proxy.cli.options import FORMATS, Commands, output_option
from proxy.cli.output import clean, emit

if TYPE_CHECKING:
    from config.errors import ConfigErrors
    from config.hooks import Hooks
    from config.model import Settings

DEFAULT_FILE = "crossfade.yaml"


def add(commands: Commands) -> None:
    """Add demo, init, check and run to the parser."""
    parser = commands.add(
        "demo",
        "show a whole rollout with a fault, a revert and a recovery, on this machine alone",
        run=demo,
        example="demo\ndemo --fast -o json\ndemo --keep",
        shared=False,
    )
    parser.add_argument("--fast", action="store_true", help="within 30 seconds")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument(
        "--inject", metavar="WHAT", help="damage the new store behind the proxy's back: lost:3,different:2"
    )
    output_option(parser, "-o", "--output")
    parser = commands.add(
        "init",
        "write a commented configuration with a fresh salt",
        run=init,
        example="init --old http://127.0.0.1:9001 --new http://127.0.0.1:9002 -o crossfade.yaml\n"
        "init --old http://127.0.0.1:9001 --new http://127.0.0.1:9002 --output json",
        shared=False,
    )
    parser.add_argument("--old", required=True, metavar="URL", help="the old backend, http://host:port")
    parser.add_argument("--new", required=True, metavar="URL", help="the new backend, http://host:port")
    parser.add_argument(
        "-o", dest="file", default=DEFAULT_FILE, metavar="FILE", help=f"default: {DEFAULT_FILE}; - for stdout"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    output_option(parser, "--output")  # -o is the file here
    parser = commands.add(
        "check",
        "list everything that is wrong with a configuration",
        run=check,
        example="check crossfade.yaml",
        shared=False,
    )
    parser.add_argument("file", metavar="FILE")
    output_option(parser, "-o", "--output")
    parser = commands.add(
        "run", "run an instance until SIGTERM or Ctrl-C", run=run, example="run crossfade.yaml", shared=False
    )
    parser.add_argument("file", metavar="FILE")


def demo(args: argparse.Namespace) -> int:
    """`demo`."""
    import uvloop

    from proxy.demo.outcome import parse_injection
    from proxy.demo.run import run as run_demo

    try:
        parse_injection(args.inject)
    except ValueError as error:
        raise Failure(USAGE, str(error), hint="see proxyctl demo --help") from None
    return uvloop.run(run_demo(args.fast, args.keep, args.output, args.inject))


def init(args: argparse.Namespace) -> int:
    """`init`."""
    if args.file in FORMATS:
        raise Failure(
            USAGE,
            f"-o names the file that init writes, and {args.file} is a form of output",
            hint=f"--output {args.file} prints the result in that form, -o ./{args.file} writes a file of that name",
        )
    from config.template import render

    try:
        text = render(args.old, args.new)
    except ValueError as error:
        raise Failure(USAGE, str(error), hint="see proxyctl init --help") from None
    if args.file == "-":
        print(text, end="")
        return OK
    write_file(args.file, text, force=args.force)
    result = {"file": args.file, "next": [f"proxyctl check {args.file}", f"proxyctl run {args.file}"]}
    emit(args.output, result, lambda _: f"wrote {clean(args.file)}\nnext: {clean(result['next'][0])}")
    return OK


def check(args: argparse.Namespace) -> int:
    """`check FILE`."""
    settings = _load(args.file, with_outside=True)
    emit(args.output, _summary(args.file, settings), _summary_text)
    return OK


def run(args: argparse.Namespace) -> int:
    """`run FILE`: this process becomes the launcher."""
    if os.getpid() == 1:  # of a container: the kernel keeps from it what it has no handler for
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    settings = _load(args.file)
    from proxy.control.launcher import launch

    return launch(settings, Path(args.file))


def _load(file: str, *, with_outside: bool = False) -> Settings:
    """The settings in a file; Failure (exit 2) with everything that is wrong.

    with_outside: that commands of gates can be run, and files of secrets read, is looked at, too.
    """
    from config.document import MAX_BYTES
    from config.errors import ConfigErrors
    from config.loader import load

    try:
        with open(file, "rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Failure(
            USAGE, f"cannot read {file}: {error.strerror}", hint="write one with: proxyctl init --old URL --new URL"
        ) from None
    try:
        return load(file, text=text, with_outside=with_outside)
    except ConfigErrors as errors:
        raise invalid(file, errors) from None


def invalid(file: str, errors: ConfigErrors) -> Failure:
    """What is wrong with a file, line by line; exit 2."""
    number = f"{len(errors)} error{'' if len(errors) == 1 else 's'}"
    listed = [
        {"path": e.path, "line": e.line, "column": e.column, "message": e.message, "suggestion": e.suggestion}
        for e in errors
    ]
    return Failure(USAGE, f"{file} has {number}", lines=[str(error) for error in errors], errors=listed)


def _summary(file: str, settings: Settings) -> dict[str, object]:
    return {
        "file": file,
        "valid": True,
        "listen": [f"{each.address}{' (TLS)' if each.tls else ''}" for each in settings.listen],
        "workers": settings.workers,
        "state_dir": settings.state_dir,
        "backends": {name: backend.where for name, backend in settings.backends.items()},
        "routes": [
            {
                "name": r.name,
                "takes": "requests" if r.websocket is None else "sessions",
                "methods": list(r.taken.methods),
                "path": r.match.path,
                "key": r.key,
                "stage": r.stage,
            }
            for r in settings.routes
        ],
        "default": settings.default,
        "consistency": [
            {
                "routes": list(each.routes),
                "old": each.old.kind,
                "new": each.new.kind,
                "live": each.is_live,
                "probe_every": None if each.probe is None else each.probe.every,
                "probe": each.probe is not None,
            }
            for each in settings.consistency
        ],
        "sources": [
            {
                "name": each.name,
                "kind": "home_assistant" if each.home_assistant is not None else "websocket",
                "url": each.kind.url.partition("?")[0],
                "route": each.route,
            }
            for each in settings.sources
        ],
        "gates": [{"name": each.name, "kind": each.kind, "on_fail": each.on_fail} for each in settings.gates],
        "hooks": _hooks(settings.hooks),
        "notifications": [
            {"name": each.name, "kind": each.kind, "events": list(each.events)} for each in settings.notifications
        ],
        "next": f"proxyctl run {file}",
    }


def _hooks(hooks: Hooks) -> dict[str, object]:
    """By the name of each that may be called, what it may do; neither is there by itself."""
    alertmanager, webhook = hooks.alertmanager, hooks.webhook
    found: dict[str, object] = {}
    if alertmanager is not None:
        found["alertmanager"] = [
            {"labels": rule.labels, "route": rule.route, "action": rule.action} for rule in alertmanager.rules
        ]
    if webhook is not None:
        found["webhook"] = {"routes": list(webhook.routes), "actions": list(webhook.actions)}
    return found


def _summary_text(summary: dict[str, object]) -> str:
    backends, routes, listen = summary["backends"], summary["routes"], summary["listen"]
    checks, sources = summary["consistency"], summary["sources"]
    assert isinstance(checks, list)
    assert isinstance(sources, list)
    assert isinstance(backends, dict)
    assert isinstance(routes, list)
    assert isinstance(listen, list)
    lines = [f"{clean(summary['file'])} is valid"]
    lines.append(
        f"listen    {', '.join(listen)} with {summary['workers']} workers, state in {clean(summary['state_dir'])}"
    )
    lines += [f"backend   {clean(name)}: {clean(url)}" for name, url in backends.items()]
    for r in routes:
        what = " ".join(r["methods"]) if r["takes"] == "requests" else "WebSocket"
        lines.append(f"route     {r['name']}: {what} {clean(r['path'])} by {clean(r['key'])}, stage {r['stage']}")
    lines += [f"source    {each['name']} -> {each['route']}: {each['kind']} {clean(each['url'])}" for each in sources]
    rest = f"passed through to {clean(summary['default'])}" if summary["default"] else "answered with 404"
    lines.append(f"the rest  {rest}")
    for each in checks:
        kinds = each["old"] if each["old"] == each["new"] else f"{each['old']} and {each['new']}"
        how = "all the time" if each["live"] else "by proxyctl verify alone"
        probe = ", probed by proxyctl probe" if each["probe"] else ""
        if each["probe_every"] is not None:
            probe = f", probed every {each['probe_every']:g} s"
        lines.append(f"compared  {', '.join(each['routes'])}: stores {kinds}, {how}{probe}")
    lines += _outside(summary)
    lines.append(f"next: {clean(summary['next'])}")
    return "\n".join(lines)


def _outside(summary: dict[str, Any]) -> list[str]:
    """Who is asked, who may call, and who is told."""
    lines = [f"gate      {each['name']}: {each['kind']}, a no: {each['on_fail']}" for each in summary["gates"]]
    hooks = summary["hooks"]
    for rule in hooks.get("alertmanager", ()):
        labels = ", ".join(f"{name}={value}" for name, value in rule["labels"].items())
        lines.append(f"hook      alertmanager: {rule['action']} {_route(rule['route'])} on {labels}")
    if "webhook" in hooks:
        actions, routes = (hooks["webhook"][name] for name in ("actions", "routes"))
        lines.append(f"hook      webhook: {' or '.join(actions)} {', '.join(routes) or 'any route'}")
    lines += [
        f"notified  {each['name']}: {each['kind']}, of {', '.join(each['events']) or 'everything'}"
        for each in summary["notifications"]
    ]
    return [clean(line) for line in lines]


def _route(name: str) -> str:
    from config.hooks import EVERY_ROUTE

    return "every route" if name == EVERY_ROUTE else name
