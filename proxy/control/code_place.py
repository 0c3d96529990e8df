"""Where a process's code is: the interpreter and the folder of our packages, by name and pinned.

By name it is what the next start finds there; an upgrade in place changes the files, one beside it a link:

    /opt/crossfade/current/bin/python   by name      --> /opt/crossfade/1.3/bin/python   pinned

A process that dies is started from the pinned place, so that a link which was turned does not mix two versions.
"""

from __future__ import annotations

import os
import sys
from typing import Final, NamedTuple

import proxy


class CodePlace(NamedTuple):
    """python: the interpreter; root: the folder that holds `proxy`."""

    python: str
    root: str

    def pinned(self) -> CodePlace:
        """The same without links among the folders. An interpreter's own link is what makes its environment."""
        return CodePlace(_pinned(self.python), os.path.realpath(self.root))

    def command(self, *arguments: str) -> tuple[str, ...]:
        """To start one of our modules. -P: a folder named `proxy` where the user stands must not shadow ours."""
        return (self.python, "-P", *arguments)

    def path(self, before: str) -> str:
        """PYTHONPATH with our root in front. before: PYTHONPATH without it."""
        return f"{self.root}{os.pathsep}{before}" if before else self.root


def named(script: str, python: str, root: str) -> CodePlace:
    """The place by the name that it was called by.

    An installed script names its interpreter by the folder that the environment was made in, whatever link it was
    called through; so where the script lies beside that interpreter, the script's own folder is the name.
    script: sys.argv[0].
    """
    beside = os.path.join(os.path.dirname(os.path.abspath(script)), os.path.basename(python))
    if not os.path.isfile(beside) or _pinned(beside) != _pinned(python):
        return CodePlace(python, root)
    before, by_name = (os.path.dirname(os.path.dirname(each)) for each in (python, beside))
    inside = os.path.relpath(root, before)
    return CodePlace(beside, root if inside.startswith(os.pardir) else os.path.join(by_name, inside))


def _pinned(python: str) -> str:
    folder, name = os.path.split(python)
    return os.path.join(os.path.realpath(folder), name)


NAMED: Final = named(sys.argv[0], sys.executable, os.path.dirname(os.path.dirname(os.path.abspath(proxy.__file__))))
"""Where this process's code came from."""
