"""From a run's data to the figure. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from peakclip.messages import PoolStatus
from peakclip.report.plot import Figure
from peakclip.report.rates import level, series
from peakclip.report.report import Drain
from peakclip.report.words import plot_subtitle, plot_title

_MOST_BINS = 400  # more would be thinner than the line that draws them


def figure_of(report: Mapping[str, Any], drain: Drain, statuses: Sequence[PoolStatus]) -> Figure:
    """Time zero is the client's first byte: it and the servers share a clock, or NTP."""
    burst = report["burst"]
    zero = burst["started_at"]
    last = max([zero + 1.0, *drain.committed])
    end = max([last, *(status.at for status in statuses)]) - zero
    width = float(max(1, math.ceil(end / _MOST_BINS)))
    accepted, refused = _arrivals(report, width)
    drained = series(drain.started, start=zero, end=last, step=width)
    return Figure(
        title=plot_title(report),
        subtitle=plot_subtitle(report, statuses),
        end=end,
        bin_seconds=width,
        accepted=accepted,
        refused=refused,
        drained=[count / width for count in drained],
        backlog=_backlog(drain, zero, last),
        workers=[(s.at - zero, s.workers_current) for s in statuses if s.workers_current is not None],
        wanted=[(s.at - zero, s.workers_desired) for s in statuses if s.workers_desired is not None],
        limit=_changes([(s.at - zero, s.limit_per_second) for s in statuses])
        or [(0.0, report["rate"]["target"])],
        arrivals_note=_arrivals_note(report),
        drained_note=_drained_note(report),
    )


def _arrivals(report: Mapping[str, Any], width: float) -> tuple[list[float], list[float]]:
    """Answers per second, accepted and refused, as the client counted them."""
    found = report["burst"]["answers_series"]
    step = found["step_seconds"]
    bins = math.floor(len(found["accepted"]) * step / width) + 1
    accepted, refused = [0.0] * bins, [0.0] * bins
    for counts, sums in ((found["accepted"], accepted), (found["refused"], refused)):
        for index, count in enumerate(counts):
            sums[int(index * step / width + 1e-9)] += count / width
    return accepted, refused


def _backlog(drain: Drain, zero: float, last: float) -> list[tuple[float, int]]:
    """Fine where the burst is, coarse afterwards."""
    burst_end = min(last, max([zero, *drain.accepted]) + 0.1)
    fine = level(
        drain.accepted, drain.committed, start=zero, end=burst_end, step=max(0.05, (burst_end - zero) / 200)
    )
    coarse = level(
        drain.accepted, drain.committed, start=burst_end, end=last, step=max(0.25, (last - zero) / 400)
    )
    return [(moment - zero, value) for moment, value in [*fine, *coarse]]


def _changes(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [point for index, point in enumerate(points) if index == 0 or points[index - 1][1] != point[1]]


def _arrivals_note(report: Mapping[str, Any]) -> str:
    if report["accept_p99_ms"] is None:
        return ""
    orders = report["burst"]["orders"]
    seconds, p99 = report["accept_seconds"], report["accept_p99_ms"]
    return f"{orders:,} orders answered in {seconds:.2f} s, p99 {p99:.0f} ms"


def _drained_note(report: Mapping[str, Any]) -> str:
    rate = report["rate"]
    if rate["mean"] is None:
        return ""
    return f"mean {rate['mean']:.1f}, at most {rate['max_sliding_second']:,} in any second"
