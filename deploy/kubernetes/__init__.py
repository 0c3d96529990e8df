"""Kustomizations, and what of them is made from other files: `python -m deploy.kubernetes` writes that anew."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

HERE: Final = Path(__file__).parent
RULE: Final = HERE / "components" / "monitoring" / "prometheusrule.yaml"
_RULES: Final = HERE.parent / "prometheus" / "rules.yml"
_HEAD: Final = "# deploy/prometheus/rules.yml for the Prometheus operator, made by `python -m deploy.kubernetes`.\n"


def rule() -> str:
    """The PrometheusRule that the alert rules make."""
    whole = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "crossfade", "labels": {"app.kubernetes.io/name": "crossfade"}},
        "spec": yaml.safe_load(_RULES.read_text()),
    }
    return _HEAD + str(yaml.safe_dump(whole, sort_keys=False, width=140))
