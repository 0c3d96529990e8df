"""What is measured, and what the end-to-end tests run: the wheel, whose hot modules are compiled."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
COMPILED: Final = ROOT / "build" / "compiled"


def build() -> Path:
    """Make the wheel if a source is newer; the folder that PYTHONPATH must name to run it.

    Raises CalledProcessError; make's own messages say why.
    """
    subprocess.run(["make", "wheel"], cwd=ROOT, check=True)
    return COMPILED
