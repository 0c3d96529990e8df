"""What the tests of Kubernetes' files share: what they build, and what holds for all that we run there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from config.loader import load
from config.model import Settings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
Manifest = dict[str, Any]


def manifests(text: str) -> list[Manifest]:
    """The documents of a stream, without empty ones."""
    return [each for each in yaml.safe_load_all(text) if each]


def of_kind(found: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only one of a kind, or the one with a name."""
    (one,) = [each for each in found if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    return one


def pods(found: list[Manifest]) -> Iterator[Manifest]:
    """The pod specifications in all of them."""
    for each in found:
        if each["kind"] in ("StatefulSet", "Job"):
            yield each["spec"]["template"]["spec"]
        elif each["kind"] == "CronJob":
            yield each["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def ours(pod: Manifest) -> list[Manifest]:
    return [each for each in containers(pod) if each["image"].startswith("crossfade:")]


def assert_hardened(found: list[Manifest]) -> None:
    """No pod of ours has more than it needs, and each mounts only what it has."""
    for pod in pods(found):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | {"state"}
        for each in ours(pod):
            context = each["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= each["resources"].keys()
            assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
            assert "state" in {mount["name"] for mount in each["volumeMounts"]}


def assert_labels_meet(found: list[Manifest]) -> None:
    """What selects pods selects the instance's, and not those of checks."""
    stateful = of_kind(found, "StatefulSet")
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    selectors = [stateful["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in found if each["kind"] == "Service"]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in found if each["kind"] == "PodDisruptionBudget"]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in found if each["kind"] == "NetworkPolicy"]
    assert len(selectors) >= 5
    for selector in selectors:
        assert selector.items() <= labels.items()
    for each in found:
        if each["kind"] in ("CronJob", "Job"):
            spec = each["spec"].get("jobTemplate", each)["spec"]
            assert not selectors[0].items() <= spec["template"]["metadata"]["labels"].items()
    assert stateful["spec"]["serviceName"] in [each["metadata"]["name"] for each in found if each["kind"] == "Service"]


def settings_of(text: str, directory: Path) -> Settings:
    """A configuration as its pod, container or host has it: secrets are files below `directory`, and are there.

    Raises ConfigError.
    """
    for name in ("crossfade/salt", "salt", "influxdb-token", "crossfade-admin/tls.crt", "crossfade-admin/tls.key"):
        secret = directory / "secrets" / name
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("0123456789abcdef")
    file = directory / "crossfade.yaml"
    file.write_text(text.replace("/run/secrets/", f"{directory}/secrets/"))
    environ = {
        "POD_IP": "10.1.2.3",
        "POD_NAME": "crossfade-0",
        "STATE_DIRECTORY": "/var/lib/crossfade",
        "CREDENTIALS_DIRECTORY": f"{directory}/secrets",
    }
    return load(file, environ=environ)
