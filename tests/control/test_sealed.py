"""Settings that pass from one version of the code to the next."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from config.loader import load
from config.model import Settings
from proxy.control import sealed
from proxy.core.errors import RefuseToStart
from tests.control.helpers import make_settings

EXAMPLES = sorted(Path(__file__).parents[2].glob("config/examples/*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_passes_as_it_is(path: Path) -> None:
    if path.stem == "rollout":
        return  # a plan, not settings
    settings = load(path, environ=Anything())
    assert sealed.unseal(sealed.seal(settings, "1.2")) == settings


class Anything(dict[str, str]):
    """Every variable is set."""

    def __missing__(self, name: str) -> str:
        return "x" * 20

    def __contains__(self, name: object) -> bool:
        return True


def of_the_version_before() -> Settings:
    """Settings of a version that did not know some keys, and knew one that is gone."""
    settings = make_settings("/nowhere").model_copy(deep=True)  # defaults are shared
    del settings.__dict__["upgrade_timeout"]
    del settings.limits.__dict__["head_timeout"]
    del settings.routes[0].__dict__["dedupe"]
    settings.__dict__["gone"] = "whatever"
    return settings


def test_the_settings_of_the_version_before_get_the_defaults_of_later_keys() -> None:
    settings = sealed.unseal(sealed.seal(of_the_version_before()))
    wanted = make_settings("/nowhere")
    assert settings.upgrade_timeout == wanted.upgrade_timeout == 30.0
    assert settings.limits == wanted.limits
    assert settings.routes == wanted.routes


def test_a_key_without_a_default_cannot_be_made_up() -> None:
    settings = make_settings("/nowhere")
    del settings.__dict__["salt"]
    with pytest.raises(RefuseToStart, match=r"by version 0\.9, which this version cannot read .*no salt.*restart"):
        sealed.unseal(sealed.seal(settings, "0.9"))


def test_a_class_that_is_gone_is_a_clear_refusal() -> None:
    data: dict[str, Any] = pickle.loads(sealed.seal(make_settings("/nowhere"), "0.9"))
    data["settings"] = data["settings"].replace(b"Settings", b"Sittings")
    with pytest.raises(RefuseToStart, match=r"version 0\.9, which this version cannot read"):
        sealed.unseal(pickle.dumps(data))


@pytest.mark.parametrize("schema", [0, sealed.SCHEMA + 1])
def test_another_schema_is_a_clear_refusal(schema: int) -> None:
    data = pickle.loads(sealed.seal(make_settings("/nowhere"))) | {"schema": schema}
    with pytest.raises(RefuseToStart, match=f"in schema {schema}, and this version reads"):
        sealed.unseal(pickle.dumps(data))
