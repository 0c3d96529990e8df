"""What a switch is to do: decided by a short-lived process of the new code, done by the launcher.

    launcher --settings--> `proxy.worker.preflight KIND` --Preflight, settings--> launcher --> `proxy.control.switch`

The launcher knows of the settings only `Terms`, so that neither a key nor a rule that comes later needs another
launcher.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from config.model import Settings

SCHEMA: Final = 1
KINDS: Final = ("supervisor", "ledger", "worker", "checker")
"""Of processes, in the order in which a switch replaces them."""
Kind = Literal["supervisor", "ledger", "worker", "checker"]


class Address(msgspec.Struct, frozen=True):
    """Where clients connect, as `listen` writes it. tls: whether TLS is spoken there."""

    address: str
    tls: bool


class Terms(msgspec.Struct, frozen=True):
    """What the launcher goes by. Times are seconds; state_dir, admin_socket: as in the settings."""

    workers: int
    needs_checker: bool
    listen: tuple[Address, ...]
    state_dir: str
    admin_socket: str | None
    stop_grace: float
    drain_timeout: float
    upgrade_timeout: float
    accept_for: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Terms:
        """The terms that settings come to."""
        return cls(
            workers=settings.workers,
            needs_checker=settings.needs_checker,
            listen=tuple(Address(each.address, each.tls is not None) for each in settings.listen),
            state_dir=settings.state_dir,
            admin_socket=settings.admin.socket,
            stop_grace=settings.stop_grace,
            drain_timeout=settings.drain_timeout,
            upgrade_timeout=settings.upgrade_timeout,
            accept_for=settings.drain.accept_for,
        )


class Plan(msgspec.Struct, frozen=True):
    """kind: upgrade or reload; replaces: which processes give way to new ones, by kind.

    Workers and a checker that `terms` have more or less of begin or end, whether `replaces` names them or not.
    detail: what people are shown of it, such as a reload's differences.
    """

    kind: str
    terms: Terms
    replaces: tuple[Kind, ...] = KINDS
    detail: dict[str, Any] = {}


class Preflight(msgspec.Struct, frozen=True):
    """What the short-lived process found. refused: why nothing is to be done, or empty; then there is a plan."""

    refused: str = ""
    plan: Plan | None = None
    version: str = ""
    schema: int = SCHEMA
