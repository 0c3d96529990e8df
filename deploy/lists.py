"""The lists of MIGRATION.md as commands: read where they are walked, so that nobody walks something else.

```sh                against a running instance
```sh until          the same, again and again until it ends so
```sh root           changes the machine
```sh kubernetes     asks a cluster
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

DOCUMENT: Final = Path(__file__).parent / "MIGRATION.md"
_FENCE: Final = re.compile(r"^ *```sh(?: (\w+))?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_EXIT: Final = re.compile(r"\s+# exit (\d)$")


class Step(NamedTuple):
    """A command. kind: of its block, empty for most; wanted: its exit code."""

    kind: str
    command: str
    wanted: int


def sections(text: str = "") -> dict[str, list[Step]]:
    """The commands of each section, by its heading, in their order. text: the document when empty."""
    parts = re.split(r"^## (.+)$", text or DOCUMENT.read_text(), flags=re.MULTILINE)
    return {title: _steps(body) for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def _steps(body: str) -> list[Step]:
    found = []
    for kind, block in _FENCE.findall(body):
        for line in filter(None, map(str.strip, block.splitlines())):
            wanted = _EXIT.search(line)
            found.append(Step(kind, _EXIT.sub("", line), int(wanted[1]) if wanted else 0))
    return found
