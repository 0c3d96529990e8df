"""The alert rules: what Prometheus makes of them, what each says and leads to."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.cli.main import build
from tests.control.test_metrics import GOLDEN
from tests.harness.prometheus import EXAMPLES, promtool

RUNBOOK = (EXAMPLES.parent / "RUNBOOK.md").read_text()
FLOW = "An incident, step by step"
TESTS = ("rules_test.yml", "rules_slow_test.yml", "rules_days_test.yml")
LIVE = {"crossfade_mismatches_total", "crossfade_checked_events_total", "crossfade_check_late_windows"}
"""Metrics of a live check, which the golden list of an instance without one has not."""


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((EXAMPLES / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def sections() -> dict[str, str]:
    """The runbook's sections by their headings."""
    parts = re.split(r"^## (.+)$", RUNBOOK, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands() -> list[str]:
    """Every command line of ours in the runbook, in blocks and in sentences."""
    lines = re.findall(r"^ *proxyctl (.+)$", RUNBOOK, re.MULTILINE) + re.findall(r"`proxyctl ([^`]+)`", RUNBOOK)
    return [" ".join(line.split()) for line in lines]


def test_prometheus_takes_them() -> None:
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", str(EXAMPLES / "rules.yml"))
    assert (code, "SUCCESS" in said) == (0, True), said


@pytest.mark.parametrize("name", TESTS)
def test_they_fire_when_they_should_and_not_else(name: str) -> None:
    code, said = promtool("test", "rules", str(EXAMPLES / name))
    assert (code, "SUCCESS" in said) == (0, True), said


def test_a_rule_that_is_wrong_is_found(tmp_path: Path) -> None:
    """That these tests can fail: another threshold, and the same tests."""
    text = (EXAMPLES / "rules.yml").read_text()
    (tmp_path / "rules.yml").write_text(text.replace("state[2m]) == 2", "state[2m]) >= 1"))
    (tmp_path / "rules_test.yml").write_text((EXAMPLES / "rules_test.yml").read_text())
    code, said = promtool("test", "rules", str(tmp_path / "rules_test.yml"))
    assert (code, "FAILED" in said, "CrossfadeBreakerOpen" in said) == (1, True, True)


def test_each_alert_is_seen_firing_and_silent() -> None:
    fired: set[str] = set()
    silent: set[str] = set()
    for name in TESTS:
        for test in yaml.safe_load((EXAMPLES / name).read_text())["tests"]:
            for check in test["alert_rule_test"]:
                (fired if check["exp_alerts"] else silent).add(check["alertname"])
    assert fired == silent == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert all(text.strip() for text in rule["annotations"].values())
    assert rule["annotations"]["runbook_url"] == f"RUNBOOK.md#{name.lower()}"
    section = sections()[name]
    assert "Look at:\n\n```sh\n" in section
    assert "\nDo: " in section


def test_the_runbook_begins_with_an_incident_and_has_no_other_sections() -> None:
    assert list(sections()) == [FLOW, *ALERTS]


def test_its_links_lead_somewhere() -> None:
    anchors = {name.lower() for name in ALERTS}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors
    files = re.findall(r"\]\(([^#)]+)\)", RUNBOOK)
    assert files
    assert all((EXAMPLES.parent / file).exists() for file in files)


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_a_command_of_the_runbook_exists(line: str) -> None:
    assert build().parse_args(shlex.split(line, comments=True)).run


def test_every_section_has_a_command() -> None:
    assert [name for name, text in sections().items() if not re.search(r"^ *proxyctl ", text, re.MULTILINE)] == []


def test_what_they_ask_for_is_exported() -> None:
    asked = {name for rule in rules() for name in re.findall(r"(?<![:\w])crossfade_\w+", rule["expr"])}
    known = {line.split("{")[0] for line in GOLDEN.split()} | LIVE | {"crossfade_checker_up"}
    assert asked
    assert asked <= known
