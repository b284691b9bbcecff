"""What the chart makes of alerts and dashboard: the same files, for the Prometheus operator and Grafana's sidecar."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendered import HELM, with_helm
from chart.test_alerts import ALERTS, GROUPS, PROMTOOL, ROOT, promtool, with_promtool
from e2e.monitoring import DASHBOARD

pytestmark = with_helm
ON = (
    "monitoring.podMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboard.enabled=true",
)


def template(*values: str) -> subprocess.CompletedProcess[str]:
    chart = ROOT / "charts" / "peakclip"
    sets = [
        argument
        for value in values
        for argument in ("--set-json" if "={" in value or "=[" in value else "--set", value)
    ]
    return subprocess.run(
        [str(HELM), "template", "peakclip", str(chart), "--namespace", "shop", *sets],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def rendered(*values: str) -> list[dict[str, Any]]:
    done = template(*values)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == kind]


def scraped_pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Templates of pods with a port `management`."""
    pods = [one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "StatefulSet", "Job")]
    return [
        pod
        for pod in pods
        if any(port["name"] == "management" for c in pod["spec"]["containers"] for port in c.get("ports", ()))
    ]


def test_by_default_nothing_needs_the_prometheus_operator() -> None:
    assert not [one for one in rendered() if one["apiVersion"].startswith("monitoring.coreos.com")]


def test_the_pod_monitor_selects_every_pod_that_serves_metrics_and_no_other() -> None:
    objects = rendered(*ON)
    (monitor,) = of_kind(objects, "PodMonitor")
    wanted, (among,) = (
        monitor["spec"]["selector"]["matchLabels"],
        monitor["spec"]["selector"]["matchExpressions"],
    )
    pods = scraped_pods(objects)
    assert len(pods) == 6
    for pod in pods:
        labels = pod["metadata"]["labels"]
        assert wanted.items() <= labels.items()
        assert labels[among["key"]] in among["values"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "management"
    assert {one["targetLabel"] for one in endpoint["relabelings"]} >= {"release"}


def test_one_monitor_or_the_other() -> None:
    both = template("monitoring.podMonitor.enabled=true", "monitoring.serviceMonitor.enabled=true")
    assert both.returncode != 0
    assert "would scrape every process twice" in both.stderr
    objects = rendered("monitoring.serviceMonitor.enabled=true")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    chosen = [
        one
        for one in of_kind(objects, "Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    assert [one["metadata"]["name"] for one in chosen] == ["peakclip-management"]


def test_the_rules_are_those_of_the_file() -> None:
    (rule,) = of_kind(rendered(*ON), "PrometheusRule")
    assert rule["spec"]["groups"] == GROUPS


@with_promtool
def test_the_rules_are_valid_with_every_wish(tmp_path: Path) -> None:
    assert PROMTOOL
    objects = rendered(
        *ON,
        'monitoring.prometheusRule.alertLabels={"team":"shop"}',
        'monitoring.prometheusRule.disabledAlerts=["PeakclipApiSlow","PeakclipPoolPaused"]',
        "monitoring.prometheusRule.runbookUrl=https://wiki.example/",
        'monitoring.prometheusRule.additionalLabels={"release":"kps"}',
    )
    (rule,) = of_kind(objects, "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "kps"
    alerts = {
        one["alert"]: one for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one
    }
    assert set(alerts) == set(ALERTS) - {"PeakclipApiSlow", "PeakclipPoolPaused"}
    assert {one["labels"]["team"] for one in alerts.values()} == {"shop"}
    assert all(
        one["annotations"]["runbook_url"] == f"https://wiki.example/{name}" for name, one in alerts.items()
    )
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"]))
    promtool("check", "rules", path)


def test_the_dashboard_is_the_file() -> None:
    (board,) = [
        one for one in of_kind(rendered(*ON), "ConfigMap") if one["metadata"]["name"].endswith("-dashboard")
    ]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["peakclip.json"]) == json.loads(DASHBOARD.read_text())


def test_annotations_are_on_every_pod_that_serves_metrics() -> None:
    objects = rendered("monitoring.annotations.enabled=true")
    for pod in scraped_pods(objects):
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == "9090"
    text = yaml.safe_dump_all(objects)
    assert text.count("prometheus.io/scrape") == len(scraped_pods(objects))


@pytest.mark.parametrize(
    "wrong",
    [
        'monitoring.prometheusRule.disabledAlerts=["PeakclipNoSuchAlert"]',
        "monitoring.podMonitor.interval=often",
        "monitoring.podMonitor.enable=true",
    ],
)
def test_a_wrong_wish_is_refused(wrong: str) -> None:
    assert template(wrong).returncode != 0


def test_the_schema_knows_every_alert() -> None:
    schema = json.loads((ROOT / "charts" / "peakclip" / "values.schema.json").read_text())
    rule = schema["properties"]["monitoring"]["properties"]["prometheusRule"]["properties"]
    assert rule["disabledAlerts"]["items"]["enum"] == sorted(ALERTS)
