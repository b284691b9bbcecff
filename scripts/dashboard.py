"""Prints the Grafana dashboard. `make dashboard` writes it to charts/peakclip/files/dashboards/peakclip.json.

Places and identifiers are worked out here; the panels are in dashboard_panels.py. tests/chart/test_dashboard.py holds
the file to this script, and the queries to the metrics.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from dashboard_panels import PLACE, ROWS, Panel

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
WIDTH: Final = 24  # Grafana's columns


def drawn(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "color": {"mode": "palette-classic"}}
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 5, "showPoints": "never", "spanNulls": False}
    if panel.steps:
        steps = [{"color": colour, "value": value} for colour, value in panel.steps]
        defaults |= {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.mappings:
        options = {
            value: {"text": text, "index": n} for n, (value, text) in enumerate(panel.mappings.items())
        }
        defaults["mappings"] = [{"type": "value", "options": options}]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options_of(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": legend,
                "range": panel.kind != "stat",
                "instant": panel.kind == "stat",
                "format": "heatmap" if panel.kind == "heatmap" else "time_series",
            }
            for n, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


def options_of(kind: str) -> dict[str, Any]:
    return {
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {
            "colorMode": "value", "graphMode": "none", "textMode": "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
        "heatmap": {
            "calculate": False, "yAxis": {"unit": "s"}, "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64}, "tooltip": {"mode": "single"},
        },
    }[kind]  # fmt: skip


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        grid = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        found.append(
            {
                "id": len(found) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": grid,
                "panels": [],
            }
        )
        y, x = y + 1, 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + panel.height
            found.append(drawn(panel, len(found) + 1, x, y))
            x += panel.width
        y += row[-1].height
    return found


def variable(name: str, label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {name})"
    return {
        "type": "query", "name": name, "label": label, "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1,
        "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def dashboard() -> dict[str, Any]:
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "refresh": 1,
    }
    return {
        "uid": "peakclip",
        "title": "Peakclip",
        "description": "Accepting, backlog and ETA, the rate against its limit, workers, failures, outbox, operator.",
        "tags": ["peakclip"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [
            source,
            variable("namespace", "Namespace", "peakclip_build_info"),
            variable("release", "Release", 'peakclip_build_info{namespace=~"$namespace"}'),
            variable("pool", "Pool", f"peakclip_limit_per_second{{{PLACE}}}"),
        ]},
        "annotations": {"list": [{
            "name": "Alerts", "datasource": DATASOURCE, "enable": True, "iconColor": "red",
            "titleFormat": "{{alertname}}",
            "expr": f'ALERTS{{alertname=~"Peakclip.*", alertstate="firing", {PLACE}}}',
        }]},
        "panels": panels(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
