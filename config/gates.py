"""Gates: what outside of Crossfade has to agree before a rollout goes on. Plans refer to them by name.

They stand in the configuration and not in plans, because a plan may come over the network and a command may not.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from config.frozen import Frozen
from config.patterns import Name
from config.units import Ratio, Size, SomeShortTime, SomeTime, UnitError
from config.web import WebAddress, web_url

KINDS: Final = ("webhook", "prometheus", "command", "soak")


class Webhook(WebAddress):
    """Asked by POST, with `gate`, `route`, `phase` (before, gates, after or revert), `step` (from 1), `steps`, `weight`
    and `target` (percent of new now, and at the step) and `epoch` as JSON. 2xx is yes, 4xx no, but for 401, 404, 407,
    408, 425 and 429: these are no answer, as all else is.
    """


class Prometheus(WebAddress):
    """A Prometheus that is asked."""

    url: str = Field(min_length=1, description="of the Prometheus", examples=["http://127.0.0.1:9090"])

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return web_url(url)


class PrometheusQuery(Prometheus):
    """A query to a Prometheus. Every value that it gives has to be within the limits; none is no answer."""

    query: str = Field(
        min_length=1,
        description="PromQL; its result is a scalar or an instant vector",
        examples=["sum(rate(app_errors_total[1m]))"],
    )
    above: float | None = Field(None, allow_inf_nan=False, description="every value is above this", examples=["0.99"])
    below: float | None = Field(None, allow_inf_nan=False, description="every value is below this", examples=["0.01"])
    of: str | None = Field(
        None,
        min_length=1,
        description="a second query with one value: the limits are for what the first gives, divided by it",
        examples=["sum(rate(process_cpu_seconds_total[5m] offset 1d))"],
    )

    @model_validator(mode="after")
    def _has_limit(self) -> Self:
        if self.above is None and self.below is None:
            raise UnitError("a query without `above` and `below` decides nothing")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise UnitError(f"no value is above {self.above:g} and below {self.below:g}")
        return self


class Resources(Prometheus):
    """What both services take, as a Prometheus knows it: in each tenth of a soak the median of each query's values has
    to be near what it was. A tenth without an answer is no answer.
    """

    queries: dict[Name, Annotated[str, Field(min_length=1)]] = Field(
        min_length=1,
        description="PromQL by name; each gives one value",
        examples=["{old-memory: 'process_resident_memory_bytes{job=\"old\"}'}"],
    )
    within: Ratio = Field(0.2, gt=0, description="by how much a value may be above or below what it was")
    against: Literal["baseline", "beginning"] = Field(
        "baseline",
        description="baseline: the route's recorded one where it has this query, else as `beginning`: the first tenth "
        "of the soak",
    )
    timeout: SomeTime = Field(5.0, description="of one query; slower is no answer")


class Soak(Frozen):
    """What the instance itself sees of new for some time in which the weight stays: yes when all is within limits."""

    lasts: SomeTime = Field(3600.0, description="how long; it begins when the step lacks nothing else")
    error_rate: Ratio = Field(0.001, description="share of new's answers that are failures, at most")
    p95: SomeShortTime | None = Field(
        None,
        description="of new's answers, at most; without it by `slower` above old's of the same time",
        examples=["500ms"],
    )
    slower: Ratio = Field(0.1, description="by how much new's p95 may be above old's, where `p95` is not given")
    throughput: Ratio = Field(0.95, description="share of the events that new was to answer, or get, that it answered")
    availability: Ratio = Field(0.999, description="share of the time in which clients could be served")
    memory_growth: Size = Field(64 * 2**20, description="of all workers together, in an hour, at most")
    resources: Resources | None = Field(
        None,
        description="memory and CPU of both services, where a Prometheus knows them",
        examples=['{url: "http://127.0.0.1:9090", queries: {new-cpu: "rate(process_cpu_seconds_total[1m])"}}'],
    )


class Gate(Frozen):
    """Something that says yes or no. No answer holds the step, and is asked again."""

    name: Name = Field(description="by which plans refer to it; unique", examples=["smoke-test"])
    webhook: Webhook | None = Field(
        None, description="somebody on the web", examples=["{url: http://127.0.0.1:8000/go}"]
    )
    prometheus: PrometheusQuery | None = Field(
        None, description="a metric", examples=['{url: "http://127.0.0.1:9090", query: up, above: 0}']
    )
    command: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="a program and its arguments, without a shell: exit 0 is yes, others no. It runs where the "
        "configuration file lies, and finds in its environment CROSSFADE_GATE and CROSSFADE_ROUTE (names), "
        "CROSSFADE_PHASE (before, gates, after or revert), CROSSFADE_STEP (from 1) of CROSSFADE_STEPS, "
        "CROSSFADE_WEIGHT (percent of new at that moment: not turned yet under `before`, 0 after a revert), "
        "CROSSFADE_TARGET (percent of new at that step) and CROSSFADE_EPOCH",
        examples=["[./smoke.sh, --fast]"],
    )
    soak: Soak | None = Field(
        None, description="errors, latency, throughput, availability and memory over an hour", examples=["{lasts: 30m}"]
    )
    timeout: SomeTime = Field(
        10.0, description="longer is no answer; a command is killed, with what it started. A soak has its own time"
    )
    every: SomeTime = Field(10.0, description="time between two questions while it does not say yes")
    on_fail: Literal["hold", "pause", "step-back", "revert"] = Field(
        "hold",
        description="what a no does: the step waits, the rollout waits for a person, the weight goes back by a step, "
        "or to 0 and is latched",
    )

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise UnitError(f"a gate is one of {', '.join(KINDS)}, not {' and '.join(given) or 'none of them'}")
        if self.command is not None and (not self.command[0] or any("\0" in each for each in self.command)):
            raise UnitError("a command begins with a program")
        return self

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)
