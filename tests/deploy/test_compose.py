"""The compose file by the schema of its specification, and whether its parts fit together. No engine runs it here."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import yaml

from deploy import checks
from tests.deploy.manifests import DEPLOY, settings_of
from tests.harness.prometheus import promtool

COMPOSE = DEPLOY / "compose"


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return loaded


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document()["services"]
    return found


def test_the_schema_takes_it() -> None:
    assert checks.wrong_with_compose(document()) == []


def test_what_is_wrong_is_found() -> None:
    wrong = document()
    wrong["services"]["proxy"]["prots"] = ["8080"]
    assert "'prots' does not match" in str(checks.wrong_with_compose(wrong))


def test_the_whole_migration_is_there() -> None:
    wanted = {"proxy", "monolith", "ingest", "enrich", "store", "influxdb", "prometheus", "alertmanager", "grafana"}
    assert wanted | {"hook-token"} == services().keys()


def test_what_is_named_is_there() -> None:
    whole = document()
    for name, each in services().items():
        assert set(each.get("secrets", [])) <= whole["secrets"].keys(), name
        assert set(each.get("depends_on", {})) <= services().keys(), name
        for volume in each.get("volumes", []):
            source = volume.split(":")[0]
            assert source in whole["volumes"] or (COMPOSE / source).exists(), (name, source)
        mode = each.get("network_mode", "")
        assert not mode.startswith("service:") or mode.removeprefix("service:") in services(), name
        for dependency, how in each.get("depends_on", {}).items():
            asked = services()[dependency]
            if how["condition"] == "service_healthy":
                assert "healthcheck" in asked or "crossfade:" in asked["image"], "the image has a health check"
            if how["condition"] == "service_completed_successfully":
                assert "restart" not in asked


def test_only_this_machine_reaches_it() -> None:
    for name, each in services().items():
        for port in each.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_the_proxy_finds_who_it_names(tmp_path: Path) -> None:
    settings = settings_of((COMPOSE / "crossfade.yaml").read_text(), tmp_path)
    urls = [url for backend in settings.backends.values() for url in (*backend.url, *backend.dependencies.values())]
    for url in urls:
        assert url.split("//")[1].split(":")[0] in services(), url
    assert settings.state_dir == "/var/lib/crossfade"


def test_services_take_the_options_that_they_are_given() -> None:
    from deploy.home_assistant.services import parsed

    for name in ("monolith", "ingest", "enrich", "store"):
        assert parsed(services()[name]["command"]).role == name


def test_secrets_are_made_once_and_are_for_this_user_alone(tmp_path: Path) -> None:
    script = shutil.copy(COMPOSE / "make-secrets.sh", tmp_path)

    def made() -> dict[str, str]:
        subprocess.run(["sh", script], check=True, capture_output=True)
        return {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    first = made()
    assert first.keys() == document()["secrets"].keys()
    assert all(len(text) == 48 for text in first.values())
    assert made() == first
    assert stat.S_IMODE(os.stat(tmp_path / "secrets").st_mode) == 0o700


def test_prometheus_and_grafana_are_given_what_they_read() -> None:
    code, said = promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    assert code == 0, said
    (source,) = yaml.safe_load((COMPOSE / "grafana" / "datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://proxy:9090", "Prometheus has the proxy's network, hence its name"
    (provider,) = yaml.safe_load((COMPOSE / "grafana" / "dashboards.yaml").read_text())["providers"]
    mounts = [volume.split(":") for volume in services()["grafana"]["volumes"]]
    assert ["../grafana", provider["options"]["path"], "ro"] in mounts
