"""What the admin API takes, as types. Unknown members are errors, so that a misspelt dry_run changes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from proxy.control.tokens import Role

WeightIn = Annotated[
    Any, msgspec.Meta(description="percent", extra_json_schema={"type": "number", "minimum": 0, "maximum": 100})
]
Moment = Annotated[float | str, msgspec.Meta(description="ISO 8601 (UTC when it names no zone) or seconds since 1970")]
TokenName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
SideName = Literal["old", "new"]
GateName = Annotated[str, msgspec.Meta(max_length=63, description="name of a gate of the configuration")]


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


class Rollback(Change):
    """Weight 0, or a part of the way: down to `weight`."""

    weight: WeightIn | None = None


class Reload(Change):
    """Read the configuration file again. leave_owed: also where something is owed to a route that it has no more."""

    leave_owed: bool = False


class Drain(Change):
    """Stop gracefully. until_empty: first deliver what is pending, as far as `stop_grace` lets."""

    until_empty: bool = False


class Restore(Change):
    """Both dials as they were at an earlier epoch."""

    epoch: int


class Freeze(Change):
    """No change of the routing but back, for so many seconds; of one route, or of all."""

    seconds: float
    route: str | None = None


class LogLevel(Change):
    """Another log level for so many seconds, of one kind of process or of all; null: the configured one again."""

    level: Literal["debug", "info", "warning", "error"] | None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 600.0
    process: Literal["worker", "ledger", "supervisor", "checker", "all"] = "all"


class Unfreeze(Change):
    """The end of a freeze, of one route or of all."""

    route: str | None = None


class Drill(Change):
    """Let the copies of a route to new fail for so many seconds at most. delay: seconds that they are held back, of
    `slow`.
    """

    fault: str
    seconds: float = 60.0
    delay: float = 1.0


class RolloutStep(msgspec.Struct, forbid_unknown_fields=True):
    """One stop of a plan. weight: percent; hold: seconds; samples: answers of new without which it does not go on;
    before, gates, after: gates of the configuration that must agree before the weight is turned and before it goes on,
    and that are told when it is done.
    """

    weight: float
    hold: float
    samples: int = 0
    before: list[GateName] = []
    gates: list[GateName] = []
    after: list[GateName] = []


class Quantiles(msgspec.Struct, forbid_unknown_fields=True):
    """Seconds, or shares, for one quantile or both."""

    p50: float | None = None
    p95: float | None = None


class StartRollout(Change):
    """A staged plan; without steps all of it is the configuration's. from_step: 1 is the first; auto_promote: false
    waits for a person after each step; on_revert: gates that are told of a revert; latency: seconds that new's may have
    at each step; improvement: shares by which they are below the recorded baseline.
    """

    steps: list[RolloutStep] | None = None
    from_step: int = 1
    auto_promote: bool = True
    on_revert: list[GateName] = []
    latency: Quantiles | None = None
    improvement: Quantiles | None = None


class RecordBaseline(Change):
    """From now on, for so many seconds."""

    seconds: float


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
    role: Role


class Hook(Change):
    """What a webhook asks for. route: a name, or `*` for all that it may be about; reason: at least a word."""

    action: Literal["pause", "revert"]
    route: str
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
