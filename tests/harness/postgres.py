"""PostgreSQL 15 from its Debian package: started on files of its own, under the user that the package makes."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from deploy.packages import install
from proxy.demo.children import Child, free_port

PACKAGE: Final = "postgresql-15"
USER: Final = "checker"
_PROGRAMS: Final = Path("/usr/lib/postgresql/15/bin")
_START: Final = 60.0

# Debian's package makes a cluster of its own and starts it with the machine, unless it is told not to.
_ADVICE: Final = Path("/etc/postgresql-common/createcluster.d/crossfade-tests.conf")

_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 32MB
max_connections = 40
autovacuum = off
log_line_prefix = '%m '
"""


def _program(name: str) -> str:
    path = _PROGRAMS / name
    if not path.exists():
        _ADVICE.parent.mkdir(parents=True, exist_ok=True)
        _ADVICE.write_text("create_main_cluster = false\n")
        try:
            install(PACKAGE)
        finally:
            _ADVICE.unlink()
    if not path.exists():
        raise RuntimeError(f"{PACKAGE} is installed and has no {path}")
    return str(path)


def prepare() -> None:
    """Install it, if need be."""
    _program("initdb")


class Postgres:
    """One server with one superuser, `checker`, whose password must be given."""

    def __init__(self, directory: Path, password: str) -> None:
        """directory: an empty one that is ours; it becomes the server's user's."""
        self.port = free_port()
        self._password = password
        self._directory = directory
        self._log = directory / "postgres.log"
        self._child: Child | None = None
        self._as_user: list[str] = []

    def url(self, database: str = "postgres", user: str = USER) -> str:
        """As a store's settings have it: without a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make its files."""
        initdb = _program("initdb")
        data, secret = self._directory / "data", self._directory / "password"
        secret.write_text(self._password)
        secret.chmod(0o600)
        if os.geteuid() == 0:
            # It refuses to be root.
            owner = pwd.getpwnam("postgres")
            ids = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
            # Whoever becomes another user loses the signal that ends him with us: it is asked for again.
            self._as_user = ["setpriv", *ids, "--pdeathsig=INT"]
            for path in (self._directory, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        words = [initdb, "-D", str(data), "-U", USER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256", "-N"]
        done = subprocess.run(
            [*self._as_user, *words, f"--pwfile={secret}"],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{done.stderr[-2000:]}")
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"{_SETTINGS}port = {self.port}\nunix_socket_directories = '{self._directory}'\n")

    async def start(self) -> None:
        """Start it, again on the same files after a stop; it serves then."""
        command = [*self._as_user, _program("postgres"), "-D", str(self._directory / "data")]
        self._child = Child("postgres", command, self._log)
        await self._child.until(self._answers, _START)

    async def _answers(self) -> bool:
        try:
            connection = await self.connect()
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        await connection.close()
        return True

    async def stop(self) -> None:
        """End it at once, in order: whoever is connected is put out."""
        child, self._child = self._child, None
        if child is not None and child.exit_code is None:
            # On SIGTERM it would wait for its clients.
            child.signal(signal.SIGINT)
            try:
                await child.ended(20)
            except TimeoutError:
                child.kill_group()
                await child.ended(5)

    async def connect(self, database: str = "postgres") -> asyncpg.Connection[Any]:
        """A superuser's connection."""
        return await asyncpg.connect(self.url(database), password=self._password, timeout=20)

    async def run(self, *statements: str, database: str = "postgres") -> None:
        """Statements, each in a transaction of its own."""
        connection = await self.connect(database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def running(password: str) -> Iterator[Postgres]:
    """A server for the time of some tests, and nothing of it afterwards."""
    # A short directory: Unix socket paths have at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="cf-pg-", dir="/tmp"))
    server = Postgres(directory, password)
    try:
        server.create()
        asyncio.run(server.start())
        yield server
    finally:
        try:
            asyncio.run(server.stop())
        finally:
            shutil.rmtree(directory)
