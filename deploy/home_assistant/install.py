"""Home Assistant in an environment of its own: made once for each state of the lock, which names every version.

`python -m deploy.home_assistant.install` makes it ahead of time. What has no wheel is built by what
requirements-dev.txt pins. Bytecode is left to the first start: a small part of it all is ever imported.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.core.errors import CrossfadeError

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = Path(__file__).parent / "requirements.txt"
ENVIRONMENT: Final = ROOT / "build" / "home-assistant"
BUILDERS: Final = ROOT / "requirements-dev.txt"
NEWEST: Final = (3, 12)
"""Python that the release was made for; it needs 3.11 at least, as we do."""


class InstallError(CrossfadeError):
    """It cannot be installed here; the message says why."""


def runs_here() -> bool:
    """Whether it runs on this Python."""
    return sys.version_info[:2] <= NEWEST


def prepare(environment: Path = ENVIRONMENT, lock: Path = LOCK) -> Path:
    """The environment's interpreter; installs when the lock, or Python, is another one than at the last time.

    Who comes meanwhile waits. Raises InstallError.
    """
    environment.parent.mkdir(parents=True, exist_ok=True)
    python, stamp = environment / "bin" / "python", environment / ".ready"
    wanted = f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {sys.version}\n"
    with _alone(environment.with_name(f".{environment.name}.lock")):
        if not (stamp.is_file() and stamp.read_text() == wanted):
            if not runs_here():
                has = ".".join(map(str, sys.version_info[:2]))
                raise InstallError(f"Home Assistant 2024.3 runs on Python 3.11 or 3.12, not on {has}")
            _install(environment, python, lock)
            stamp.write_text(wanted)
    return python


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file; its content is of no importance."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(environment: Path, python: Path, lock: Path) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    _run("venv", "--without-pip", str(environment))
    exactly = ("--no-deps", "--require-hashes", "--build-constraints", str(BUILDERS))
    _run("uv", "pip", "install", "--python", str(python), *exactly, "--requirements", str(lock))


def _run(*words: str) -> None:
    """Run a module of our own environment. Raises InstallError with what it said last."""
    done = subprocess.run((sys.executable, "-m", *words), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"{' '.join(words[:3])} failed, so there is no Home Assistant:\n{done.stderr[-2000:]}")


def main() -> int:
    """Entry of the process; the exit code."""
    begun = time.monotonic()
    try:
        python = prepare()
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Home Assistant is in {python.parents[1]} ({time.monotonic() - begun:.0f} s)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
