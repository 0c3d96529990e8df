"""Certificates for tests: an authority in memory, and pairs in files as an administrator would have them."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme


class Pair(NamedTuple):
    """Files of a certificate chain and its key."""

    cert: str
    key: str

    @property
    def settings(self) -> dict[str, str]:
        """As it is written in a configuration."""
        return {"cert": self.cert, "key": self.key}


class Authority:
    """Issues certificates into a directory. `file` holds the authority's own."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=name)
        self._directory = directory
        self.file = str(directory / f"{name}.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *hosts: str, expired: bool = False) -> Pair:
        """A pair of files called `name`, put in place one after the other by renaming. hosts: names or addresses."""
        now = datetime.now(UTC)
        begins = now - timedelta(days=20)
        ends = now + timedelta(days=-10 if expired else 365)
        issued = self._ca.issue_cert(*(hosts or ("127.0.0.1", "localhost")), not_before=begins, not_after=ends)
        pair = Pair(str(self._directory / f"{name}.crt"), str(self._directory / f"{name}.key"))
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        for path, data in ((pair.cert, chain), (pair.key, issued.private_key_pem.bytes())):
            Path(f"{path}.new").write_bytes(data)
            os.replace(f"{path}.new", path)
        return pair

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """The context of a client that believes this authority. pair: the certificate that it shows."""
        context = ssl.create_default_context(cafile=self.file)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context

    def server(self, pair: Pair, *, asks: bool = False) -> ssl.SSLContext:
        """The context of a server. asks: only clients with a certificate of this authority are let in."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.file)
        context.load_cert_chain(*pair)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
        return context
