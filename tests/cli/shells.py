"""Interactive shells on terminals of their own: a line is typed, TAB is pressed, and what was offered is read."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

from deploy.packages import program

PATIENCE = 30.0
"""Seconds."""
KILL_LINE = b"\x01\x0b"
"""To the start of the line, and away with what follows."""

_BASH = r"""
PS1='$ '
bind 'set bell-style none'
bind 'set show-all-if-ambiguous on'
bind 'set completion-query-items -1'
bind 'set page-completions off'
source {script}
_offered() {{ _proxyctl "$@"; printf '%s\n' "${{COMPREPLY[@]}}" END >> {offered}; }}
complete -F _offered proxyctl
proxyctl() {{ printf '%s\n' "$@" END > {ran}; }}
echo ready > {offered}
"""

_ZSH = r"""
PS1='$ '
unsetopt beep prompt_sp
LISTMAX=10000
autoload -Uz compinit && compinit -D -u
source {script}
compadd() {{
  if [[ ${{@[1,(i)(-|--)]}} == *-[a-zA-Z]#[OAD]\ * ]]; then builtin compadd "$@"; return; fi
  local -a hits
  builtin compadd -A hits "$@"
  (( $#hits )) && print -rl -- $hits >> {offered}
  builtin compadd "$@"
}}
_offered() {{ print -r -- END >> {offered}; }}
_noted() {{ comppostfuncs=(_offered); }}
zle -N _complete_noted
_complete_noted() {{ compprefuncs=(_noted); zle complete-word; }}
bindkey '^I' _complete_noted
proxyctl() {{ print -rl -- "$@" END > {ran}; }}
setopt extended_glob
print ready > {offered}
"""


class Shell:
    """bash or zsh. folder: an empty one for its files; script: the completion script, written there."""

    def __init__(self, name: str, folder: Path, script: str) -> None:
        self._folder = folder
        self._offered, self._ran = folder / "offered", folder / "ran"
        places = {"script": folder / "script", "offered": self._offered, "ran": self._ran}
        places["script"].write_text(script)
        setup, arguments = {"bash": (_BASH, ["--norc", "--noprofile", "-i"]), "zsh": (_ZSH, ["-f", "-i"])}[name]
        (folder / "setup").write_text(setup.format(**places))
        self._terminal, inner = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            [program(name, name), *arguments],
            stdin=inner, stdout=inner, stderr=inner, cwd=folder, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        self.said = b""
        self._type(f"source {folder}/setup\r".encode())
        self._until(lambda: self._offered.exists() and self._offered.read_text() == "ready\n")

    def offers(self, line: str) -> set[str]:
        """What is offered for a line at its end."""
        self._offered.write_text("")
        self._type(KILL_LINE + line.encode() + b"\t")
        self._until(lambda: self._offered.read_text().endswith("END\n"))
        return set(self._offered.read_text().split("\n")) - {"END", ""}

    def runs(self, *pieces: str) -> list[str]:
        """The words of a line that was typed in pieces, with a TAB after each, and sent."""
        self._ran.unlink(missing_ok=True)
        self._type(KILL_LINE)
        for piece in pieces:
            self._offered.write_text("")
            self._type(piece.encode() + b"\t")
            self._until(lambda: self._offered.read_text().endswith("END\n"))
        self._type(b"\r")
        self._until(lambda: self._ran.exists() and self._ran.read_text().endswith("END\n"))
        return self._ran.read_text().split("\n")[:-2]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def _until(self, condition: object) -> None:
        assert callable(condition)
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.said.decode(errors="replace")
            assert self._process.poll() is None, self.said.decode(errors="replace")
            if select.select([self._terminal], [], [], 0.005)[0]:  # else a full terminal stops the shell
                self.said = (self.said + os.read(self._terminal, 65_536))[-20_000:]


class Fish:
    """fish tells what it offers when it is asked, by the same engine as for a TAB."""

    def __init__(self, folder: Path, script: str) -> None:
        self._folder = folder
        (folder / "script").write_text(script)
        self._fish = program("fish", "fish")

    def offers_each(self, lines: list[str]) -> dict[str, set[str]]:
        """What is offered for each line at its end."""
        asked = "\n".join(f"printf 'LINE\\n'; complete -C {_quoted(line)}" for line in lines)
        done = subprocess.run(
            [self._fish, "--no-config", "-c", f"source {self._folder}/script\n{asked}"],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "LC_ALL": "C.UTF-8"},
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        answers = done.stdout.split("LINE\n")[1:]
        return {
            line: {word.split("\t")[0] for word in answer.splitlines()}
            for line, answer in zip(lines, answers, strict=True)
        }


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", r"\\").replace("'", r"\'") + "'"
