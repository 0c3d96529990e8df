"""The real ledger process, started as the launcher starts it, for tests that kill it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

from config.loader import load
from proxy.control.link import FromSupervisor, to_supervisor
from proxy.control.link_client import pack
from proxy.control.sealed import seal
from proxy.ledger.marks import Marks, create
from tests.ledger.support import until

T = TypeVar("T")

CONFIG = """\
version: 1
state_dir: {state}
salt: salt-for-tests
admin: {{tcp: off}}
log: {{level: warning, format: text}}
stop_grace: 2s
backends:
  old: {{url: "http://127.0.0.1:1"}}
  new: {{url: "http://127.0.0.1:{new}"}}
routes:
  - {{name: events, match: {{path: /api/v1/events}}, stage: dualwrite}}
ledger: {{reserve: 0B, min_free: 0B, commit_interval: 2ms, segment_size: 64KiB}}
limits: {{max_event_size: 64KiB}}
"""


def _memory(data: bytes) -> int:
    descriptor = os.memfd_create("crossfade-test")
    os.write(descriptor, data)
    return descriptor


class LedgerProgram:
    """`python -m proxy.worker.ledger_process`, again and again on one directory. new: the new backend's port."""

    def __init__(self, directory: Path, new: int = 1) -> None:
        self.state = directory / "state"
        (self.state / "run").mkdir(parents=True)
        self.socket = self.state / "run" / "ledger.sock"
        self._config = directory / "crossfade.yaml"
        self._config.write_text(CONFIG.format(state=self.state, new=new))
        self._config_fd = _memory(seal(load(self._config)))
        self._marks_fd = create(1)
        self.marks = Marks(self._marks_fd)
        self._lifeline, self._lifeline_end = os.pipe()
        self._ready, self._ready_end = os.pipe()
        self._listener, self._listener_end = os.pipe()
        self.process: subprocess.Popen[str] | None = None

    async def start(self, *, file_size: int | None = None) -> None:
        """Start it and wait for its socket. file_size: the largest file that it may write."""
        self.launch(file_size=file_size)
        await until(self._is_listening, "the ledger's socket")

    def launch(self, *, file_size: int | None = None) -> None:
        """Start it."""
        self.socket.unlink(missing_ok=True)
        descriptors = (self._config_fd, self._marks_fd, self._lifeline, self._ready_end, self._listener)
        environment = os.environ | {
            "CROSSFADE_CONFIG_PATH": str(self._config),
            "CROSSFADE_CONFIG_FD": str(self._config_fd),
            "CROSSFADE_MARKS_FD": str(self._marks_fd),
            "CROSSFADE_LISTEN_FDS": str(self._listener),
            "CROSSFADE_LIFELINE_FD": str(self._lifeline),
            "CROSSFADE_READY_FD": str(self._ready_end),
            "CROSSFADE_LAUNCHER_PID": str(os.getpid()),
            "CROSSFADE_STARTED_NS": "1",
        }
        self.process = subprocess.Popen(
            (sys.executable, "-m", "proxy.worker.ledger_process"),
            env=environment,
            pass_fds=descriptors,
            stderr=subprocess.PIPE,
            text=True,
        )
        if file_size is not None:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (file_size, file_size))

    def _is_listening(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the ledger ended with {self.process.returncode}: {self.process.communicate()[1]}")
        with socket.socket(socket.AF_UNIX) as knock:  # the file is there before anybody listens
            return knock.connect_ex(str(self.socket)) == 0

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def cut_lifeline(self) -> None:
        """The launcher dies."""
        os.close(self._lifeline_end)
        self._lifeline_end = -1

    async def wait(self) -> tuple[int, str]:
        """Its exit code and what it said on stderr."""
        assert self.process is not None
        process, self.process = self.process, None
        _, said = await asyncio.to_thread(process.communicate, timeout=30)
        return process.returncode, said

    async def kill(self) -> None:
        """kill -9, and reap."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def close(self) -> None:
        """End it, whatever it does."""
        if self.process is not None:
            await self.kill()
        descriptors = (self._config_fd, self._marks_fd, self._lifeline, self._lifeline_end, self._ready)
        for descriptor in (*descriptors, self._ready_end, self._listener, self._listener_end):
            if descriptor >= 0:
                os.close(descriptor)


class FakeSupervisor:
    """The control link's other end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.said: list[object] = []
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                self.said.append(to_supervisor.decode(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def tell(self, message: FromSupervisor) -> None:
        """Say something to the ledger."""
        assert self._writer is not None
        self._writer.write(pack(message))

    async def heard(self, kind: type[T]) -> T:
        """The next message of a kind that was not asked for before."""
        found: list[T] = []

        def look() -> bool:
            found.extend(each for each in self.said if isinstance(each, kind))
            return bool(found)

        await until(look, f"a {kind.__name__}")
        self.said.remove(found[0])
        return found[0]

    async def close(self) -> None:
        """Stop."""
        assert self._server is not None
        self._server.close()
        if self._writer is not None:
            self._writer.close()
        await self._server.wait_closed()
