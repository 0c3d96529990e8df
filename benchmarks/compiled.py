"""What is measured, and what the end-to-end tests run: the wheel, whose hot modules are compiled."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
COMPILED: Final = ROOT / "build" / "compiled"


# Whoever comes while another one makes it waits, and finds it made.
_MAKE: Final = ("flock", "build/.lock", "make", "wheel")
_begun: list[subprocess.Popen[bytes]] = []


def prepare() -> None:
    """Install the compiler, if need be. Raises CalledProcessError."""
    subprocess.run(("make", "gcc"), cwd=ROOT, check=True)


def begin() -> None:
    """Begin to make the wheel, for a `build` that will come; what it says to anybody is left to that one."""
    (ROOT / "build").mkdir(exist_ok=True)
    _begun.append(subprocess.Popen(_MAKE, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def end() -> None:
    """Wait for what was begun."""
    while _begun:
        _begun.pop().wait()


def build() -> Path:
    """Make the wheel if a source is newer; the folder that PYTHONPATH must name to run it.

    Raises CalledProcessError; make's own messages say why.
    """
    end()
    (ROOT / "build").mkdir(exist_ok=True)
    subprocess.run(_MAKE, cwd=ROOT, check=True)
    return COMPILED
