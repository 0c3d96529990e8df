"""What all models of the configuration file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Values as the file has them: no unknown key, nothing converted, no input in errors, for it may be a secret.

    How a model is validated is compiled when the first one is: most processes get settings that have been.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)
