"""What an autoscaler is shown, written down by hand."""

from __future__ import annotations

from peakclip_operator.plan import Lag
from peakclip_operator.simulation.autoscalers import Seen


def seen(
    pending: int | None = 0,
    asked: int = 1,
    *,
    in_flight: int = 0,
    ready: int | None = None,
    finished: int = 0,
    busy: float = 0.0,
    busy_seconds: float = 0.0,
) -> Seen:
    """pending None: the lag is unknown. ready None: all that were asked for."""
    ready = asked if ready is None else ready
    lag = None
    if pending is not None:
        lag = Lag(pending, in_flight, pending + in_flight + finished, finished)
    return Seen(
        lag=lag,
        totals=None,
        delayed=0,
        asked=asked,
        existing=asked,
        ready=ready,
        busy=busy,
        arrived_total=(pending or 0) + in_flight + finished,
        started_total=finished + in_flight,
        finished_total=finished,
        busy_seconds_total=busy_seconds,
    )
