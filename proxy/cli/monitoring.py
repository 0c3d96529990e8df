"""What Prometheus and Grafana take of ours: dashboards export, alerts export. No instance is asked.

The files are those of `deploy/` in a checkout, and lie beside this module in a wheel.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy.cli.failure import FAILED, OK, Failure
from proxy.cli.files import write_files
from proxy.cli.options import Commands, output_option
from proxy.cli.output import clean, emit

DASHBOARDS: Final = ("crossfade-overview.json", "crossfade-migration.json", "crossfade-internals.json")
RULES: Final = "rules.yml"
RUNBOOK: Final = "RUNBOOK.md"
SOURCES: Final = {
    **{name: f"grafana/{name}" for name in DASHBOARDS},
    RULES: f"prometheus/{RULES}",
    RUNBOOK: RUNBOOK,
}
"""Where each lies below `deploy/`, or below `exported/` in a wheel."""
_LINK: Final = f"runbook_url: {RUNBOOK}#"


def add(commands: Commands) -> None:
    """Add dashboards and alerts to the parser."""
    group = commands.group("dashboards", "dashboards for Grafana", example="dashboards export grafana")
    parser = group.add(
        "export",
        "write the dashboards as JSON, to be imported in Grafana or provisioned",
        run=dashboards,
        example="dashboards export\ndashboards export /etc/grafana/dashboards --force",
        shared=False,
    )
    _shared(parser)
    group = commands.group("alerts", "alert rules for Prometheus", example="alerts export prometheus")
    parser = group.add(
        "export",
        "write the alert rules for Prometheus, and the runbook that they link to",
        run=alerts,
        example="alerts export\nalerts export prometheus --runbook https://wiki.example.com/crossfade/RUNBOOK.md",
        shared=False,
    )
    parser.add_argument(
        "--runbook", type=_url, metavar="URL", help=f"where people will find {RUNBOOK} (default: that file)"
    )
    _shared(parser)


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", nargs="?", default=".", metavar="DIR", help="default: here")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    output_option(parser, "-o", "--output")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.fragment or not text.isprintable():
        raise argparse.ArgumentTypeError(f"expected http:// or https://, and no fragment, not {text!r}")
    if any(character in text for character in "\"'# "):
        raise argparse.ArgumentTypeError(f"a quote, a space or # cannot stand in it as they are: {text!r}")
    return text


def dashboards(args: argparse.Namespace) -> int:
    """`dashboards export [DIR]`."""
    written = write_files(args.directory, {name: source(name) for name in DASHBOARDS}, force=args.force)
    return _say(args, written, "import them in Grafana (Dashboards, New, Import), or provision that folder")


def alerts(args: argparse.Namespace) -> int:
    """`alerts export [DIR]`."""
    rules = source(RULES)
    if args.runbook is not None:
        rules = rules.replace(_LINK, f"runbook_url: {args.runbook}#")
    written = write_files(args.directory, {RULES: rules, RUNBOOK: source(RUNBOOK)}, force=args.force)
    return _say(args, written, f"promtool check rules {clean(written[0])}, and name it under rule_files")


def source(name: str) -> str:
    """The text of one of SOURCES. Failure where an installation lacks it."""
    here = Path(__file__)
    for folder in (here.parent / "exported", here.parents[2] / "deploy"):
        path = folder / SOURCES[name]
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise Failure(FAILED, f"this installation lacks {name}", hint="install the package crossfade again")


def _say(args: argparse.Namespace, written: list[str], following: str) -> int:
    result = {"files": written, "next": following}
    emit(
        args.output, result, lambda _: "\n".join([*(f"wrote {clean(each)}" for each in written), f"next: {following}"])
    )
    return OK
