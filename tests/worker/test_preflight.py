"""What the new code finds out before anything is replaced."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from config.model import Ledger
from proxy.control.code_place import NAMED
from proxy.control.crew import MODULES
from proxy.control.holdings import Holdings
from proxy.control.inherit import Inherited, read_all
from proxy.control.outfit import outfit_of
from proxy.control.plan import KINDS, Preflight, Terms
from proxy.control.sealed import unseal
from proxy.ledger.store import Store
from proxy.worker.preflight import main, preflight
from tests.control.helpers import make_settings


@pytest.fixture
def holdings() -> Iterator[Holdings]:
    folder = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    made = Holdings(make_settings(folder / "state"), Path("crossfade.yaml"))
    yield made
    made.close()
    shutil.rmtree(folder)


def inherited_of(holdings: Holdings) -> Inherited:
    return Inherited.from_environment(outfit_of(holdings, NAMED, started_ns=1).environment)


def refusal(holdings: Holdings, *modules: str) -> str:
    found, settings = preflight("upgrade", modules, inherited_of(holdings))
    assert (found.plan, settings) == (None, b"")
    return found.refused


def test_an_upgrade_replaces_everybody_with_the_same_settings(holdings: Holdings) -> None:
    inherited = inherited_of(holdings)
    found, settings = preflight("upgrade", list(MODULES.values()), inherited)
    assert found.plan is not None
    assert (found.refused, found.plan.kind, found.plan.replaces) == ("", "upgrade", KINDS)
    assert found.plan.terms == Terms.of(inherited.settings) == holdings.terms
    assert unseal(settings) == inherited.settings


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:", "new_code cannot be loaded: SyntaxError"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise ValueError('no')", "new_code cannot be loaded: ValueError: no"),
    ],
)
def test_code_that_cannot_be_loaded(
    holdings: Holdings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    (tmp_path / "new_code.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert reason in refusal(holdings, "new_code")
    sys.modules.pop("new_code", None)


def test_a_routing_that_it_cannot_read(holdings: Holdings) -> None:
    holdings.places.routing.write_text(json.dumps({"schema": 9, "revision": 1, "routes": {}}))
    assert "has schema 9, this version reads" in refusal(holdings)


def test_a_ledger_that_it_cannot_read_and_does_not_touch(holdings: Holdings) -> None:
    Store(holdings.places.ledger, Ledger(), lambda: 1).close()
    (path,) = holdings.places.ledger.glob("*.db")
    assert preflight("upgrade", (), inherited_of(holdings))[0].refused == ""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 9; PRAGMA journal_mode = DELETE")
    connection.close()
    before = path.read_bytes()
    assert "was written by a newer version (schema 9" in refusal(holdings)
    assert path.read_bytes() == before


@pytest.mark.parametrize("sound", [True, False])
def test_the_process_writes_what_it_found(holdings: Holdings, monkeypatch: pytest.MonkeyPatch, sound: bool) -> None:
    result, following = (os.memfd_create(name) for name in ("result", "following"))
    for name, value in outfit_of(holdings, NAMED, started_ns=1).environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CROSSFADE_RESULT_FD", str(result))
    monkeypatch.setenv("CROSSFADE_NEXT_CONFIG_FD", str(following))
    if not sound:
        monkeypatch.delenv("CROSSFADE_MARKS_FD")
    assert main(["upgrade"]) == 0
    found = msgspec.json.decode(read_all(result), type=Preflight)
    assert (found.plan is not None, bool(found.refused), bool(read_all(following))) == (sound, not sound, sound)
    for each in (result, following):
        os.close(each)
