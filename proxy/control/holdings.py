"""What the launcher holds for an instance's whole life: lock, listening sockets, shared memory, pipes.

Everything a person must mend is found here, before any process starts and before anything is written:
an unwritable state directory, a path too long for a Unix socket, another instance, a taken port.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from config.model import Settings
from proxy.control import descriptors, sealed
from proxy.control.places import Places
from proxy.control.plan import Address, Terms
from proxy.control.salt import check_salt
from proxy.control.sockets import address_text, is_at, listen_tcp
from proxy.control.version import VERSION
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
_UNACKED: Final = 24
"""Where Linux has the length of a listener's queue in `struct tcp_info` (`tcpi_unacked`, see tcp(7))."""
_OF_THE_FILE_SYSTEM: Final = "lost+found"
"""Lies in every new ext4 volume that is mounted as a state directory."""


class Held(NamedTuple):
    """A listening socket. address: as `listen` names it; is_ours: no service manager holds it, too."""

    address: Address
    socket: socket.socket
    is_ours: bool

    def refuse(self) -> None:
        """Refuse new clients, whoever else has the descriptor. A service manager's keeps its queue for the next."""
        if self.is_ours:
            with suppress(OSError):  # not connected: it was shut down before
                self.socket.shutdown(socket.SHUT_RD)

    @property
    def queued(self) -> int:
        """Clients that are connected and not accepted yet; refusing new ones resets them."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int.from_bytes(info[_UNACKED : _UNACKED + 4], sys.byteorder)


class HeldDescriptors(msgspec.Struct):
    """What a launcher holds, by the numbers of its descriptors. listeners: address, descriptor, is_ours."""

    lock_fd: int
    marks_fd: int
    config_fd: int
    lifeline_fd: int
    lifeline_end: int
    ready_read_fd: int
    ready_fd: int
    listeners: list[tuple[Address, int, bool]]

    def numbers(self) -> list[int]:
        """All of them."""
        of_fields = [value for value in msgspec.structs.astuple(self) if isinstance(value, int)]
        return [*of_fields, *(fd for _, fd, _ in self.listeners)]


class Holdings:
    """Acquired at once by the constructor, which raises RefuseToStart; let go by `close`.

    activated: listening sockets that a service manager passed.

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
        activated: Sequence[socket.socket] = (),
    ) -> None:
        # By the name that it was given: links on the way to it are turned, and lead elsewhere when it is read again.
        self._begin(Terms.of(settings), Path(os.path.abspath(path)), wait, clock, sleep)
        left = list(activated)
        try:
            self._acquire(settings, left)
        except BaseException:
            for each in left:
                each.close()
            self.close()
            raise

    def _begin(
        self,
        terms: Terms,
        path: Path,
        wait: float = WAIT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.terms = terms
        self.config_path = path
        self.places = Places(Path(terms.state_dir), terms.admin_socket)
        self._wait, self._clock, self._sleep = wait, clock, sleep
        self._descriptors: list[int] = []
        self.listeners: list[Held] = []

    @classmethod
    def adopted(cls, held: HeldDescriptors, terms: Terms, path: Path) -> Holdings:
        """What another launcher held before it became this one. Nothing is opened, so nothing can be lost."""
        self = cls.__new__(cls)
        self._begin(terms, path)
        for name in ("lock_fd", "marks_fd", "config_fd", "lifeline_fd", "lifeline_end", "ready_read_fd", "ready_fd"):
            descriptor: int = getattr(held, name)
            os.set_inheritable(descriptor, False)
            setattr(self, name, self._keep(descriptor))
        self.listeners = [Held(each, socket.socket(fileno=fd), ours) for each, fd, ours in held.listeners]
        for listener in self.listeners:
            listener.socket.set_inheritable(False)
        return self

    @property
    def held(self) -> HeldDescriptors:
        """The descriptors, for `adopted`."""
        return HeldDescriptors(
            lock_fd=self.lock_fd,
            marks_fd=self.marks_fd,
            config_fd=self.config_fd,
            lifeline_fd=self.lifeline_fd,
            lifeline_end=self.lifeline_end,
            ready_read_fd=self.ready_read_fd,
            ready_fd=self.ready_fd,
            listeners=[(each.address, each.socket.fileno(), each.is_ours) for each in self.listeners],
        )

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets, in the order of `listen`."""
        return [each.socket for each in self.listeners]

    def _acquire(self, settings: Settings, activated: list[socket.socket]) -> None:
        descriptors.check(settings, descriptors.limit())
        prepare_directories(self.places)
        self.lock_fd, waited = self._take_lock()
        for name, backend in settings.backends.items():
            if client_tls(name, backend) is not None and backend.tls.insecure:
                log.warning("%s: any certificate is believed (tls.insecure): its events are not safe on the way", name)
        for each in settings.listen:
            if each.tls is not None:
                ServerTls(each.tls, each.address)  # found here, it is the last line on stderr and nothing was started
        for address in self.terms.listen:
            self.listeners.append(self._held(address, activated, patient=waited))
        if activated:
            raise RefuseToStart(
                f"the service manager passed sockets that `listen` does not name: "
                f"{', '.join(address_text(each) for each in activated)}; "
                "name them there, or take them from the socket unit"
            )
        check_salt(self.places.salt, settings.salt)  # last: what could not start binds no salt to its state
        self.marks_fd = self._keep(marks.create(len(settings.routes)))
        self.config_fd = self._keep(os.memfd_create("crossfade-config"))
        os.write(self.config_fd, sealed.seal(settings, VERSION))
        # Its end is open in this process alone, for as long as it lives: that is its whole meaning.
        self.lifeline_fd, self.lifeline_end = (self._keep(fd) for fd in os.pipe())
        self.ready_read_fd, self.ready_fd = (self._keep(fd) for fd in os.pipe())
        os.set_blocking(self.ready_read_fd, False)

    def _held(self, address: Address, activated: list[socket.socket], *, patient: bool) -> Held:
        """The socket of an address: the one that the service manager passed, which leaves the list, or one of ours."""
        found = next((each for each in activated if is_at(each, address.address)), None)
        if found is None:
            return Held(address, self._listen(address.address, patient=patient), is_ours=True)
        activated.remove(found)
        return Held(address, found, is_ours=False)

    def listeners_for(self, listen: Sequence[Address]) -> list[Held]:
        """The sockets for other addresses: those that are there already, and new ones; raises RefuseToStart.

        Nothing changes until `take`; what is new is to be closed when that does not come.
        """
        there = {each.address.address: each for each in self.listeners}
        found: list[Held] = []
        try:
            for address in listen:
                known = there.get(address.address)
                if known is not None:
                    found.append(Held(address, known.socket, known.is_ours))
                else:
                    found.append(Held(address, self._listen(address.address, patient=False), is_ours=True))
        except BaseException:
            self.drop(found)
            raise
        return found

    def drop(self, listeners: Sequence[Held]) -> None:
        """Close those of these sockets that are not in use."""
        used = set(self.sockets)
        for each in listeners:
            if each.socket not in used:
                each.refuse()
                each.socket.close()

    def take(self, terms: Terms, config_fd: int, listeners: Sequence[Held]) -> None:
        """These hold from now on; sockets that are not among them refuse clients and are closed."""
        before, self.listeners = self.listeners, list(listeners)
        self.drop(before)
        self.terms = terms
        self._descriptors.remove(self.config_fd)
        os.close(self.config_fd)
        self.config_fd = self._keep(config_fd)

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
        schemes = ["https" if each.tls else "http" for each in self.terms.listen]
        return [f"{scheme}://{address}" for scheme, address in zip(schemes, self.addresses, strict=True)]

    async def emptied(self, seconds: float) -> None:
        """Wait until everybody who has connected is accepted, so long at most."""
        end = time.monotonic() + seconds
        while any(each.is_ours and each.queued for each in self.listeners) and time.monotonic() < end:
            await asyncio.sleep(0.001)
        if left := sum(each.queued for each in self.listeners if each.is_ours):
            log.warning("%d clients were not accepted in time: they are reset", left)

    def stop_listening(self) -> None:
        """Refuse new clients from now on, whoever else holds the sockets.

        Closing our descriptors would not: children hold them too, and clients would wait in the
        queue of a listener that nobody serves, to be reset when the last holder ends.
        """
        for each in self.listeners:
            each.refuse()

    def stopped_cleanly(self) -> None:
        """Every child has ended: a successor need not wait for anybody."""
        os.ftruncate(self.lock_fd, 0)

    def close(self) -> None:
        """Let go of everything; the lock last, so that a successor finds the rest free."""
        for each in self.listeners:
            each.socket.close()
        self.listeners.clear()
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
    # An orchestrator may have put the tokens there before the first start.
    ours = {places.ledger_socket.parent.name, places.ledger.name, places.tokens.name, _OF_THE_FILE_SYSTEM}
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
