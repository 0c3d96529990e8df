"""Asks a short-lived process of the new code what a switch is to do, or whether another launcher could take over."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from proxy.control.code_place import CodePlace
from proxy.control.inherit import read_all
from proxy.control.logs import one_line
from proxy.control.plan import SCHEMA, Preflight

log = logging.getLogger(__name__)


class Ended(NamedTuple):
    """A process that ran to its end, or was killed at the end of its time. said: its last line on stderr."""

    code: int
    said: str
    in_time: bool


async def run(
    command: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int], timeout: float
) -> Ended:
    """Run a process; what it says on stderr is passed on. Raises OSError when it cannot be started."""
    errors = os.memfd_create("crossfade-stderr")
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - as every child: uvloop would take its end to itself
            command,
            env=environment,
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            process_group=0,
        )
        try:
            in_time = await _ends(process, timeout)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            code = process.wait()
        text = read_all(errors).decode(errors="replace")
    finally:
        os.close(errors)
    sys.stderr.write(text)
    sys.stderr.flush()
    lines = [line for line in text.splitlines() if line.strip()]
    return Ended(code, one_line(lines[-1].strip()) if lines else "", in_time)


async def _ends(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait for the end of a process; false when it takes longer. uvloop keeps SIGCHLD for itself."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


async def ask(
    kind: str,
    code: CodePlace,
    environment: Mapping[str, str],
    config_fd: int,
    modules: Sequence[str],
    next_config_fd: int,
    timeout: float,
) -> Preflight:
    """What the new code says. next_config_fd: an empty memfd, which gets the settings of the processes to come."""
    result_fd = os.memfd_create("crossfade-preflight")
    try:
        descriptors = (config_fd, next_config_fd, result_fd)
        names = ("CROSSFADE_CONFIG_FD", "CROSSFADE_NEXT_CONFIG_FD", "CROSSFADE_RESULT_FD")
        given = dict(environment) | {name: str(fd) for name, fd in zip(names, descriptors, strict=True)}
        command = code.command("-m", "proxy.worker.preflight", kind, *modules)
        try:
            ended = await run(command, given, descriptors, timeout)
        except OSError as error:
            return Preflight(refused=f"the new code cannot be started: {error}")
        if not ended.in_time:
            return Preflight(refused=f"the new code was not loaded within {timeout:g} s")
        if ended.code != 0:
            return Preflight(refused=f"the new code cannot be loaded: {_why(ended)}")
        found = msgspec.json.decode(read_all(result_fd), type=Preflight)
    except msgspec.DecodeError as error:
        return Preflight(refused=f"the new code says what this launcher cannot read ({error}); restart the instance")
    finally:
        os.close(result_fd)
    if found.schema != SCHEMA:
        return Preflight(refused=f"the new code plans by schema {found.schema}, this launcher by {SCHEMA}; restart")
    return found


def _why(ended: Ended) -> str:
    how = f"killed by {signal.Signals(-ended.code).name}" if ended.code < 0 else f"exited with {ended.code}"
    return f"{ended.said} ({how})" if ended.said else how
