"""The rules fire on their causes (promtool), rest on metrics that exist, and each alert has its page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.promql import metric_names
from prometheus_client.metrics import MetricWrapperBase

from peakclip import telemetry

ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts" / "peakclip" / "files" / "alerts.yaml"
TESTS = Path(__file__).parent / "alerts_test.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
RUNBOOK_URL = "https://peakclip.dev/runbooks/"

PROMTOOL = shutil.which("promtool")
with_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="NOT TESTED: no promtool here (Debian: apt-get install prometheus)"
)
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}


def exported() -> set[str]:
    """Every name of a series that Peakclip writes."""
    names = set()
    for one in vars(telemetry).values():
        if isinstance(one, MetricWrapperBase):
            if one._type == "histogram":
                names |= {f"{one._name}_{part}" for part in ("bucket", "count", "sum")}
            else:
                names.add(one._name + ("_total" if one._type == "counter" else ""))
    return names


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@with_promtool
def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


@with_promtool
def test_each_alert_fires_on_its_cause_and_not_otherwise() -> None:
    promtool("test", "rules", TESTS)


def test_each_alert_is_seen_to_fire_in_a_test() -> None:
    fired = set(re.findall(r'alertname="(\w+)", alertstate="firing"', TESTS.read_text()))
    assert fired == set(ALERTS)


@pytest.mark.parametrize("rule", [rule for group in GROUPS for rule in group["rules"]], ids=str)
def test_a_rule_rests_on_metrics_that_exist(rule: dict[str, Any]) -> None:
    names = metric_names(rule["expr"])
    assert names
    assert names <= exported() | RECORDED


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == RUNBOOK_URL + alert
    summary = rule["annotations"]["summary"]
    assert summary.endswith(".")
    assert "\n" not in summary


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("Peakclip*.md")} == set(ALERTS)
    index = (RUNBOOKS / "README.md").read_text()
    assert set(re.findall(r"\((Peakclip\w+)\.md\)", index)) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_a_page_answers_five_questions(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text()
    assert re.findall(r"^# (.+)$", page, re.MULTILINE)[0] == alert
    headings = ["What it means", "How bad it is", "How to look", "What to do", "How to prevent it"]
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == headings
    assert f"**{ALERTS[alert]['labels']['severity']}**" in page
