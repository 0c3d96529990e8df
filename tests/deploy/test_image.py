"""The Dockerfile, by its linter; and what is sent to be built suffices for a wheel.

No image is built here: there is no engine. That its steps work on this Python is what tests/e2e/test_demo.py shows,
which installs the same lock and the same wheel in an environment of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from deploy import checks
from tests.deploy.manifests import DEPLOY, ROOT

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"


def instructions() -> list[str]:
    """Those of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [line for line in text.splitlines() if line.strip()]


def stage(name: str) -> list[str]:
    lines = instructions()
    begin = next(number for number, line in enumerate(lines) if line.endswith(f" AS {name}"))
    end = next((number for number, line in enumerate(lines) if number > begin and line.startswith("FROM ")), len(lines))
    return lines[begin:end]


def is_sent(path: str) -> bool:
    """Does .dockerignore let a file through? The last pattern that matches it, or a folder above it, decides."""
    sent = True
    places = [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#"):
            whole = pattern.removeprefix("**/")
            if any(each.match(whole) if whole != pattern else _is(each, whole) for each in places):
                sent = line.startswith("!")
    return sent


def _is(path: PurePosixPath, pattern: str) -> bool:
    """From the root, as Docker has it: `*` ends at a slash."""
    return len(path.parts) == len(PurePosixPath(pattern).parts) and path.match(pattern)


def test_the_linter_has_nothing_to_say() -> None:
    done = checks.run("hadolint", "--no-color", "--failure-threshold", "style", str(DOCKERFILE))
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_a_dockerfile_that_is_wrong_is_found(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        DOCKERFILE.read_text().replace("STOPSIGNAL", "RUN cd / && sudo ls\nSTOPSIGNAL")
    )
    done = checks.run("hadolint", str(tmp_path / "Dockerfile"))
    assert done.returncode != 0
    assert "DL3004" in done.stdout


def test_what_runs_is_nobody_and_can_be_asked() -> None:
    lines = stage("crossfade")
    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK ") and '["proxyctl", "status", "--ready"]' in line for line in lines)
    assert "STOPSIGNAL SIGTERM" in lines
    assert instructions()[-1] == "FROM crossfade", "what is built when nothing is said"
    for word in ("ADD ", "SECRET", "PASSWORD", "TOKEN"):
        assert not [line for line in instructions() if word in line], word
    for line in instructions():
        if "pip" in line and "install" in line and "--no-index" not in line:
            assert "--require-hashes" in line


def test_no_secret_and_no_state_is_sent() -> None:
    for path in (
        ".git/config",
        ".venv/bin/python",
        "build/wheel/a.whl",
        "config/examples/edge.salt",
        "config/examples/home-assistant.token",
        "config/examples/crossfade-state/tokens.json",
        "deploy/compose/secrets/salt",
        "proxy/__pycache__/a.pyc",
        "tests/conftest.py",
    ):
        assert not is_sent(path), path
    for path in ("proxy/core/owed.py", "config/crossfade.schema.json", "deploy/grafana/crossfade-overview.json"):
        assert is_sent(path), path


def test_what_is_sent_suffices_for_the_wheel(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    source = tmp_path / "source"
    for name in filter(is_sent, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    plain = os.environ | {"CROSSFADE_PURE": "1"}
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True, capture_output=True, env=plain)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"proxy/cli/main.py", "config/crossfade.schema.json", "proxy/cli/exported/prometheus/rules.yml"} <= set(
        names
    )
    services = [sys.executable, "-m", "deploy.home_assistant.services", "--help"]
    done = subprocess.run(services, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
