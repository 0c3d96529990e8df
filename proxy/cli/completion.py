"""completion: scripts for bash, zsh and fish, made from the parser itself.

The scripts are static: no command is run to complete another, and no instance is asked. Each shell gets the same
three steps in its own words, from the same tables (`proxy.cli.completion_tables`):

    words before the cursor --walk--> the command, the option that waits for a value, how many positionals were there
                                        --> the choices of that value, files, options, or commands
"""

from __future__ import annotations

import argparse

from proxy.cli.failure import OK
from proxy.cli.options import Commands

SHELLS = ("bash", "zsh", "fish")
_PLACES = """where to write it:
  bash  ~/.local/share/bash-completion/completions/proxyctl (with the package bash-completion), or source it
  zsh   _proxyctl in a folder of $fpath, before compinit runs
  fish  ~/.config/fish/completions/proxyctl.fish"""


def add(commands: Commands) -> None:
    """Add completion to the parser."""
    parser = commands.add(
        "completion",
        "print a script that completes commands, options and their values in a shell",
        run=completion,
        example="completion bash",
        shared=False,
    )
    parser.epilog = f"{parser.epilog}\n\n{_PLACES}"
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def completion(args: argparse.Namespace) -> int:
    """`completion SHELL`."""
    from proxy.cli import completion_scripts
    from proxy.cli.completion_tables import commands_of
    from proxy.cli.main import build

    script = {
        "bash": completion_scripts.bash,
        "zsh": completion_scripts.zsh,
        "fish": completion_scripts.fish,
    }[args.shell]
    print(script(commands_of(build())), end="")
    return OK
