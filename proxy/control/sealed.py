"""Settings as they pass from process to process, and from one version of the code to the next.

What is passed are the settings as one version loaded them. The next version gives its defaults to keys that it alone
knows, and passes over those that it knows no more; where a key means something else, `SCHEMA` rises.

    schema 1   pickle of {"schema": 1, "by": version, "settings": pickle of the settings,
                          "carried": pickle of what is carried on from the settings before them}
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from config.model import Settings
from proxy.control.carried import Carried
from proxy.core.errors import RefuseToStart

SCHEMA: Final = 1
OLDEST: Final = 1
"""The oldest schema that is read: that of the version before this one."""


def seal(settings: Settings, by: str = "", carried: Carried | None = None) -> bytes:
    """Settings to pass on. by: the version that loaded them, for messages; carried: None for those of a start."""
    parts = {"settings": pickle.dumps(settings), "carried": pickle.dumps(carried or Carried.first(settings))}
    return pickle.dumps({"schema": SCHEMA, "by": by, **parts})


def unseal(data: bytes) -> Settings:
    """The settings alone; raises as `unseal_both`."""
    return unseal_both(data)[0]


def unseal_both(data: bytes) -> tuple[Settings, Carried]:
    """The settings, and what is carried on; raises RefuseToStart for those of a version that this one cannot follow."""
    sealed: dict[str, Any] = pickle.loads(data)  # noqa: S301 - from the launcher's own memory
    schema, advice = sealed["schema"], "restart the instance instead of upgrading it"
    passed = f"the settings were passed on by version {sealed.get('by') or 'unknown'}"
    if not OLDEST <= schema <= SCHEMA:
        raise RefuseToStart(f"{passed} in schema {schema}, and this version reads {OLDEST} to {SCHEMA}; {advice}")
    try:
        settings: Settings = pickle.loads(sealed["settings"])  # noqa: S301 - as above
        carried: Carried = pickle.loads(sealed["carried"])  # noqa: S301 - as above
        _complete(settings)
        for each in carried.retired.values():
            for part in (each.route, *each.backends.values()):
                _complete(part)
    except (AttributeError, ImportError, LookupError, TypeError) as error:
        raise RefuseToStart(f"{passed}, which this version cannot read ({error}); {advice}") from None
    return settings, carried


def _complete(settings: BaseModel) -> None:
    """Give every part the defaults of keys that its version did not know; raises LookupError where there is none."""
    for part in _parts(settings):
        values = part.__dict__
        for name, field in type(part).model_fields.items():
            if name in values:
                continue
            if field.is_required():
                raise LookupError(f"{type(part).__name__} has no {name}")
            values[name] = field.get_default(call_default_factory=True, validated_data=values)


def _parts(value: object) -> Iterator[BaseModel]:
    """Every model in a value, the value itself among them."""
    if isinstance(value, BaseModel):
        yield value
        value = value.__dict__
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list, frozenset, set)):
        for each in value:
            yield from _parts(each)
