"""dashboards export, alerts export: what is written, and what is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from proxy.cli.monitoring import DASHBOARDS, RULES, RUNBOOK, SOURCES
from tests.cli.conftest import ROOT, Ctl
from tests.harness.prometheus import promtool


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_the_dashboards_are_written(ctl: Ctl, home: Path) -> None:
    done = ctl("dashboards", "export", "grafana/new")
    assert (done.code, done.err) == (0, "")
    assert names(home / "grafana" / "new") == set(DASHBOARDS)
    for name in DASHBOARDS:
        written = (home / "grafana" / "new" / name).read_text()
        assert written == (ROOT / "deploy" / "grafana" / name).read_text()
        assert json.loads(written)["uid"] == name.removesuffix(".json")
    assert done.out.splitlines()[0] == f"wrote grafana/new/{DASHBOARDS[0]}"


def test_they_are_written_here_by_default(ctl: Ctl, home: Path) -> None:
    assert ctl("dashboards", "export").code == 0
    assert ctl("alerts", "export").code == 0
    assert names(home) == {*DASHBOARDS, RULES, RUNBOOK}


@pytest.mark.parametrize(("command", "name"), [("dashboards", DASHBOARDS[1]), ("alerts", RUNBOOK)])
def test_what_somebody_has_is_left_as_it_is(ctl: Ctl, home: Path, command: str, name: str) -> None:
    (home / name).write_text("mine")
    done = ctl(command, "export")
    assert done.code == 2
    assert f"{name} exists: nothing is written" in done.err
    assert names(home) == {name}
    assert (home / name).read_text() == "mine"
    assert ctl(command, "export", "--force").code == 0
    assert (home / name).read_text() == (ROOT / "deploy" / SOURCES[name]).read_text()
    assert not [each for each in names(home) if each.endswith(".new")]


def test_where_nothing_can_be_written(ctl: Ctl, home: Path) -> None:
    (home / "file").write_text("")
    done = ctl("alerts", "export", "file")
    assert (done.code, "cannot make file: File exists" in done.err) == (1, True)
    done = ctl("alerts", "export", "file/below")
    assert (done.code, "cannot make file/below: Not a directory" in done.err) == (1, True)


def test_the_rules_lead_to_a_runbook_elsewhere(ctl: Ctl, home: Path) -> None:
    url = "https://wiki.example.com/crossfade/RUNBOOK.md"
    assert ctl("alerts", "export", "--runbook", url).code == 0
    groups = yaml.safe_load((home / RULES).read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    assert {rule["annotations"]["runbook_url"] for rule in alerts} == {
        f"{url}#{rule['alert'].lower()}" for rule in alerts
    }
    code, said = promtool("check", "rules", str(home / RULES))
    assert code == 0, said


@pytest.mark.parametrize("url", ["wiki", "ftp://x/y", "https://", "https://x/y#z", "https://x/a b", "https://x/'"])
def test_a_runbook_that_is_no_address(ctl: Ctl, home: Path, url: str) -> None:
    done = ctl("alerts", "export", "--runbook", url)
    assert done.code == 2
    assert "--runbook" in done.err
    assert names(home) == set()


@pytest.mark.parametrize("command", ["dashboards", "alerts"])
def test_in_every_form(ctl: Ctl, command: str) -> None:
    plain = ctl(command, "export", "a", "-o", "json").json
    assert all(Path(each).parent == Path("a") for each in plain["files"])
    assert len(plain["files"]) == (len(DASHBOARDS) if command == "dashboards" else 2)
    formed = yaml.safe_load(ctl(command, "export", "b", "-o", "yaml").out)
    assert [Path(each).name for each in formed["files"]] == [Path(each).name for each in plain["files"]]
    assert ctl(command, "export", "a", "-o", "json").error["code"] == 2


def test_a_wheel_has_what_is_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    exported = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["exported"]
    assert sorted(exported) == sorted(SOURCES.values())


def test_an_installation_has_them_beside_the_command(tmp_path: Path) -> None:
    """The package without a checkout around it, and without the SDK: the files lie where a wheel puts them."""
    for folder in ("proxy", "config"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "crossfade-state")
        )
    code = "import sys; sys.modules['grafana_foundation_sdk'] = None; import proxy.cli.main as m; sys.exit(m.main())"
    command = [sys.executable, "-c", code, "dashboards", "export", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, f"lacks {DASHBOARDS[0]}" in done.stderr) == (1, True)
    for source in SOURCES.values():
        path = tmp_path / "proxy" / "cli" / "exported" / source
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "deploy" / source, path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(tmp_path / "out") == set(DASHBOARDS)
