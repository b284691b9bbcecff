"""Gathered observations are the same observations, and log lines carry their tracebacks."""

from __future__ import annotations

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from peakclip.telemetry import Gathered, configure_logging

BOUNDS = (0.1, 0.5, 1.0)


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 8.0])))
def test_gathered_and_single_observations_are_exposed_alike(values: list[float]) -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    singly = Histogram("x_seconds", "x", buckets=BOUNDS, registry=one)
    gathered = Gathered(Histogram("x_seconds", "x", buckets=BOUNDS, registry=other), BOUNDS)
    for value in values:
        singly.observe(value)
        gathered.add(value)
    gathered.write()
    gathered.write()  # nothing twice

    def counts(registry: CollectorRegistry) -> list[str]:
        return [line for line in generate_latest(registry).decode().splitlines() if "created" not in line]

    assert counts(one) == counts(other)


@pytest.mark.parametrize("json", [True, False])
def test_a_traceback_can_be_logged_for_programs_and_for_people(
    json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("test", json=json)
    key = "_".join(("pk", "secret"))  # as a word only in the variable, since lines of code are shown
    try:
        raise ZeroDivisionError(len(key))
    except ZeroDivisionError:
        structlog.get_logger().exception("it_failed")
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    text = capsys.readouterr().err
    assert "it_failed" in text
    assert "ZeroDivisionError" in text
    assert key not in text  # a frame's variables are nobody's business
