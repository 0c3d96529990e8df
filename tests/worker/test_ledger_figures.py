"""What the ledger process says of each side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from proxy.core.owed import STATE_NAMES
from proxy.worker.ledger_process import _sides
from tests.control.helpers import make_settings


def test_a_side_whose_backend_fails_is_said_to_wait() -> None:
    gates = {
        "old": SimpleNamespace(paused="", is_open=False, is_failing=lambda _: False),
        "new": SimpleNamespace(paused="status 401", is_open=False, is_failing=lambda _: True),
    }
    replayer = SimpleNamespace(
        gates=gates, delivered_bytes=lambda route, side: 290 if (route, side) == ("events", 1) else 0
    )
    keeper = SimpleNamespace(replayer=replayer, backlog=SimpleNamespace(marked=lambda *_: 3))
    figures = SimpleNamespace(balance={("gone", 0): [0] * len(STATE_NAMES)}, oldest_ns={})
    sides = _sides(make_settings(Path("state")), cast(Any, keeper), cast(Any, figures))
    assert [(each.route, each.side, each.paused, each.is_open, each.is_failing) for each in sides] == [
        ("events", 0, "", False, False),
        ("events", 1, "status 401", False, True),
        ("gone", 0, "", True, False),
    ]
    assert [each.delivered_bytes for each in sides] == [0, 290, 0]
    gates["old"].is_open = True
    assert _sides(make_settings(Path("state")), cast(Any, keeper), cast(Any, figures))[0].is_open
