"""A tiny process in the place of ledger, supervisor or worker: writes what happens to it in a journal.

STANDIN_<NAME>, or a file <NAME>.does beside the journal, may say one of:
    refuse         exit with 78
    refuse-later   the same when a file `refuse-now` is there
    crash:N        exit with 1 at each of the first N starts
    fail           exit with 1 at once
    hang           never get ready
    never-serve    stand by, and never serve
    die:S          serve for S seconds, then exit with 1
    stubborn       ignore SIGTERM
    slow           take until a file `let-go` is there to be relieved
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
KINDS = {"worker": signal.SIGUSR1}
NAME = ""
BEHAVIOUR = ""
RELIEVED = False


def note(text: str) -> None:
    descriptor = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{NAME} {text} {os.getpid()}\n".encode())
    os.close(descriptor)


def say(line: str) -> None:
    os.write(int(os.environ["CROSSFADE_READY_FD"]), line.encode() + b"\n")


def on_signal(number: int, frame: object) -> None:
    global RELIEVED
    note(signal.Signals(number).name)
    if number == signal.SIGTERM and BEHAVIOUR != "stubborn":
        note("stopped")
        os._exit(0)
    if number == KINDS.get(NAME.rstrip("0123456789"), signal.SIGUSR2):
        RELIEVED = True


def main(name: str) -> None:
    global NAME, BEHAVIOUR
    NAME = name
    does = JOURNAL.with_name(f"{name}.does")
    BEHAVIOUR = does.read_text() if does.exists() else os.environ.get(f"STANDIN_{name.upper()}", "")
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    note("started")
    if BEHAVIOUR == "fail" or (
        BEHAVIOUR.startswith("crash:") and JOURNAL.read_text().count(f"{name} started") <= int(BEHAVIOUR[6:])
    ):
        sys.exit(1)
    while BEHAVIOUR == "hang":
        time.sleep(1)
    while stand_by() and serve():
        pass


def stand_by() -> bool:
    """Wait for the turn; false when there is none."""
    kind, index = NAME.rstrip("0123456789"), NAME.lstrip("abcdefghijklmnopqrstuvwxyz") or "0"
    say(f"standby {kind} {index} {os.getpid()}")
    duty, lifeline = (int(os.environ[f"CROSSFADE_{name}_FD"]) for name in ("DUTY", "LIFELINE"))
    while True:
        found = select.select([duty, lifeline], [], [])[0]
        if lifeline in found:
            note("lifeline")
            linger()
            return False
        if not os.read(duty, 1):
            note("dismissed")
            return False
        if BEHAVIOUR == "refuse":
            say_refusal("this cannot be")
            sys.exit(78)
        if BEHAVIOUR != "never-serve":
            note("serves")
            say(f"serving {kind} {index} {os.getpid()}")
            return True


def serve() -> bool:
    """Serve until it ends; true when it was relieved."""
    global RELIEVED
    if NAME == "supervisor":
        say("ready http://127.0.0.1:1")
    until = time.monotonic() + float(BEHAVIOUR[4:]) if BEHAVIOUR.startswith("die:") else None
    lifeline = int(os.environ["CROSSFADE_LIFELINE_FD"])
    while not select.select([lifeline], [], [], 0.02)[0]:
        if until is not None and time.monotonic() > until:
            sys.exit(1)
        if BEHAVIOUR == "refuse-later" and JOURNAL.with_name("refuse-now").exists():
            JOURNAL.with_name("refuse-now").unlink()
            sys.exit(78)
        if RELIEVED and (BEHAVIOUR != "slow" or JOURNAL.with_name("let-go").exists()):
            RELIEVED = False
            note("relieved")
            return True
    note("lifeline")
    linger()
    return False


def linger() -> None:
    while BEHAVIOUR == "linger" and not JOURNAL.with_name("let-go").exists():
        time.sleep(0.01)
