"""Every YAML file of deploy/ is one that a strict reader takes: no key twice, no tab, no truth that is a word."""

from __future__ import annotations

import subprocess

from deploy.packages import program
from tests.deploy.manifests import DEPLOY

FILES = [
    path
    for pattern in ("*.yaml", "*.yml")
    for path in sorted(DEPLOY.rglob(pattern))
    if "templates" not in path.parts and path.name != "prometheusrule.yaml"
]
"""But templates, which are none yet, and what a program wrote."""


def test_the_linter_has_nothing_to_say() -> None:
    assert len(FILES) > 25
    words = [program("yamllint", "yamllint"), "--strict", "--config-file", str(DEPLOY / ".yamllint")]
    done = subprocess.run([*words, *map(str, FILES)], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
