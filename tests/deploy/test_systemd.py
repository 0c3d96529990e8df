"""The units, as systemd itself reads them."""

from __future__ import annotations

import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from deploy.packages import program
from tests.deploy.manifests import DEPLOY, settings_of

UNITS = ("crossfade.service", "crossfade.socket")
MOST_EXPOSED = 20
"""Tenths, of 100; what a network service without an address list has is about 15."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that is here."""
    proxyctl = Path(sys.executable).parent / "proxyctl"
    for name in UNITS:
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/crossfade/bin/proxyctl", str(proxyctl)))
    return tmp_path


def analyze(*words: str) -> tuple[int, str]:
    command = [program("systemd-analyze", "systemd"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def unit(name: str) -> RawConfigParser:
    parsed = RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string((DEPLOY / "systemd" / name).read_text())
    return parsed


def test_systemd_takes_them(units: Path) -> None:
    assert analyze("verify", *(str(units / name) for name in UNITS)) == (0, "")


def test_a_unit_that_is_wrong_is_found(units: Path) -> None:
    file = units / "crossfade.service"
    file.write_text(file.read_text().replace("WatchdogSec=30", "WatchdogSec=soon\nNoSuchKey=1"))
    _, said = analyze("verify", str(file))
    assert "Failed to parse sec value" in said
    assert "Unknown key 'NoSuchKey'" in said


def test_it_is_as_closed_as_it_can_be(units: Path) -> None:
    code, said = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSED}", str(units / "crossfade.service"))
    assert code == 0, said


def test_what_it_promises_systemd_it_keeps(tmp_path: Path) -> None:
    service, socket = unit("crossfade.service")["Service"], unit("crossfade.socket")["Socket"]
    settings = settings_of((DEPLOY / "systemd" / "crossfade.yaml").read_text(), tmp_path)
    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["TimeoutStopSec"]) > settings.stop_grace + 5
    assert settings.state_dir == f"/var/lib/{service['StateDirectory']}"
    assert settings.admin.socket == f"/run/{service['RuntimeDirectory']}/admin.sock"
    assert [str(each) for each in settings.listen] == [socket["ListenStream"]]
    assert "PartOf" not in unit("crossfade.socket")["Unit"], "clients wait while the service restarts"
