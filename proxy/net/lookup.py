"""Names to addresses: as the system does it, or from DNS servers where SRV records or a `resolver` ask for that.

The system's way knows /etc/hosts, mDNS and whatever else is configured, but neither SRV records nor how long an
answer lives. c-ares (aiodns) knows these, caches by them, and is only started when one of them is needed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from config.units import BackendUrl

if TYPE_CHECKING:
    import aiodns

_TIMEOUT: Final = 5.0
"""Seconds for a whole lookup, with every record that it leads to."""
_QUERY_TIMEOUT: Final = 1.0
_TRIES: Final = 3


class Address(NamedTuple):
    """Where an endpoint listens. host: an IP address; name: what it was looked up by, which its certificate is for.

    weight and priority: of its SRV record (RFC 2782): the lowest priority is used while any of it can be.
    """

    host: str
    port: int
    name: str
    weight: int = 1
    priority: int = 0

    @property
    def is_ipv6(self) -> bool:
        """Which of the two families it is of."""
        return ":" in self.host

    @property
    def text(self) -> str:
        """`10.0.0.1:80` or `[::1]:80`."""
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


class Answer(NamedTuple):
    """What a name stands for now. ttl: seconds that this is good for, None when nobody knows."""

    addresses: tuple[Address, ...]
    ttl: float | None


class LookupFailed(Exception):
    """There is no answer; the message says why."""


class Lookup:
    """Looks names up. servers: DNS servers, `10.0.0.2:53`; none: the system's ways, and its servers for SRV records."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = tuple(servers)
        self._dns: aiodns.DNSResolver | None = None

    async def find(self, url: BackendUrl) -> Answer:
        """Every address behind a url; raises LookupFailed, also when there is none."""
        if url.is_literal:
            return Answer((Address(url.host, url.port, url.host),), None)
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._services(url.host) if url.is_srv else await self._hosts(url.host, url.port)
        except TimeoutError:
            raise LookupFailed(f"no answer about {url.host} within {_TIMEOUT:g} s") from None
        except OSError as error:
            raise LookupFailed(f"{url.host}: {error.strerror or error}") from None
        if not answer.addresses:
            raise LookupFailed(f"{url.host} has no address")
        return answer

    async def _hosts(self, name: str, port: int) -> Answer:
        if self._servers:
            return await self._hosts_by_dns(name, port)
        found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        return Answer(tuple(dict.fromkeys(Address(str(where[0]), port, name) for *_, where in found)), None)

    async def _hosts_by_dns(self, name: str, port: int) -> Answer:
        found = await _asked(self._resolver().getaddrinfo(name, family=socket.AF_UNSPEC), name)
        addresses = tuple(dict.fromkeys(Address(node.addr[0].decode(), port, name) for node in found.nodes))
        return Answer(addresses, min((float(node.ttl) for node in found.nodes), default=None))

    async def _services(self, name: str) -> Answer:
        """Every address of every target. A target of "." says that there is no such service (RFC 2782)."""
        said = await _asked(self._resolver().query_dns(name, "SRV"), name)
        records = [record for record in said.answer if hasattr(record.data, "target")]
        targets = [record.data for record in records if record.data.target.rstrip(".")]
        hosts = [target.target.rstrip(".").lower() for target in targets]
        asked = zip(hosts, targets, strict=True)
        found = await asyncio.gather(*(self._target(host, target.port) for host, target in asked))
        behind = [answer for answer in found if not isinstance(answer, LookupFailed)]
        if found and not behind:
            raise next(answer for answer in found if isinstance(answer, LookupFailed))
        addresses = tuple(
            dict.fromkeys(
                address._replace(weight=target.weight, priority=target.priority)
                for target, answer in zip(targets, found, strict=True)
                if not isinstance(answer, LookupFailed)
                for address in answer.addresses
            )
        )
        lives = [float(record.ttl) for record in records] + [each.ttl for each in behind if each.ttl is not None]
        return Answer(addresses, min(lives, default=None))

    async def _target(self, name: str, port: int) -> Answer | LookupFailed:
        """One target: when it has no address, the others are used."""
        try:
            return await self._hosts(name, port)
        except OSError as error:
            return LookupFailed(f"{name}: {error.strerror or error}")
        except LookupFailed as error:
            return error

    def _resolver(self) -> aiodns.DNSResolver:
        if self._dns is None:
            import aiodns

            self._dns = aiodns.DNSResolver(self._servers or None, timeout=_QUERY_TIMEOUT, tries=_TRIES)
        return self._dns

    async def close(self) -> None:
        """Let go of the DNS servers."""
        if self._dns is not None:
            dns, self._dns = self._dns, None
            await dns.close()


async def _asked(question: asyncio.Future[Any], name: str) -> Any:
    import aiodns.error

    try:
        return await question
    except aiodns.error.DNSError as error:
        raise LookupFailed(f"{name}: {error.args[-1]}") from None
