"""Files that are written whole or appended to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from proxy.control.files import append_line, write_whole


def test_write_whole_replaces_privately(state_dir: Path) -> None:
    path = state_dir / "f"
    for content in (b"one", b"a longer one", b""):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(state_dir) == ["f"]


def test_a_failed_write_leaves_the_old_content_and_no_litter(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = state_dir / "f"
    write_whole(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(state_dir) == ["f"]


def test_append_line_makes_a_private_file(state_dir: Path) -> None:
    path = state_dir / "f"
    append_line(path, b"1")
    append_line(path, b"2")
    assert path.read_bytes() == b"1\n2\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_last_line_is_ended_first(state_dir: Path) -> None:
    path = state_dir / "f"
    path.write_bytes(b'{"a":1}\n{"b"')
    append_line(path, b"2")
    assert path.read_bytes() == b'{"a":1}\n{"b"\n2\n'


def test_a_failed_append_is_cut_off_again(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = state_dir / "f"
    append_line(path, b"1")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        append_line(path, b"2")
    assert path.read_bytes() == b"1\n"
