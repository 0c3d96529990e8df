"""What is logged, and how."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from config.frozen import Frozen
from config.units import Duration, Ratio, UnitError


class Access(Frozen):
    """A line for each event that is answered: of a share of them, or of those that took long, or both."""

    sample: Ratio = Field(0.0, description="share of the events, by chance; 100%: all")
    slow: Duration | None = Field(
        None, description="those that took as long or longer; absent: none for that", examples=["500ms"]
    )
    query: Literal["redact", "show"] = Field(
        "redact", description="values in the query of a target, which may be secrets; their names are shown"
    )

    path: Literal["redact", "show"] = Field(
        "redact",
        description="segments of a target's path that look like keys, of which the first four characters are shown",
    )

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if not self.sample and self.slow is None:
            raise UnitError("needs sample, slow or both: which events are logged")
        return self


class Log(Frozen):
    """Structured logs on stderr. `proxyctl log-level` changes the level for a while."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level written")
    format: Literal["json", "text"] = Field("json", description="one JSON object or one plain line per entry")
    access: Access | None = Field(
        None, description="a line for answered events; absent: none", examples=["{sample: 1%, slow: 500ms}"]
    )
