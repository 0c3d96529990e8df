"""The kustomizations, as `kubectl kustomize` builds them: what the published schemas take, and what holds for them."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

from config.units import parse_address
from deploy import checks
from deploy.kubernetes import RULE, rule
from deploy.lists import sections
from tests.deploy.manifests import (
    DEPLOY,
    Manifest,
    assert_hardened,
    assert_labels_meet,
    manifests,
    of_kind,
    ours,
    pods,
    settings_of,
)

KUBERNETES = DEPLOY / "kubernetes"
BUILT = ("base", "overlays/edge", "overlays/sidecar")
BY_HAND = ("checks/backfill.yaml", "autoscaling/scaledobject.yaml", "autoscaling/hpa.yaml")


@cache
def _built(name: str) -> str:
    done = checks.run("kubectl", "kustomize", str(KUBERNETES / name))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def built(name: str) -> list[Manifest]:
    return manifests(_built(name))


def by_hand(name: str) -> list[Manifest]:
    return manifests((KUBERNETES / "components" / name).read_text())


@pytest.mark.parametrize("name", BUILT)
def test_the_published_schemas_take_what_is_built(name: str) -> None:
    assert checks.wrong_with(built(name)) == []


def test_the_published_schemas_take_what_is_applied_by_hand() -> None:
    assert checks.wrong_with([each for name in BY_HAND for each in by_hand(name)]) == []


def test_what_is_wrong_is_found() -> None:
    """That these tests can fail: a key that is not there, a value of another type, a kind that nobody knows."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": 80}}
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "b"},
        "spec": {"selector": {}, "endpoints": [{"port": 9900}]},
    }
    nothing = {"apiVersion": "example.com/v1", "kind": "Nothing", "metadata": {"name": "c"}}
    said = checks.wrong_with([service, monitor, nothing])
    assert [line.partition(":")[0] for line in said] == ["Service a", "ServiceMonitor b", "Nothing c"], said


@pytest.mark.parametrize("name", BUILT)
def test_pods_have_no_more_than_they_need(name: str) -> None:
    found = built(name) + by_hand("checks/backfill.yaml")
    assert_hardened(found)
    assert_labels_meet(found)


@pytest.mark.parametrize("name", BUILT)
def test_the_configuration_is_one_and_fits_its_pod(name: str, tmp_path: Path) -> None:
    found = built(name)
    settings = settings_of(of_kind(found, "ConfigMap")["data"]["crossfade.yaml"], tmp_path)
    (pod,) = [each["spec"]["template"]["spec"] for each in found if each["kind"] == "StatefulSet"]
    (proxy,) = [each for each in ours(pod) if each["name"] == "crossfade"]
    ports = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    assert [parse_address(each.address).port for each in settings.listen] == [ports["http"]]
    assert settings.state_dir in [mount["mountPath"] for mount in proxy["volumeMounts"]]
    if "admin" in ports:
        assert settings.admin.tcp == f"10.1.2.3:{ports['admin']}"
    assert settings.reload == "watch"
    assert pod["terminationGracePeriodSeconds"] > settings.drain.accept_for + 2 * settings.stop_grace + 5
    assert of_kind(found, "StatefulSet")["spec"]["replicas"] == 1


def test_the_edge_is_read_by_prometheus_and_asked_by_the_kubelet() -> None:
    found = built("overlays/edge")
    monitor, service = of_kind(found, "ServiceMonitor"), of_kind(found, "Service", "crossfade-instances")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
    job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    assert f'up{{job="{job}"}}' in str(of_kind(found, "PrometheusRule")), "the alert is on the job of the Service"
    (pod,) = [each["spec"]["template"]["spec"] for each in found if each["kind"] == "StatefulSet"]
    proxy = pod["containers"][0]
    assert "exec" not in proxy["readinessProbe"]
    assert proxy["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin", "scheme": "HTTPS"}
    assert proxy["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}


def test_the_sidecar_is_there_before_old_and_after_it() -> None:
    (pod,) = pods(built("overlays/sidecar"))
    (proxy,) = pod["initContainers"]
    assert (proxy["name"], proxy["restartPolicy"]) == ("crossfade", "Always")
    assert "startupProbe" in proxy, "old begins when it has passed"
    assert "lifecycle" not in proxy, "it is told to stop after old"
    assert [each["name"] for each in pod["containers"]] == ["old"]
    assert pod["containers"][0]["lifecycle"]["preStop"]


def test_backfill_and_verify_ask_the_instance_by_its_volume() -> None:
    (job,) = by_hand("checks/backfill.yaml")
    cron = of_kind(built("overlays/edge"), "CronJob")
    for pod in pods([job, cron]):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["state"]["persistentVolumeClaim"]["claimName"] == "state-crossfade-0"
        assert pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]


def test_the_service_swap_of_the_migration_leads_to_the_proxy_and_back(tmp_path: Path) -> None:
    """Without a cluster: what the patch makes of a Service as old has it."""
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "events"},
        "spec": {"selector": {"app": "old"}, "ports": [{"name": "http", "port": 80, "targetPort": 8000}]},
    }
    proxy = of_kind(built("overlays/edge"), "StatefulSet")["spec"]["template"]
    (listens,) = [port for port in proxy["spec"]["containers"][0]["ports"] if port["name"] == "http"]
    there, back = (step.command for step in sections()["Insertion"] if step.kind == "kubernetes")
    found = [service]
    for number, command in enumerate((there, back)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(found[-1]))
        words = shlex.split(command.removeprefix("kubectl patch service events "))
        done = checks.run("kubectl", "patch", "--local", "--filename", str(file), *words, "--output", "yaml")
        assert done.returncode == 0, done.stderr
        found += manifests(done.stdout)
    assert checks.wrong_with(found) == []
    swapped, again = found[1]["spec"], found[2]["spec"]
    assert swapped["selector"].items() <= proxy["metadata"]["labels"].items()
    assert (swapped["ports"][0]["port"], swapped["ports"][0]["targetPort"]) == (80, listens["containerPort"])
    assert (again["selector"], again["ports"]) == (service["spec"]["selector"], service["spec"]["ports"])


def test_the_rules_for_the_operator_are_the_rules() -> None:
    assert RULE.read_text() == rule(), "python -m deploy.kubernetes"


def test_scaling_goes_by_a_metric_that_there_is() -> None:
    from tests.control.test_metrics import GOLDEN

    (scaled,), (hpa,) = by_hand("autoscaling/scaledobject.yaml"), by_hand("autoscaling/hpa.yaml")
    metric = hpa["spec"]["metrics"][0]["external"]["metric"]["name"]
    assert metric in scaled["spec"]["triggers"][0]["metadata"]["query"]
    assert metric in str(GOLDEN)
