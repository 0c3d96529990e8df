"""Debian packages that tests run against: installed when they are missing, and a failure when they cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess

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


def install(package: str) -> None:
    """Install a package without starting its service; raises RuntimeError with what apt-get said."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise RuntimeError(f"missing {package}; install it (Debian: apt-get install {package}) and run again")
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
        done = subprocess.run(["apt-get", *wait, *words], env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"apt-get {' '.join(words)} failed:\n{done.stderr[-2000:]}")
