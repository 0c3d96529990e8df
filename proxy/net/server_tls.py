"""TLS towards clients: 1.2 and 1.3, certificates by server name, client certificates where they are asked for."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Final, NamedTuple

from config.model import ListenTls
from proxy.net.live_context import BadTls, LiveContext, load_authorities, load_pair, reason

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secret and authenticated, as TLS 1.3 has nothing else."""
ALPN: Final = ("http/1.1",)


class Described(NamedTuple):
    """A certificate file. names: the host names it is made out to; expires_at: seconds since 1970."""

    file: str
    names: tuple[str, ...]
    expires_at: float


class ServerTls:
    """The TLS of one listener; raises BadTls. address: for messages."""

    def __init__(self, settings: ListenTls, address: str) -> None:
        self._settings = settings
        self.address = address
        self._pairs = [(settings.cert, settings.key), *((each.cert, each.key) for each in settings.sni)]
        self.certificates: list[Described] = []
        """What is in use, the default first."""
        files = [path for pair in self._pairs for path in pair]
        if settings.client_ca is not None:
            files.append(settings.client_ca)
        self.live = LiveContext(f"TLS on {address}", files, self._make)

    def _make(self) -> ssl.SSLContext:
        """All contexts; the first chooses among them by the name that the client asks for."""
        contexts = [self._one(cert, key) for cert, key in self._pairs]
        described = [describe(cert) for cert, _ in self._pairs]
        by_name: dict[str, ssl.SSLContext] = {}
        for each, context in zip(described, contexts, strict=True):
            for name in each.names:
                by_name.setdefault(name, context)

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
            found = _find(by_name, name) if name is not None else None
            if found is not None:
                connection.context = found

        if len(contexts) > 1:
            contexts[0].sni_callback = choose
        self.certificates = described
        return contexts[0]

    def _one(self, cert: str, key: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(list(ALPN))
        load_pair(context, cert, key)
        if self._settings.client_ca is not None:
            load_authorities(context, self._settings.client_ca)
            is_required = self._settings.client_certificate == "required"
            context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
        return context


def _find(by_name: dict[str, ssl.SSLContext], name: str) -> ssl.SSLContext | None:
    """The context for a name; a wildcard stands for one label (RFC 6125 section 6.4.3)."""
    name = name.lower()
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])


def describe(cert: str) -> Described:
    """What a certificate file says of its first certificate; raises BadTls."""
    from cryptography import x509  # several megabytes, for listeners that speak TLS alone

    try:
        said = x509.load_pem_x509_certificate(Path(cert).read_bytes())
        alternative = [each.value for each in said.extensions if isinstance(each.value, x509.SubjectAlternativeName)]
    except (OSError, ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise BadTls(f"the certificate {cert} cannot be read: {reason(error)}") from None
    names = [name.lower() for value in alternative for name in value.get_values_for_type(x509.DNSName)]
    return Described(cert, tuple(names), said.not_valid_after_utc.timestamp())


def days_left(expires_at: float, now: float | None = None) -> float:
    """Days until a moment; negative when it is over."""
    return (expires_at - (time.time() if now is None else now)) / 86400.0
