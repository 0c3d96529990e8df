"""Where code is, by name and pinned, with links as administrators turn them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.control.code_place import CodePlace, named


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Two environments and a link to the first one."""
    for name in ("1", "2"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "lib").mkdir()
        (tmp_path / name / "bin" / "python").symlink_to("/bin/sh")
    (tmp_path / "current").symlink_to("1")
    return tmp_path


def test_a_link_that_is_turned_leaves_what_runs_where_it_was(versions: Path) -> None:
    place = CodePlace(f"{versions}/current/bin/python", f"{versions}/current/lib")
    before = place.pinned()
    assert before == CodePlace(f"{versions}/1/bin/python", f"{versions}/1/lib")
    (versions / "current").unlink()
    (versions / "current").symlink_to("2")
    assert place.pinned() == CodePlace(f"{versions}/2/bin/python", f"{versions}/2/lib")
    assert before.command("-m", "x") == (f"{versions}/1/bin/python", "-P", "-m", "x")


def test_a_script_that_names_its_interpreter_is_known_by_its_own_folder(versions: Path) -> None:
    found = named(f"{versions}/current/bin/proxyctl", f"{versions}/1/bin/python", f"{versions}/1/lib")
    assert found == CodePlace(f"{versions}/current/bin/python", f"{versions}/current/lib")


@pytest.mark.parametrize("script", ["-c", "elsewhere/proxyctl", "2/bin/proxyctl"])
def test_a_script_of_another_place_changes_nothing(versions: Path, script: str) -> None:
    python, root = f"{versions}/1/bin/python", f"{versions}/1/lib"
    assert named(os.path.join(versions, script), python, root) == CodePlace(python, root)


def test_code_outside_of_the_environment_keeps_its_place(versions: Path) -> None:
    found = named(f"{versions}/current/bin/proxyctl", f"{versions}/1/bin/python", "/src/crossfade")
    assert found == CodePlace(f"{versions}/current/bin/python", "/src/crossfade")


def test_our_root_comes_before_what_was_there() -> None:
    place = CodePlace("/p", "/root")
    assert (place.path(""), place.path("/other")) == ("/root", f"/root{os.pathsep}/other")
