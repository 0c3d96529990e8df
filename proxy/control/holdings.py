"""What the launcher holds for an instance's whole life: lock, listening sockets, shared memory, pipes.

Everything a person must mend is found here, before any process starts and before anything is written:
an unwritable state directory, a path too long for a Unix socket, another instance, a taken port.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import pickle
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from config.model import Settings
from proxy.control import descriptors
from proxy.control.inherit import places_of
from proxy.control.places import Places
from proxy.control.salt import check_salt
from proxy.control.sockets import address_text, listen_tcp
from proxy.core.errors import RefuseToStart
from proxy.ledger import marks
from proxy.net.client_tls import client_tls
from proxy.net.server_tls import ServerTls

log = logging.getLogger(__name__)

WAIT: Final = 15.0
"""Seconds that a new instance waits for a dying one's ledger to let go of the lock, and for its port."""
MAX_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path on Linux (sun_path, less its final NUL)."""
_POLL: Final = 0.05
_OF_THE_FILE_SYSTEM: Final = "lost+found"
"""Lies in every new ext4 volume that is mounted as a state directory."""


class Holdings:
    """Acquired at once by the constructor, which raises RefuseToStart; let go by `close`.

    clock and sleep are given by tests.
    """

    def __init__(
        self,
        settings: Settings,
        path: Path,
        *,
        wait: float = WAIT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.config_path = path.resolve()
        self.places = places_of(settings)
        self._wait, self._clock, self._sleep = wait, clock, sleep
        self._descriptors: list[int] = []
        self.sockets: list[socket.socket] = []
        try:
            self._acquire()
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> None:
        descriptors.check(self.settings, descriptors.limit())
        prepare_directories(self.places)
        self.lock_fd, waited = self._take_lock()
        for name, backend in self.settings.backends.items():
            if client_tls(name, backend) is not None and backend.tls.insecure:
                log.warning("%s: any certificate is believed (tls.insecure): its events are not safe on the way", name)
        for each in self.settings.listen:
            if each.tls is not None:
                ServerTls(each.tls, each.address)  # found here, it is the last line on stderr and nothing was started
            self.sockets.append(self._listen(each.address, patient=waited))
        check_salt(self.places.salt, self.settings.salt)  # last: what could not start binds no salt to its state
        self.marks_fd = self._keep(marks.create(len(self.settings.routes)))
        self.config_fd = self._keep(os.memfd_create("crossfade-config"))
        os.write(self.config_fd, pickle.dumps(self.settings))
        self.lifeline_fd, lifeline_end = (self._keep(fd) for fd in os.pipe())
        del lifeline_end  # open in this process alone, for as long as it lives: that is its whole meaning
        self.ready_read_fd, self.ready_fd = (self._keep(fd) for fd in os.pipe())
        os.set_blocking(self.ready_read_fd, False)

    def _keep(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _take_lock(self) -> tuple[int, bool]:
        """The lock's descriptor, and whether somebody may still be dying: then ports are waited for too."""
        descriptor = self._keep(os.open(self.places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        deadline = self._clock() + self._wait
        waited = False
        while not _try_lock(descriptor):
            holder = _holder(descriptor) or "unknown"
            # A launcher that lives will not let go; only what a dead one left behind is worth waiting for.
            if _is_somebody_else_alive(holder) or self._clock() >= deadline:
                raise RefuseToStart(
                    f"{self.places.root} is in use by another instance (process {holder}); "
                    f"stop it, or give this one a state_dir of its own"
                )
            if not waited:
                log.warning("%s is held by process %s; waiting up to %g s", self.places.lock, holder, self._wait)
            waited = True
            self._sleep(_POLL)
        # A clean stop empties the file. A name in it means that a predecessor was killed: its ledger may be
        # gone already, and its workers, which are finishing what they have, may not.
        died = bool(_holder(descriptor))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor, waited or died

    def _listen(self, address: str, *, patient: bool) -> socket.socket:
        """A listening socket; `patient` when a dying instance may still hold the port."""
        deadline = self._clock() + (self._wait if patient else 0.0)
        waited = False
        while True:
            try:
                return listen_tcp(address)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or self._clock() >= deadline:
                    raise RefuseToStart(
                        f"cannot listen on {address}: {error.strerror or error}; "
                        "stop what uses it, or give `listen` another address"
                    ) from None
            if not waited:
                log.warning("%s is still in use; waiting up to %g s", address, self._wait)
            waited = True
            self._sleep(_POLL)

    @property
    def addresses(self) -> list[str]:
        """Where clients connect, with the real ports."""
        return [address_text(each) for each in self.sockets]

    @property
    def urls(self) -> list[str]:
        """The same with what is spoken there."""
        schemes = ["https" if each.tls is not None else "http" for each in self.settings.listen]
        return [f"{scheme}://{address}" for scheme, address in zip(schemes, self.addresses, strict=True)]

    def stop_listening(self) -> None:
        """Refuse new clients from now on, whoever else holds the sockets.

        Closing our descriptors would not: children hold them too, and clients would wait in the
        queue of a listener that nobody serves, to be reset when the last holder ends.
        """
        for each in self.sockets:
            with suppress(OSError):  # not connected: it was shut down before
                each.shutdown(socket.SHUT_RD)

    def stopped_cleanly(self) -> None:
        """Every child has ended: a successor need not wait for anybody."""
        os.ftruncate(self.lock_fd, 0)

    def close(self) -> None:
        """Let go of everything; the lock last, so that a successor finds the rest free."""
        for each in self.sockets:
            each.close()
        self.sockets.clear()
        for descriptor in reversed(self._descriptors):
            with suppress(OSError):  # closed already: nothing is held then
                os.close(descriptor)
        self._descriptors.clear()


def prepare_directories(places: Places) -> None:
    """Make the state directory (0700) or use one of ours, and see that it can be written; raises RefuseToStart.

    What exists keeps its mode: it may be somebody's on purpose, and a wrong path must not lock others out.
    """
    for each in (places.ledger_socket, places.control_socket, places.admin_socket):
        if len(os.fsencode(each)) > MAX_SOCKET_PATH:
            raise RefuseToStart(
                f"{each} is too long for a Unix socket ({len(os.fsencode(each))} bytes, at most {MAX_SOCKET_PATH}); "
                "choose a shorter state_dir or admin.socket"
            )
    probe = places.root / f".probe-{os.getpid()}"
    try:
        if places.root.exists() and not _may_be_ours(places):
            raise RefuseToStart(
                f"{places.root} holds files that are not Crossfade's, and nothing in it was touched; "
                "give state_dir a directory of its own"
            )
        for directory in (places.root, places.ledger_socket.parent):
            _make_directory(directory)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise RefuseToStart(f"cannot write in the state directory {places.root}: {error.strerror or error}") from None


def _may_be_ours(places: Places) -> bool:
    """Is a directory empty, or one that an instance has used before?"""
    # `run` and `ledger` prove nothing beside strangers: many directories have such a folder.
    if any(each.is_file() for each in (places.lock, places.salt, places.routing)):
        return True
    ours = {places.ledger_socket.parent.name, places.ledger.name, _OF_THE_FILE_SYSTEM}
    return all(each.name in ours for each in places.root.iterdir())


def _make_directory(directory: Path) -> None:
    """Make it with mode 0700; one that exists is used as it is."""
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        mode = directory.stat().st_mode
        if mode & 0o077:
            log.warning(
                "%s may be used by others (mode %o); to keep events private: chmod 700 %s",
                directory,
                mode & 0o777,
                directory,
            )


def _holder(descriptor: int) -> str:
    """The process id that a lock file names, or an empty text."""
    return os.pread(descriptor, 32, 0).decode(errors="replace").strip()


def _is_somebody_else_alive(pid: str) -> bool:
    """Does another process with this number run? One that is not reaped yet is dead.

    Our own number is that of a namesake: in a container the launcher is process 1 each time.
    """
    if not pid.isdecimal() or int(pid) == os.getpid():
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
