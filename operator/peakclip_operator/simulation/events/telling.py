"""What `peakclip simulate --events` says: of the run of one seed, or of a sweep."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict

from peakclip_operator.simulation.events.draw import draw
from peakclip_operator.simulation.events.run import Summary, run_events, sweep


def one_run(seed: int, *, as_json: bool = False) -> tuple[str, bool]:
    """Words, and whether every promise was kept. Shows what happened, the last events before the end included."""
    result = run_events(seed, trace=True)
    if as_json:
        return json.dumps({"version": 1, "run": asdict(result)}), result.ok
    conditions = draw(seed)
    lines = [
        f"{lane.name}: {lane.rate:g}/s, {lane.workers} workers, {lane.messages:,} messages"
        for lane in conditions.lanes
    ]
    lines += [f"{one.at:8.3f} s  {one.words}" for one in conditions.happenings]
    if not result.ok:
        lines += ["", *result.trace[-40:], ""]
    summary = Summary()
    summary.add(result)
    return "\n".join([*lines, *summary.lines(result.took_seconds)]), result.ok


def many_runs(
    first_seed: int,
    count: int,
    jobs: int,
    *,
    as_json: bool = False,
    progress: Callable[[str], None] = lambda words: None,
) -> tuple[str, bool]:
    """As `one_run`, of a sweep. `progress` is told a line whenever a tenth is done."""
    began, summary = time.perf_counter(), Summary()
    for result in sweep(first_seed, count, jobs):
        summary.add(result)
        if summary.runs * 10 // count > (summary.runs - 1) * 10 // count:
            speed = summary.runs / (time.perf_counter() - began)
            left = (count - summary.runs) / speed
            done = f"{summary.runs:,} of {count:,} runs, {speed:.1f}/s, {left:.0f} s left"
            progress(f"{done}, {len(summary.failed)} broken")
    took = time.perf_counter() - began
    ok = not summary.failed
    if as_json:
        return json.dumps({"version": 1, "seconds": took, "jobs": jobs, **asdict(summary)}), ok
    return "\n".join(summary.lines(took)), ok
