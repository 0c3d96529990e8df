"""The salt of a state directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from proxy.control.salt import check_salt
from proxy.core.errors import RefuseToStart


def test_the_same_salt_starts_again_and_another_does_not(tmp_path: Path) -> None:
    path = tmp_path / "salt.json"
    check_salt(path, "first salt")
    kept = path.read_bytes()
    check_salt(path, "first salt")
    with pytest.raises(RefuseToStart, match="not the one"):
        check_salt(path, "another salt")
    assert path.read_bytes() == kept
    assert b"first salt" not in kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b'{"schema": 2, "fingerprint": "x"}', b'{"schema": 1}'])
def test_a_foreign_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "salt.json"
    path.write_bytes(content)
    with pytest.raises(RefuseToStart, match=r"salt\.json"):
        check_salt(path, "first salt")
    assert path.read_bytes() == content


def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefuseToStart, match="cannot write"):
        check_salt(tmp_path / "missing" / "salt.json", "first salt")
