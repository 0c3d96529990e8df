"""The chart, as helm renders it: what the published schemas take, what it refuses, and what its values mean."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import checks
from tests.deploy.manifests import (
    DEPLOY,
    Manifest,
    assert_hardened,
    assert_labels_meet,
    containers,
    manifests,
    of_kind,
    pods,
    settings_of,
)

CHART = DEPLOY / "helm" / "crossfade"
STORES = {
    side: {"sqlite": {"file": f"/data/{side}.db", "table": "event", "identity": ["id"], "time": "at"}}
    for side in ("old", "new")
}
CONSISTENCY = {"config": {"consistency": [{"routes": ["events"], **STORES}]}}
EVERYTHING: dict[str, Any] = {
    "admin": {"expose": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "verify": {"enabled": True},
    "backfill": {"enabled": True, "rate": 500},
    "autoscaling": {"enabled": True},
    "networkPolicy": {
        "from": [{"podSelector": {"matchLabels": {"app": "gateway"}}}],
        "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}, {"to": [{"podSelector": {}}]}],
    },
    "imagePullSecrets": [{"name": "registry"}],
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "extraEnv": [{"name": "OLD_TOKEN", "valueFrom": {"secretKeyRef": {"name": "old", "key": "token"}}}],
    "extraVolumes": [{"name": "data", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "events"},
    "persistence": {"storageClass": "fast", "retain": False},
    **CONSISTENCY,
}
SIDECAR: dict[str, Any] = {
    "mode": "sidecar",
    "sidecar": {
        "containers": [{"name": "old", "image": "old:1", "args": ["--listen", "127.0.0.1:8081"]}],
        "volumes": [{"name": "old-data", "emptyDir": {}}],
    },
}
BEST_EFFORT = {
    "persistence": {"enabled": False},
    "config": {"routes": [{"name": "a", "match": {}, "durability": "off"}]},
}
VALUES = {
    "edge": {},
    "everything": EVERYTHING,
    "sidecar": SIDECAR,
    "hpa": {"autoscaling": {"enabled": True, "kind": "hpa"}},
}


def template(values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return checks.run("helm", "template", "cf", str(CHART), "--values", "-", text=yaml.safe_dump(values))


@cache
def _rendered(name: str) -> str:
    done = template(VALUES[name])
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(name: str) -> list[Manifest]:
    return manifests(_rendered(name))


def the_pod(found: list[Manifest]) -> Manifest:
    pod: Manifest = of_kind(found, "StatefulSet")["spec"]["template"]["spec"]
    return pod


def test_helm_finds_nothing_to_complain_of() -> None:
    done = checks.run("helm", "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 chart(s) linted, 0 chart(s) failed" in done.stdout


@pytest.mark.parametrize("name", VALUES)
def test_the_published_schemas_take_what_is_rendered(name: str) -> None:
    found = rendered(name)
    assert checks.wrong_with(found) == []
    assert_hardened(found)
    assert_labels_meet(found)


def test_everything_is_rendered_when_asked_for() -> None:
    kinds = sorted(each["kind"] for each in rendered("everything"))
    wanted = (
        "ConfigMap ConfigMap CronJob Job NetworkPolicy PodDisruptionBudget PrometheusRule ScaledObject Service Service "
        "ServiceAccount ServiceMonitor StatefulSet"
    )
    assert kinds == wanted.split()
    monitor, rules = (of_kind(rendered("everything"), kind) for kind in ("ServiceMonitor", "PrometheusRule"))
    services = [each for each in rendered("everything") if each["kind"] == "Service"]
    (job,) = {each["metadata"]["labels"][monitor["spec"]["jobLabel"]] for each in services}
    assert f'up{{job="{job}"}}' in str(rules), "the alert is on the job of the Service"
    less = sorted(each["kind"] for each in rendered("edge"))
    assert less == [
        "ConfigMap",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    ]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 2}, "replicas must be 1: weights are turned on each instance by itself"),
    ({"persistence": {"enabled": False}}, "route events has durability before-ack and ack authority"),
    (
        {
            "persistence": {"enabled": False},
            "config": {
                "routes": [{"name": "a", "match": {}, "ack": "both"}, {"name": "b", "match": {}, "ack": "accepted"}]
            },
        },
        "route b has durability before-ack and ack accepted",
    ),
    ({"mode": "sidecar"}, "mode sidecar needs sidecar.containers"),
    ({"serviceMonitor": {"enabled": True}}, "serviceMonitor.enabled needs admin.expose"),
    ({"verify": {"enabled": True}}, "need config.consistency"),
    ({"backfill": {"enabled": True}}, "need config.consistency"),
    (BEST_EFFORT | {"verify": {"enabled": True}}, "need config.consistency"),
    ({"replica": 1}, "additional properties 'replica' not allowed"),
    ({"mode": "proxy"}, "at '/mode': value must be one of"),
    ({"persistence": {"size": "ten"}}, "at '/persistence/size'"),
    ({"config": {"routes": [{"name": "a", "match": {}, "ack": "all"}]}}, "at '/config/routes/0/ack'"),
    ({"config": {"routes": []}}, "at '/config/routes': minItems"),
    ({"ports": {"http": 80}}, "at '/ports/http': minimum"),
]


@pytest.mark.parametrize(("values", "why"), REFUSED, ids=lambda each: each if isinstance(each, str) else "")
def test_what_cannot_be_is_refused(values: dict[str, Any], why: str) -> None:
    done = template(values)
    assert done.returncode != 0
    assert why in done.stderr


@pytest.mark.parametrize(
    "policy", [{"durability": "off"}, {"ack": "both"}, {"durability": "before-send", "ack": "both"}]
)
def test_without_a_volume_where_nothing_is_owed_for_long(policy: dict[str, str]) -> None:
    route = {"name": "events", "match": {"path": "/api/v1/events"}, **policy}
    done = template({"persistence": {"enabled": False}, "config": {"routes": [route]}})
    assert done.returncode == 0, done.stderr
    stateful = of_kind(manifests(done.stdout), "StatefulSet")
    assert "volumeClaimTemplates" not in stateful["spec"]
    volumes = stateful["spec"]["template"]["spec"]["volumes"]
    assert {"name": "state", "emptyDir": {}} in volumes


@pytest.mark.parametrize("name", VALUES)
def test_the_configuration_is_one_and_fits_its_pod(name: str, tmp_path: Path) -> None:
    found = rendered(name)
    settings = settings_of(of_kind(found, "ConfigMap", "cf")["data"]["crossfade.yaml"], tmp_path)
    assert [each.address for each in settings.listen] == ["0.0.0.0:8080"]
    assert settings.state_dir == "/var/lib/crossfade"
    assert settings.instance == "crossfade-0"
    assert settings.admin.tcp == ("10.1.2.3:9900" if name == "everything" else "127.0.0.1:9900")
    assert settings.reload == "watch"
    assert the_pod(found)["terminationGracePeriodSeconds"] > settings.drain.accept_for + 2 * settings.stop_grace + 5


def test_what_the_configuration_says_wins(tmp_path: Path) -> None:
    done = template({"config": {"listen": ["0.0.0.0:8443"], "admin": {"tcp": "off"}, "instance": "edge"}})
    settings = settings_of(of_kind(manifests(done.stdout), "ConfigMap")["data"]["crossfade.yaml"], tmp_path)
    assert ([str(each) for each in settings.listen], settings.admin.tcp) == (["0.0.0.0:8443"], "off")
    assert settings.instance == "edge"


def test_a_changed_configuration_is_reloaded_unless_it_is_to_restart_the_pod() -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        found = manifests(template(values).stdout)
        told: dict[str, str] = of_kind(found, "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        return told

    key, changed = "checksum/config", {"config": {"workers": 3}}
    restarts = {"restartOnChange": True}
    assert annotations(restarts)[key] != annotations(restarts | changed)[key]
    assert key not in annotations({})


def test_the_sidecar_is_there_before_old_and_after_it() -> None:
    pod = the_pod(rendered("sidecar"))
    (proxy,) = pod["initContainers"]
    assert (proxy["name"], proxy["restartPolicy"]) == ("crossfade", "Always")
    assert "startupProbe" in proxy
    assert "lifecycle" not in proxy
    assert [each["name"] for each in pod["containers"]] == ["old"]
    assert of_kind(rendered("sidecar"), "StatefulSet")["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "state"


def test_a_pod_that_is_exposed_has_its_secrets() -> None:
    pod = the_pod(rendered("everything"))
    assert [each["name"] for each in containers(pod)] == ["tokens", "crossfade"]
    secrets = {each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    assert secrets == {"crossfade-salt", "crossfade-admin", "crossfade-tokens"}
    for each in pods(rendered("everything")):
        mounted = {mount["mountPath"] for mount in each["containers"][0]["volumeMounts"]}
        assert {"/run/secrets/crossfade-admin", "/data"} <= mounted


def test_rules_and_dashboards_are_those_of_the_project() -> None:
    found = rendered("everything")
    assert of_kind(found, "PrometheusRule")["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    told = of_kind(found, "ConfigMap", "cf-dashboards")["data"]
    assert told == {path.name: path.read_text() for path in (DEPLOY / "grafana").glob("crossfade-*.json")}


def test_the_version_is_the_projects() -> None:
    import tomllib

    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (project, project)
    named = [path for path in DEPLOY.rglob("*.yaml") if f"crossfade:{project}" in path.read_text()]
    assert len(named) >= 4, "and so are images elsewhere"
