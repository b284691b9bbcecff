"""The dashboard is what its script makes, and asks for nothing that Peakclip does not export."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from chart.test_alerts import RECORDED, ROOT, exported
from e2e.monitoring import DASHBOARD, dashboard_queries, shortened
from e2e.promql import metric_names

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())


def test_the_file_is_what_the_script_makes() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "dashboard.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert made.stdout == DASHBOARD.read_text(), "make dashboard"


@pytest.mark.parametrize("query", dashboard_queries(), ids=lambda query: query.panel)
def test_a_query_rests_on_metrics_that_exist(query: Any) -> None:
    names = metric_names(query.expression)
    assert names
    assert names <= exported() | RECORDED
    assert "$" not in query.expression


def test_every_metric_is_on_the_dashboard() -> None:
    """But for sums of histograms, which are in their means and percentiles or nowhere."""
    shown = set().union(*(metric_names(query.expression) for query in dashboard_queries()))
    recorded_from = {"peakclip_eta_seconds", "peakclip_failed_attempts_total", "peakclip_decisions_total"}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported()}
    assert families - {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} <= recorded_from


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_shortened_rules_differ_in_durations_only() -> None:
    rules = "groups: [{name: a, rules: [{alert: X, expr: 'rate(peakclip:y:rate5m[10m] offset 1h) > 5', for: 1h}]}]"
    assert "peakclip:y:rate5m[10s] offset 60s) > 5" in shortened(rules, 60)
    assert "for: 60s" in shortened(rules, 60)
