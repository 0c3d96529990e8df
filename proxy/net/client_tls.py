"""TLS towards a backend: verified unless told otherwise, with a certificate of our own where one is asked for."""

from __future__ import annotations

import ssl

from config.model import Backend, BackendTls
from proxy.net.live_context import LiveContext, load_authorities, load_pair
from proxy.net.server_tls import ALPN, CIPHERS

SHUTDOWN: float = 5.0
"""Seconds that a backend's end of a connection may take."""


class ClientTls:
    """How one backend is spoken to. server_name: None for that of the address itself. Raises BadTls."""

    def __init__(self, backend: str, settings: BackendTls) -> None:
        self._settings = settings
        self.server_name = settings.server_name
        files = [path for path in (settings.ca, settings.cert, settings.key) if path is not None]
        self.live = LiveContext(f"TLS with {backend}", files, self._make)

    def _make(self) -> ssl.SSLContext:
        settings = self._settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(list(ALPN))
        if settings.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif settings.ca is not None:
            load_authorities(context, settings.ca)
        else:
            context.load_default_certs()
        if settings.cert is not None and settings.key is not None:
            load_pair(context, settings.cert, settings.key)
        return context


def client_tls(name: str, backend: Backend) -> ClientTls | None:
    """The TLS for a backend; None when its urls are plain. Raises BadTls."""
    return ClientTls(name, backend.tls) if backend.is_tls else None
