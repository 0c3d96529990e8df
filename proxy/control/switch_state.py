"""How it stands with the replacement of processes: `run/switch.json`, written by the launcher, read by the supervisor.

The file is replaced whole, so that a reader sees one state or the next one. It says what the last switch came to until
another one begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from proxy.control.files import write_whole

SCHEMA: Final = 1
Phase = Literal["checking", "replacing", "watching", "launcher", "putting-back", "ended"]
Result = Literal["", "done", "refused", "put-back", "failed"]
KINDS: Final = ("upgrade", "reload")
RESULTS: Final = ("done", "refused", "put-back", "failed")
"""How a switch may end."""
Place = Literal["waits", "starts", "done", "failed", "put-back", "kept"]


class ProcessState(msgspec.Struct):
    """One process. state: waits, starts, done, failed, put-back (its predecessor serves again) or kept (it stayed)."""

    name: str
    state: Place = "waits"
    pid: int = 0
    reason: str = ""


class SwitchState(msgspec.Struct, omit_defaults=False):
    """The switch that runs, or ran last. kind: upgrade or reload; number: counts this instance's switches from 1.

    result: empty while it runs; done; refused (nothing was touched); put-back (everything is as before); failed (it
    is not, `reason` says how far). began_at, ended_at: seconds since 1970, 0 before; version: of the code before and
    after; detail: what the plan shows. refused_again: how often another one was asked for meanwhile, and refused.
    before: how the last one ended, for whoever did not see that.
    """

    number: int
    kind: str
    phase: Phase
    began_at: float
    result: Result = ""
    reason: str = ""
    ended_at: float = 0.0
    version_before: str = ""
    version_after: str = ""
    processes: list[ProcessState] = []
    detail: dict[str, Any] = {}
    refused_again: int = 0
    before: SwitchState | None = None
    schema: int = SCHEMA

    @property
    def runs(self) -> bool:
        """It has not ended."""
        return self.phase != "ended"

    def of(self, name: str) -> ProcessState:
        """The state of one process, which is new if it was not known."""
        for each in self.processes:
            if each.name == name:
                return each
        self.processes.append(ProcessState(name))
        return self.processes[-1]


def write(path: Path, state: SwitchState) -> None:
    """Replace the file; raises OSError. It does not outlive a power cut, nor does what it tells of."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n", durable=False)


def read(path: Path) -> SwitchState | None:
    """The state; None before the first switch, or when the file says nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SwitchState)
    except (OSError, msgspec.DecodeError):
        return None
