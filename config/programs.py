"""Whether the programs that a configuration names can be run here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from config.gates import Gate


def fault_of(gate: Gate, folder: Path) -> str:
    """Why the program of a command cannot be run on this machine now; empty where it can, and without a command.

    folder: where it runs. A program with a slash is looked for from there, one without on the PATH.
    """
    if gate.command is None:
        return ""
    program = gate.command[0]
    path = str(folder / program) if "/" in program else program
    if shutil.which(path) is not None:
        return ""
    is_file = "/" in program and os.path.isfile(path)
    return f"{program} is not executable" if is_file else f"there is no program {program}"
