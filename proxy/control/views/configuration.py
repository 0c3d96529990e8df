"""The configuration that is served, and a reload of it."""

from __future__ import annotations

import msgspec


class FileErrorView(msgspec.Struct):
    """Something that is wrong with a configuration file. line, column: from 1, 0 where the whole file is meant."""

    path: str
    line: int
    column: int
    message: str
    suggestion: str


class TroubleView(msgspec.Struct):
    """Why the configuration file, as it was looked at last, is not served. errors: in it; refused: what stands against
    it.
    """

    since: str
    errors: list[FileErrorView]
    refused: list[str]


class LastSwitch(msgspec.Struct):
    """The replacement of processes that runs, or ran last. kind: upgrade or reload; result: empty while it runs."""

    number: int
    kind: str
    phase: str
    result: str
    reason: str


class ConfigView(msgspec.Struct):
    """Which configuration is served. digest: names it; actor, reason: who had it applied, null for the first one.

    workers: how many go by it, of how many; reload: when the file is read again; trouble: why it is not served as it is
    now, or null; switch: the last replacement of processes, or null; settings: every key, with secrets hidden.
    """

    file: str
    digest: str
    loaded_at: str
    epoch: int
    actor: str | None
    reason: str | None
    workers: int
    of: int
    reload: str
    trouble: TroubleView | None
    switch: LastSwitch | None
    settings: dict[str, str]


class ServedView(msgspec.Struct):
    """Which configuration is served, at a glance; as in `ConfigView`."""

    file: str
    digest: str
    loaded_at: str
    workers: int
    of: int
    trouble: TroubleView | None


class KeyChangeView(msgspec.Struct):
    """A key with another value. kind: live, startup or fixed; why: of a fixed one, why, and what to do instead."""

    key: str
    before: str
    after: str
    kind: str
    why: str | None


class ReloadView(msgspec.Struct):
    """What a reload changes. refused: what stands against it; begun: it is being applied: the configuration of `digest`
    is served soon, under an epoch after `epoch`.
    """

    file: str
    digest: str
    epoch: int
    changes: list[KeyChangeView]
    refused: list[str]
    dry_run: bool
    begun: bool
