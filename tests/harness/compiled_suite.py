"""The tests of the compiled modules, run once more on what was compiled: a pytest of its own, beside others.

It takes minutes of one core. So it begins when the tests that need both are done, and is waited for at the very end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import IO, Final

from benchmarks import compiled

FOLDERS: Final = ("tests/core", "tests/http", "tests/ledger", "tests/websocket")
"""Where the tests of the compiled modules are."""
SLOW: Final = ("tests/http/test_policies.py", "tests/ledger/test_keeper.py", "tests/ledger/test_process.py")
"""They wait more than they compute; the soak runs them too, all of them in their short form."""

_begun: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []


def begin(*, soak: bool) -> None:
    """Begin, unless it has. Raises CalledProcessError when the wheel cannot be made."""
    if _begun:
        return
    folders = f"{compiled.build()}{os.pathsep}{compiled.ROOT}"
    # Which library is at the other end of a session makes no difference to what is compiled.
    skipped = [] if soak else [*(f"--ignore={path}" for path in SLOW), "-k", "not aiohttp"]
    said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(
        [
            sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "pythonpath=",
            "-m", "not plain", *FOLDERS, *skipped,
        ],
        cwd=compiled.ROOT,
        env=os.environ | {"PYTHONPATH": folders, "CROSSFADE_COMPILED": "1", "CROSSFADE_SOAK": "0"},
        stdout=said,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    _begun.append((process, said))


def end() -> tuple[int, str]:
    """Wait for it; its exit code and what it said."""
    process, said = _begun.pop()
    with said:
        code = process.wait()
        said.seek(0)
        return code, said.read().decode(errors="replace")


def give_up() -> None:
    """End it if nobody has waited for it: the run was stopped."""
    while _begun:
        process, said = _begun.pop()
        process.send_signal(signal.SIGINT)  # it has processes of its own to end
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        said.close()
