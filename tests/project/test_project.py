"""The project's own promises: locks without addresses, functions of a readable size, commands that exist."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from proxy.cli.monitoring import SOURCES
from proxy.control.pages import FOLDER

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (
    "requirements.txt",
    "requirements-dev.txt",
    "benchmarks/requirements.txt",
    "deploy/home_assistant/requirements.txt",
)
LONGEST_FUNCTION = 80


def pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, str]:
    """What a lock pins: version by normalised package name."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def required(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9-]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text)
    pins = [entry for entry in entries if "==" in entry.splitlines()[0]]
    assert len(pins) > 1
    assert all("--hash=sha256:" in pin for pin in pins)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|file:|^-e", text, re.MULTILINE)


def test_the_locks_pin_everything_that_is_required() -> None:
    project = pyproject()
    runtime = required(project["project"]["dependencies"])  # type: ignore[index]
    dev = required(project["dependency-groups"]["dev"])  # type: ignore[index]
    build = required(project["build-system"]["requires"])  # type: ignore[index]
    assert runtime <= locked("requirements.txt").keys()
    assert runtime | dev | build <= locked("requirements-dev.txt").keys()


def test_a_wheel_is_compiled_by_what_the_lock_pins() -> None:
    requires: list[str] = pyproject()["build-system"]["requires"]  # type: ignore[index]
    assert {tuple(requirement.split("==")) for requirement in requires} <= locked("requirements-dev.txt").items()


def test_both_locks_agree() -> None:
    assert locked("requirements.txt").items() <= locked("requirements-dev.txt").items()


def modules() -> list[Path]:
    return [
        path for folder in ("config", "proxy", "benchmarks", "deploy") for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def test_no_function_is_longer_than_a_screen_or_two() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert too_long == []


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: help (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    done = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert sorted(re.findall(r"^make ([a-z-]+) +\S", done.stdout, re.MULTILINE)) == sorted(phony[1].split())


def test_the_commands_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = re.findall(r"\bmake ([a-z-]+)\b", (ROOT / "README.md").read_text())
    assert {"demo", "test"} <= set(commands) <= targets


def test_a_plain_wheel_has_the_packages_and_their_data_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("config", "proxy"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "crossfade-state"))
    for name in (
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        *(f"deploy/{each}" for each in SOURCES.values()),
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    data = {
        str(path.relative_to(source))
        for path in (source / "config").rglob("*")
        if path.suffix in {".yaml", ".json", ".md"}
    }
    state = source / "config" / "examples" / "crossfade-state"  # what the README's quick start leaves behind
    state.mkdir()
    (state / "salt.json").write_text("{}")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    plain = os.environ | {"CROSSFADE_PURE": "1"}
    subprocess.run(build, cwd=source, check=True, capture_output=True, env=plain)
    (wheel,) = tmp_path.glob("crossfade-*-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"proxy/__init__.py", "proxy/py.typed", "config/model.py", "config/py.typed"} <= names
    assert data <= names
    assert {f"proxy/cli/exported/{name}" for name in SOURCES.values()} <= names
    assert {f"proxy/control/console/{path.name}" for path in FOLDER.iterdir()} <= names
    ours = ("proxy/", "config/", "crossfade-")
    assert not [
        name for name in names if not name.startswith(ours) or "crossfade-state" in name or name.endswith(".so")
    ]
