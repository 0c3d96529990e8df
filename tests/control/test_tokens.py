"""Tokens: shown once, kept as hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.control.tokens import Tokens
from proxy.core.errors import RefuseToStart


def test_a_token_is_found_by_its_secret_alone(state_dir: Path) -> None:
    path = state_dir / "tokens.json"
    tokens = Tokens(path)
    assert not tokens.any
    secret = tokens.create("ci", "operator", "2026-01-01T00:00:00Z")
    other = tokens.create("grafana", "viewer", "2026-01-01T00:00:00Z")
    assert secret.startswith("cf_")
    for reader in (tokens, Tokens(path)):
        found = reader.find(secret)
        assert found is not None
        assert (found.name, found.role) == ("ci", "operator")
        assert reader.find(secret[:-1]) is None
        assert reader.find("") is None
        assert [token.name for token in reader.listed()] == ["ci", "grafana"]
    content = path.read_text()
    assert secret not in content
    assert other not in content
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_revoked_token_is_unknown(state_dir: Path) -> None:
    tokens = Tokens(state_dir / "tokens.json")
    secret = tokens.create("ci", "operator", "")
    tokens.revoke("ci")
    assert tokens.find(secret) is None
    assert Tokens(state_dir / "tokens.json").find(secret) is None
    with pytest.raises(KeyError):
        tokens.revoke("ci")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema":2,"tokens":[]}', '{"schema":1,"tokens":[{}]}'])
def test_a_file_that_is_not_ours_is_refused_and_left_alone(state_dir: Path, content: str) -> None:
    path = state_dir / "tokens.json"
    path.write_text(content)
    with pytest.raises(RefuseToStart, match=r"tokens\.json"):
        Tokens(path)
    assert path.read_text() == content
