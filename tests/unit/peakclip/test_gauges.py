"""What a process does not know it does not say; what it counts in memory arrives whole."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, generate_latest

from peakclip.telemetry import OneTeller, Tally


def test_a_process_that_never_sets_a_gauge_leaves_it_out() -> None:
    registry = CollectorRegistry()
    gauge = OneTeller("rows", "Rows.", registry=registry)
    assert b"rows" not in generate_latest(registry)
    gauge.set(0)
    assert b"\nrows 0.0\n" in generate_latest(registry)
    gauge.set(math.nan)
    assert b"\nrows NaN\n" in generate_latest(registry)


def test_a_tally_writes_each_count_once() -> None:
    registry = CollectorRegistry()
    tally = Tally(Counter("answers", "Answers.", ["route", "status"], registry=registry))
    for status in ("202", "202", "409"):
        tally.add("POST /v1/orders", status)
    for _ in range(2):
        tally.write()
    tally.add("POST /v1/orders", "202")
    tally.write()
    values = {
        status: registry.get_sample_value("answers_total", {"route": "POST /v1/orders", "status": status})
        for status in ("202", "409")
    }
    assert values == {"202": 3, "409": 1}
