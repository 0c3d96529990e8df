"""Debian packages that we run beside: installed when they are missing, and a failure when they cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

_TRIES = 4
_PAUSE = 10.0
"""Seconds between them: an archive that cannot be reached for a moment is no missing package."""
_LIBRARIES = Path("/usr/lib/python3/dist-packages")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def program(name: str, package: str) -> str:
    """The path of a program; installs its package when it is not there. Raises RuntimeError when it cannot."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        install(package)
        found = shutil.which(name, path=_PATH)
    if found is None:
        raise RuntimeError(f"{package} is installed and has no {name}")
    return found


def library(name: str, package: str) -> None:
    """Makes sure that Debian's own Python has a library; raises as `program` does."""
    if not (_LIBRARIES / name).is_dir():
        install(package)
    if not (_LIBRARIES / name).is_dir():
        raise RuntimeError(f"{package} is installed and has no {name}")


def install(package: str) -> None:
    """Install a package without starting its service; raises RuntimeError with what apt-get said."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise RuntimeError(f"missing {package}; install it (Debian: apt-get install {package}) and run again")
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    said = ""
    words = ["install", "-y", "-qq", "--no-install-recommends", package]
    for left in range(_TRIES - 1, -1, -1):
        subprocess.run(["apt-get", *wait, "update", "-qq"], env=environ, capture_output=True, check=False)
        done = subprocess.run(["apt-get", *wait, *words], env=environ, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        said = done.stderr[-2000:]
        if left:
            time.sleep(_PAUSE)
    raise RuntimeError(f"apt-get {' '.join(words)} failed {_TRIES} times:\n{said}")
