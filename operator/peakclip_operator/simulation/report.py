"""The scores of many runs as a table: for a terminal, for a page, for machines. Pure: scores in, text out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, NamedTuple

from peakclip_operator.simulation.measure import Score
from peakclip_operator.simulation.promises import Violation
from peakclip_operator.simulation.scenario import Scenario

_RED, _GREEN, _BOLD, _DIM, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Result(NamedTuple):
    """A run as it is reported. `broken` is None for workers that obey no limiter: they promise nothing."""

    scenario: Scenario
    score: Score
    broken: list[Violation] | None
    command: str
    """Makes this run again."""


class _Column(NamedTuple):
    head: str
    cell: Callable[[Score], str]


def _drain(score: Score) -> str:
    if not score.drain_seconds:
        return "–"
    return f"{score.drain_seconds:,.1f}" + ("" if score.drained else "+")


def _optimum(score: Score) -> str:
    return f"{score.optimum_seconds:,.1f}" if score.drain_seconds else "–"


_COLUMNS = (
    _Column("drain s", _drain),
    _Column("best s", _optimum),
    _Column("at /s", lambda score: "–" if score.drain_rate is None else f"{score.drain_rate:,.1f}"),
    _Column("worst 1 s", lambda score: f"{score.worst_rate:,}"),
    _Column("above R", lambda score: f"{score.over_r:,}"),
    _Column("worker-s", lambda score: f"{score.worker_seconds:,.0f}"),
    _Column("most", lambda score: f"{score.most_workers:,}"),
    _Column("changes", lambda score: f"{score.scale_changes:,}"),
    _Column("turns", lambda score: f"{score.reversals:,}"),
    _Column("worst lag", lambda score: f"{score.worst_lag:,}"),
    _Column("SLO misses", lambda score: f"{score.slo_misses:,}"),
)
_LEGEND = (
    "drain: seconds with a backlog (+: still there at the end)   best: what R and the start time allow",
    "at: orders started per second meanwhile   worst 1 s: most starts in any sliding second   above R: orders",
    "worker-s: starting and draining ones included   turns: changes of direction   SLO misses: orders too late",
)


def table(results: Sequence[Result], *, colour: bool = False) -> str:
    """Aligned; what breaks a limit is red, a scenario is told in one line above its runs."""
    names = max([len("autoscaler"), *(len(result.score.autoscaler) for result in results)])
    cells = [[column.cell(result.score) for column in _COLUMNS] for result in results]
    widths = [max(len(column.head), *(len(row[i]) for row in cells)) for i, column in enumerate(_COLUMNS)]
    paint = _painter(colour)
    heads = "  ".join(column.head.rjust(width) for column, width in zip(_COLUMNS, widths, strict=True))
    lines = [paint(f"  {'autoscaler':<{names}}  {heads}", _DIM)]
    by_scenario = groupby(zip(results, cells, strict=True), key=lambda one: one[0].scenario.name)
    for name, group in by_scenario:
        runs = list(group)
        scenario = runs[0][0].scenario
        facts = f"R = {scenario.limit_per_second:g}/s, {scenario.seconds} s"
        lines.append("")
        lines.append(f"{paint(name, _BOLD)}  {scenario.words}  {paint(facts, _DIM)}")
        for result, row in runs:
            painted = [
                _shown(text.rjust(width), index, result, paint)
                for index, (text, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append(f"  {result.score.autoscaler:<{names}}  " + "  ".join(painted).rstrip())
            lines += [f"    {paint('BROKEN', _RED)} {line}" for line in _broken(result)]
    return "\n".join([*lines, "", *(paint(line, _DIM) for line in _LEGEND)])


def _shown(text: str, index: int, result: Result, paint: Callable[[str, str], str]) -> str:
    score, head = result.score, _COLUMNS[index].head
    most = result.scenario.limit_per_second + result.scenario.burst
    bad = {
        "worst 1 s": score.worst_rate > most,
        "above R": score.seconds_over > 0,
        "SLO misses": score.slo_misses > 0,
        "drain s": not score.drained,
    }
    return paint(text, _RED) if bad.get(head) else text


def _broken(result: Result) -> Iterator[str]:
    for violation in result.broken or ():
        yield f"{violation.promise} at {violation.at:.1f} s: {violation.words}  ({result.command})"


def markdown(results: Sequence[Result]) -> str:
    """The same as a table of a page."""
    lines = [
        "| scenario | autoscaler | " + " | ".join(column.head for column in _COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * len(_COLUMNS),
    ]
    before = None
    for result in results:
        name = result.score.scenario if result.score.scenario != before else ""
        before = result.score.scenario
        cells = " | ".join(column.cell(result.score) for column in _COLUMNS)
        lines.append(f"| {name} | {result.score.autoscaler} | {cells} |")
    return "\n".join(lines)


def as_dict(result: Result) -> dict[str, Any]:
    """For machines. `violations` is null where nothing was promised."""
    broken = result.broken
    return {
        **asdict(result.score),
        "limit_per_second": result.scenario.limit_per_second,
        "burst": result.scenario.burst,
        "seconds": result.scenario.seconds,
        "violations": None if broken is None else [violation._asdict() for violation in broken],
        "command": result.command,
    }


def _painter(colour: bool) -> Callable[[str, str], str]:
    return lambda words, code: f"{code}{words}{_PLAIN}" if colour else words
