"""How the answers of both sides to one event are compared, and where that is done."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.frozen import Frozen
from config.rules import FieldRule
from config.units import Ratio, UrlText


class CompareAnswers(Frozen):
    """Answers of both sides to the same event, compared on a sample: status and body."""

    when: Literal["shadow", "always"] = Field(
        "shadow", description="in stage `shadow` alone, or wherever both sides answer an event"
    )
    sample: Ratio = Field(
        0.1, gt=0, description="share of these events; no more than 64 a second of each worker, bodies up to 16 KiB"
    )
    rules: tuple[FieldRule, ...] = Field(
        (),
        description="how fields are compared; exact without one. Paths are /status, and /body with what is beneath it",
        examples=["[{path: /body/request_id, compare: ignore}]"],
    )
    only_new: Literal["ignore", "compare"] = Field(
        "ignore", description="fields that new's answer has alone and no rule is about"
    )
    noise: UrlText | None = Field(
        None,
        description="a second instance of old that may get the same events again, for what differs between two olds is "
        "noise. Without it reads (GET, HEAD) are sent to old once more, and other methods have no estimate",
        examples=["http://10.0.0.7:9001"],
    )
