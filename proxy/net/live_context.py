"""A TLS context that follows its files: made anew when they change, kept when what is on disk cannot be used.

Connections keep the context they began with, so a reload touches none of them. A context is never changed
once it is in use: `load_cert_chain` on it would leave the new certificate with the old key when the pair is broken.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the files."""
_PATIENCE: Final = 2
"""Looks at the same broken files until they are called broken: a pair is often replaced one file after the other."""

Signature = tuple[tuple[int, int, int], ...]


class BadTls(RefuseToStart):
    """TLS files that cannot be used: refuses at the start, is told of afterwards. The message names the file."""


class LiveContext:
    """One TLS context. files: what it is made of; make: makes it, raises BadTls, which the constructor passes on."""

    def __init__(self, what: str, files: Sequence[str], make: Callable[[], ssl.SSLContext]) -> None:
        self._what = what
        self._files = tuple(files)
        self._make = make
        self._signature = self._look_at_files()
        self._tried = 0
        self.context = make()
        self.loaded_at = time.time()
        """When what is in use was loaded, seconds since 1970."""
        self.trouble = ""
        """Why the files as they are now are not in use; empty when they are."""
        self.reloads = 0
        self.failures = 0

    def _look_at_files(self) -> Signature:
        """What changes when a file does. The inode too: tools that put a new file in place may keep its times."""
        found = []
        for path in self._files:
            try:
                seen = os.stat(path)
                found.append((seen.st_mtime_ns, seen.st_ino, seen.st_size))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)

    def look(self) -> bool:
        """Load changed files; true when a new context is in use."""
        signature = self._look_at_files()
        if signature == self._signature:
            if not 0 < self._tried < _PATIENCE:
                return False
        else:
            self._signature = signature
            self._tried = 0
        try:
            self.context = self._make()
        except BadTls as error:
            self._failed(str(error))
            return False
        self._tried = 0
        self.reloads += 1
        self.trouble = ""
        self.loaded_at = time.time()
        log.info("%s: loaded again", self._what)
        return True

    def _failed(self, why: str) -> None:
        self._tried += 1
        if self._tried == _PATIENCE:
            self.failures += 1
            self.trouble = why
            log.warning("%s: %s; what was loaded before stays in use", self._what, why)


def load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Give a context its certificate chain and key; raises BadTls."""

    def no_passphrase() -> NoReturn:
        raise BadTls(f"the key {key} has a passphrase, and nobody is there to ask: store it without")

    try:
        context.load_cert_chain(cert, key, password=no_passphrase)
    except OSError as error:
        raise BadTls(f"the certificate {cert} with the key {key} cannot be used: {reason(error)}") from None


def load_authorities(context: ssl.SSLContext, path: str) -> None:
    """Make a context believe the authorities in a file; raises BadTls."""
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:
        raise BadTls(f"the authorities in {path} cannot be read: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """What went wrong with a handshake or a file, without OpenSSL's file and line numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}".rstrip(".")
    if isinstance(error, ssl.SSLError):
        # Some are made without a reason of OpenSSL's own.
        return str(getattr(error, "reason", None) or error.args[-1]).replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
