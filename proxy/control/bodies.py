"""What the admin API takes, as types. Unknown members are errors, so that a misspelt dry_run changes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

WeightIn = Annotated[
    Any, msgspec.Meta(description="percent", extra_json_schema={"type": "number", "minimum": 0, "maximum": 100})
]
Moment = Annotated[float | str, msgspec.Meta(description="ISO 8601 (UTC when it names no zone) or seconds since 1970")]
TokenName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
SideName = Literal["old", "new"]


class Change(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every change may carry. dry_run: say what would happen, and do nothing."""

    reason: str = ""
    dry_run: bool = False


class SetWeight(Change):
    """The weight alone."""

    weight: WeightIn


class SetStage(Change):
    """Both dials; weight for `live` and `split`, the present one when absent."""

    stage: str
    weight: WeightIn | None = None


class RolloutStep(msgspec.Struct, forbid_unknown_fields=True):
    """One stop of a plan. weight: percent; hold: seconds; samples: answers of new without which it does not go on."""

    weight: float
    hold: float
    samples: int = 0


class StartRollout(Change):
    """A staged plan. from_step: 1 is the first; auto_promote: false waits for a person after each step."""

    steps: list[RolloutStep]
    from_step: int = 1
    auto_promote: bool = True


class Replay(Change):
    """Deliver again to one side what it had got since a moment."""

    since: Moment
    side: SideName
    route: str | None = None


class DeadLetters(Change):
    """Dead letters by id, or all of a side and a route."""

    ids: list[str] | None = None
    all: bool = False
    side: SideName | None = None
    route: str | None = None


class Repair(Change):
    """Write what one store lacks and the other has, of a span of event time; absent: the last hour."""

    since: Moment | None = None
    until: Moment | None = None
    route: str | None = None


class Backfill(Change):
    """Copy from one side's store to the other's what that lacks. rate: rows per second, 0 without a bound."""

    source: SideName
    target: SideName
    since: Moment
    until: Moment | None = None
    route: str | None = None
    rate: float = 1000.0


class CreateToken(Change):
    """A name and what its holder may do."""

    name: TokenName
    role: Literal["viewer", "operator"]
