"""The documents of deploy/: their links lead somewhere, and their commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from deploy.lists import sections
from proxy.cli.main import build
from tests.deploy.manifests import DEPLOY

DOCUMENTS = sorted(path for path in DEPLOY.rglob("*.md") if "node_modules" not in path.parts)


def commands(document: Path) -> list[str]:
    """The command lines of ours in its blocks, without what a shell does around them."""
    blocks = re.findall(r"^ *```sh[^\n]*\n(.*?)^ *```", document.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    found = [re.match(r"(?:ctl|(?!alias ).*?\bproxyctl) (.+)", line) for line in lines]
    return [each[1].removesuffix("&") for each in found if each]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}, link


def test_commands_exist() -> None:
    found = [line for document in DOCUMENTS for line in commands(document)]
    assert len(found) > 80
    parser = build()
    for line in found:
        assert parser.parse_args(shlex.split(line, comments=True)).run, line


def test_the_lists_have_what_a_migration_takes() -> None:
    wanted = {
        "Insertion",
        "The phases of a migration",
        "Blue-green",
        "Strangler, route by route",
        "Emergency rollback",
        "Removal",
        "Break glass: past the proxy, and its ledger drained offline",
    }
    assert sections().keys() == wanted
    assert all(len(steps) >= 4 for steps in sections().values())
    text = (DEPLOY / "FIT.md").read_text()
    for word in ("HTTP/2 and gRPC", "Ids that the server makes", "Side effects that cannot be repeated"):
        assert word in text
