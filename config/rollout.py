"""The file of a staged plan, which `proxyctl rollout` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from config.document import Document, decode, read
from config.errors import WHOLE_FILE, ConfigErrors, Loc, Problem
from config.explain import Finding, describe, findings
from config.plan import Plan, falling, mixed


class PlanFile(Plan):
    """A plan: steps of rising weight. Each is left when it has held, has its samples, and the verdict is `pass`."""

    version: Literal[1] = Field(description="schema version")


class ReadPlan(NamedTuple):
    """A plan and the document that it was read from."""

    plan: PlanFile
    document: Document

    def wrong_at(self, loc: Loc, message: str) -> Problem:
        """Something that is found wrong with it later. loc: keys and numbers from 0; those of a plan's own `before`,
        `gates` and `after` stand there where a step has none.
        """
        if len(loc) > 2 and loc[0] == "steps":
            number, key = int(loc[1]), str(loc[2])
            is_own = getattr(self.plan.all_steps[number], key) is not None
            added = len(self.plan.all_steps) - len(self.plan.own_steps)
            loc = (*loc[:1], number - added, *loc[2:]) if is_own else loc[2:]
        return Finding(loc, message).placed(self.document)


def load_plan(path: str, *, environ: Mapping[str, str] = os.environ) -> ReadPlan:
    """The plan that a file holds. Raises ConfigErrors with everything that is wrong, and OSError."""
    with open(path, "rb") as file:
        decoded, unreadable = decode(file.read())
    if unreadable is not None:
        raise ConfigErrors.at(path, [unreadable])
    document = read(decoded, environ)
    if document.problems:
        raise ConfigErrors.at(path, document.problems)
    if not isinstance(document.data, dict):
        message = f"expected keys such as `steps:`, not {describe(document.data)}"
        raise ConfigErrors.at(path, [Problem(WHOLE_FILE, message)])
    try:
        plan = PlanFile.model_validate(document.data)
    except ValidationError as error:
        raise ConfigErrors.at(path, [each.placed(document) for each in findings(PlanFile, error)]) from None
    wrong = [*falling(plan), *mixed(plan)]
    if wrong:
        raise ConfigErrors.at(path, [each.placed(document) for each in wrong])
    return ReadPlan(plan, document)
