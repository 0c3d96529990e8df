"""The rows of one window, in parts that fit into memory.

    rows of both stores, chunk by chunk --> held, as long as they are few: one part
                                        --> else files on disk, by a hash of the name: many parts, each split in turn
                                            where it is too large itself

Every name lies in one part alone, with all its rows of both sides, so that each part is compared by itself. The files
have no name on disk: they are gone with the process, however it ends.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Final, NamedTuple

from consistency.rows import Row
from consistency.rules import Incomparable

FAN_OUT: Final = 16
"""Files that one part is split into."""
DEEPEST: Final = 6
"""Splits, one within the other: what is too large then is one name with a great many rows."""
SAMPLED: Final = 256
"""Of so many rows one is measured."""
GROWTH: Final = 5
"""Bytes that a row takes while it is compared, for each byte that it takes when it is written down."""


class Part(NamedTuple):
    """old, new: rows of each side, in order of time. has: whether a name belongs to it."""

    old: list[Row]
    new: list[Row]
    has: Callable[[str], bool]

    @property
    def is_all(self) -> bool:
        """It is the only one."""
        return self.has is everything


class NoRoom(Exception):
    """There is no room on disk for what does not fit into memory."""


def everything(_name: str) -> bool:
    """Belongs to the only part."""
    return True


class Parts:
    """Takes rows, then gives parts, once.

    name_of: what a row is counted under; most: bytes of rows that are held, by a rough estimate; level, number: of the
    part that is split here, for our own use. Adding and giving raise NoRoom, and rules.Incomparable.
    """

    def __init__(self, name_of: Callable[[Row], str], most: int, *, level: int = 0, number: int = 0) -> None:
        self._name_of = name_of
        self._most = most
        self._level = level
        self._number = number
        self._size = 0
        self._held: tuple[list[Row], list[Row]] = ([], [])
        self._files: list[IO[bytes]] = []

    def add(self, side: int, rows: Sequence[Row]) -> None:
        """More rows of a side, behind those that it gave before."""
        if self._files:
            self._write(side, rows)
            return
        self._held[side].extend(rows)
        self._size += size_of(rows)
        if self._size > self._most and self._level < DEEPEST:
            with _room():
                self._files = [tempfile.TemporaryFile() for _ in range(FAN_OUT)]  # noqa: SIM115 - until `close`
            for each, held in enumerate(self._held):
                self._write(each, held)
                held.clear()

    def __iter__(self) -> Generator[Part, None, None]:
        """All parts, one in memory at a time, unless who asks keeps them."""
        if not self._files:
            yield Part(*self._held, self._has)
        for number, file in enumerate(self._files):
            inner = Parts(
                self._name_of, self._most, level=self._level + 1, number=self._number + number * FAN_OUT**self._level
            )
            try:
                with _room():
                    file.seek(0)
                for side, rows in _read(file):
                    inner.add(side, rows)
                file.close()
                yield from inner
            finally:
                inner.close()

    def close(self) -> None:
        """Let go of files and rows."""
        for file in self._files:
            with suppress(OSError):  # it has something to write yet, and there is no room
                file.close()
        for held in self._held:
            held.clear()

    @property
    def _has(self) -> Callable[[str], bool]:
        if not self._level:
            return everything
        modulus, number = FAN_OUT**self._level, self._number
        return lambda name: hash(name) % modulus == number

    def _write(self, side: int, rows: Sequence[Row]) -> None:
        parts: list[list[Row]] = [[] for _ in self._files]
        divisor = FAN_OUT**self._level
        for row in rows:
            parts[hash(self._name_of(row)) // divisor % FAN_OUT].append(row)
        with _room():
            for file, part in zip(self._files, parts, strict=True):
                if part:
                    file.write(_written((side, part)))


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoRoom(f"what does not fit into memory cannot be kept in {tempfile.gettempdir()}: {error}") from None


def size_of(rows: Sequence[Row]) -> int:
    """Bytes that rows take while they are compared, roughly."""
    some = rows[::SAMPLED]
    if not some:
        return 0
    written = sum(len(_written(row)) for row in some)
    return len(rows) * GROWTH * written // len(some)


def _written(value: Row | tuple[int, list[Row]]) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except RecursionError:
        raise Incomparable("a value is nested too deep") from None


def _read(file: IO[bytes]) -> Iterator[tuple[int, list[Row]]]:
    """What was written, in order."""
    while True:
        try:
            side, rows = pickle.load(file)  # noqa: S301 - nobody else can write to it: it has no name
        except EOFError:
            return
        yield side, rows
