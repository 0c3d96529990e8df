"""Which configuration is served: `configuration.json` in the state directory, so that the next says what it changes.

    reload   a process that read the changed file proposes it; what was decided is kept (`Asked`), who asked and why
    start    the supervisor that follows finds its settings to be others than those that were served: that is the change

So a reload, a restart with another file, and one that was put back because a process would not start with it are one
and the same: whoever serves says what is different now, under a new epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from config.changes import Change, changes, digest, flatten, redacted
from config.model import Settings
from proxy.control.audit import iso
from proxy.control.files import write_whole
from proxy.control.link import FileError, KeyChange
from proxy.control.switch_state import SwitchState

log = logging.getLogger(__name__)

SCHEMA: Final = 1
MAX_BYTES: Final = 2**20
"""What is read of a file: `config.document` takes no more."""


class Asked(msgspec.Struct, frozen=True):
    """Who had a configuration applied. digest: of it."""

    digest: str
    actor: str
    reason: str


class Trouble(msgspec.Struct, frozen=True):
    """Why the file as it is now is not served. since: seconds since 1970; text: digest of what it held.

    errors: in it; refused: what stands against it.
    """

    since: float
    text: str
    errors: tuple[FileError, ...] = ()
    refused: tuple[str, ...] = ()


class Kept(msgspec.Struct):
    """The file. flat: every key of what is served, secrets as fingerprints; loaded_at: seconds since 1970.

    instead_of: digests of those in whose place running workers may put it, for only live keys are others; text: digest
    of the file that was looked at last; moving: routes whose position is to follow the file's, and does not yet.
    """

    schema: int
    digest: str
    flat: dict[str, str]
    loaded_at: float
    actor: str = ""
    reason: str = ""
    instead_of: list[str] = []
    asked: Asked | None = None
    trouble: Trouble | None = None
    text: str = ""
    moving: list[str] = []


class Configuration:
    """What an instance serves. path: of the file that keeps it; file: the configuration's; wall: seconds since 1970.

    started: when the launcher was, which had loaded the file then; seconds since 1970.
    """

    def __init__(
        self, path: Path, settings: Settings, file: Path, wall: Callable[[], float], started: float = 0.0
    ) -> None:
        self.file = file
        self._path = path
        self._wall = wall
        self._started = started
        self.flat = flatten(settings)
        self.digest = digest(self.flat)
        self._kept = _read(path)
        before = self._kept
        self.changes: tuple[Change, ...] = changes(before.flat, self.flat) if before is not None else ()
        """What is different from what was served before; empty at a first start."""
        asked = before.asked if before is not None and before.asked is not None else None
        self._asked = asked if asked is not None and asked.digest == self.digest else None

    @property
    def is_other(self) -> bool:
        """Is this not what was served before?"""
        return bool(self.changes)

    @property
    def who(self) -> tuple[str, str]:
        """Who had it applied, and why."""
        if self._asked is not None:
            return self._asked.actor, self._asked.reason
        return "crossfade", "the file was another one at the start"

    @property
    def moving(self) -> tuple[str, ...]:
        """Routes whose position is to follow the file's, because that is another one than before."""
        return tuple(self._kept.moving) if self._kept is not None else ()

    @property
    def instead_of(self) -> list[str]:
        """Digests of settings in whose place running workers may put these."""
        before = self._kept
        if before is None:
            return []
        if not self.is_other:
            return before.instead_of if before.digest == self.digest else []  # else it is another version's
        if all(each.rule.kind == "live" for each in self.changes):
            return sorted({*before.instead_of, before.digest} - {self.digest})
        return []

    @property
    def trouble(self) -> Trouble | None:
        """Why the file as it was looked at last is not served."""
        return self._kept.trouble if self._kept is not None else None

    @property
    def text(self) -> str:
        """Digest of the file that was looked at last; empty before the first look."""
        return self._kept.text if self._kept is not None else ""

    @property
    def loaded(self) -> str:
        """When it was loaded, ISO 8601."""
        return iso(self._kept.loaded_at) if self._kept is not None else ""

    @property
    def actor(self) -> str:
        """Who had it applied; empty for the first one."""
        return self._kept.actor if self._kept is not None else ""

    @property
    def reason(self) -> str:
        """Why."""
        return self._kept.reason if self._kept is not None else ""

    def shown(self) -> dict[str, str]:
        """Every key, secrets hidden."""
        return redacted(self.flat)

    def serve(self) -> None:
        """This is what is served from now on. Raises OSError."""
        before = self._kept
        if before is not None and before.digest == self.digest:
            if before.trouble is not None and before.trouble.since < self._started:
                self._change(trouble=None)  # the instance was started with the file since
            return
        actor, reason = self.who if before is not None else ("", "")
        self._kept = Kept(
            schema=SCHEMA,
            digest=self.digest,
            flat=self.flat,
            loaded_at=self._wall(),
            actor=actor,
            reason=reason,
            instead_of=self.instead_of,
            text=before.text if before is not None else text_digest(read_text(self.file)),
            moving=self._moved(),
        )
        self._write()

    def _moved(self) -> list[str]:
        keys = {each.key for each in self.changes}
        found = [n for n in names_in(self.flat) if keys & {f"routes.{n}.stage", f"routes.{n}.weight"}]
        return [*found, *(name for name in self.moving if name not in found and name in names_in(self.flat))]

    def moved(self, route: str) -> None:
        """The position of a route followed the file's, or may not. Raises OSError."""
        self._change(moving=[name for name in self.moving if name != route])

    def approve(self, asked: Asked, text: str) -> None:
        """The one that comes next, and who wants it. Raises OSError."""
        self._change(asked=asked, trouble=None, text=text)

    def refuse(self, text: str, errors: Sequence[FileError], refused: Sequence[str]) -> bool:
        """The file is not served; true when that is news. Raises OSError."""
        known, found = self.trouble, Trouble(self._wall(), text, tuple(errors), tuple(refused))
        if known is not None and (known.text, known.errors, known.refused) == (text, found.errors, found.refused):
            return False
        if known is not None and known.errors and found.errors:
            found = msgspec.structs.replace(found, since=known.since)
        self._change(trouble=found, text=text)
        return True

    def put_back(self, why: str) -> None:
        """The one that was approved was served for a moment, or not at all. Raises OSError."""
        found = Trouble(self._wall(), self.text, refused=(f"it was put back: {why}",))
        self._change(trouble=found, asked=None)

    def ended(self, switch: SwitchState) -> None:
        """A switch ended: what was approved for a reload that came to nothing is not served. Raises OSError."""
        asked = self._kept.asked if self._kept is not None else None
        is_waited_for = asked is not None and asked.digest != self.digest and self.trouble is None
        if is_waited_for and switch.kind == "reload" and switch.result != "done":
            self.put_back(switch.reason)

    def has_told(self, switch: SwitchState) -> bool:
        """Is what came of a switch on record already, or was there nothing to do?"""
        if switch.kind != "reload":
            return False
        if switch.result == "done":
            return not switch.detail.get("changes")
        found = self.trouble
        said = () if found is None else found.refused or tuple(str(each) for each in found.errors)
        return switch.result == "refused" and switch.reason == "; ".join(said)

    def looked(self, text: str) -> None:
        """The file says what is served already. Raises OSError."""
        if (self.text, self.trouble) != (text, None):
            self._change(trouble=None, text=text)

    def _change(self, **what: object) -> None:
        assert self._kept is not None  # `serve` came before
        self._kept = msgspec.structs.replace(self._kept, **what)
        self._write()

    def _write(self) -> None:
        write_whole(self._path, msgspec.json.format(msgspec.json.encode(self._kept), indent=1) + b"\n")


def read_text(path: Path) -> bytes | None:
    """What a file holds; None where it cannot be read, which the loader then says better."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        return None


def text_digest(text: bytes | None) -> str:
    """Names a file's content."""
    return blake2b(text or b"", digest_size=8).hexdigest()


def names_in(flat: dict[str, str]) -> tuple[str, ...]:
    """The routes of flattened settings, in their order."""
    listed = flat["routes"][1:-1]
    return tuple(listed.split(", ")) if listed else ()


def key_changes(found: Sequence[Change]) -> list[KeyChange]:
    """Changes as they are told."""
    return [KeyChange(each.key, each.before, each.after, each.rule.kind, each.rule.why) for each in found]


def _read(path: Path) -> Kept | None:
    """What was served before; None when that is not known, which costs no more than a line of the audit trail."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s cannot be read, so what a changed file changed is not known: %s", path, error)
        return None
    return kept if kept.schema == SCHEMA else None
