"""A tiny process in the place of ledger, supervisor or worker: writes what happens to it in a journal.

STANDIN_<NAME> may say `refuse` (exit 78), `crash:N` (exit 1 at each of its first N starts) or `stubborn`
(ignores SIGTERM). The supervisor stand-in says that the instance is ready.
"""

import os
import select
import signal
import sys
from pathlib import Path

JOURNAL = Path(os.environ["STANDIN_JOURNAL"])
NAME = ""
BEHAVIOUR = ""


def note(text: str) -> None:
    descriptor = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{NAME} {text} {os.getpid()}\n".encode())
    os.close(descriptor)


def on_signal(number: int, frame: object) -> None:
    note(signal.Signals(number).name)
    if number == signal.SIGTERM and BEHAVIOUR != "stubborn":
        note("stopped")
        os._exit(0)


def main(name: str) -> None:
    global NAME, BEHAVIOUR
    NAME = name
    BEHAVIOUR = os.environ.get(f"STANDIN_{name.upper()}", "")
    if name == "supervisor":
        signal.signal(signal.SIGUSR1, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    note("started")
    if BEHAVIOUR == "refuse":
        sys.exit(78)
    if BEHAVIOUR.startswith("crash:") and JOURNAL.read_text().count(f"{name} started") <= int(BEHAVIOUR[6:]):
        sys.exit(1)
    if name == "supervisor":
        os.write(int(os.environ["CROSSFADE_READY_FD"]), b"ready http://127.0.0.1:1\n")
    lifeline = int(os.environ["CROSSFADE_LIFELINE_FD"])
    while not select.select([lifeline], [], [])[0]:
        pass
    note("lifeline")
