"""Debian packages that a test needs: installed when they are absent, and a failure when they cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess


def ensure(program: str, package: str) -> str:
    """The path of a program. Raises AssertionError where it is absent and nothing may be installed."""
    found = shutil.which(program)
    if found is not None:
        return found
    assert os.getuid() == 0, f"{program} is missing; on Debian: apt-get install {package}"
    assert shutil.which("apt-get"), f"{program} is missing; install it"
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet, stdout=subprocess.DEVNULL)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    subprocess.run(install, check=True, env=quiet, stdout=subprocess.DEVNULL)
    found = shutil.which(program)
    assert found is not None, f"{package} has no {program}"
    return found
