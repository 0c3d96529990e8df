"""A tiny process in the place of ledger, supervisor or worker: writes what happens to it in a journal.

STANDIN_<NAME> may say one of:
    refuse         exit with 78
    refuse-later   the same when a file `refuse-now` is there
    crash:N        exit with 1 at each of the first N starts
    stubborn       ignore SIGTERM
    linger         outlive the launcher until a file `let-go` is there
The supervisor's stand-in says that the instance is ready.
"""

import os
import select
import signal
import sys
import time
from pathlib import Path

from proxy.control.inherit import say_refusal

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
        say_refusal("this cannot be")
        sys.exit(78)
    if BEHAVIOUR.startswith("crash:") and JOURNAL.read_text().count(f"{name} started") <= int(BEHAVIOUR[6:]):
        sys.exit(1)
    if name == "supervisor":
        os.write(int(os.environ["CROSSFADE_READY_FD"]), b"ready http://127.0.0.1:1\n")
    lifeline = int(os.environ["CROSSFADE_LIFELINE_FD"])
    while not select.select([lifeline], [], [], 0.05)[0]:
        if BEHAVIOUR == "refuse-later" and JOURNAL.with_name("refuse-now").exists():
            JOURNAL.with_name("refuse-now").unlink()
            sys.exit(78)
    note("lifeline")
    while BEHAVIOUR == "linger" and not JOURNAL.with_name("let-go").exists():
        time.sleep(0.01)
