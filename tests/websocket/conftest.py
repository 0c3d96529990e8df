"""Which libraries are at the ends of a session."""

from __future__ import annotations

from functools import partial

import pytest

from tests.websocket.rig import MIXED, PURE, Opens, sessions


@pytest.fixture(params=PURE)
def paired(request: pytest.FixtureRequest) -> Opens:
    """`sessions` with one library at all ends: once `websockets`, once `aiohttp`."""
    return partial(sessions, pair=PURE[request.param])


@pytest.fixture(params=PURE | MIXED)
def crossed(request: pytest.FixtureRequest) -> Opens:
    """`sessions` with every mixture of both libraries as well."""
    return partial(sessions, pair=(PURE | MIXED)[request.param])
