"""The runs of a scenario as one figure: what waits, the rate against R, the workers. Pure: runs in, SVG text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peakclip.report.svg import STYLE, Panel, Scale, nice_ticks, path, rect, steps, text
from peakclip_operator.simulation.measure import Score
from peakclip_operator.simulation.run import Run

WIDTH = 960
_LEFT, _RIGHT = 78, 26  # pixels beside the panels
_HEAD, _FOOT, _GAP, _LINE = 84, 58, 44, 20
_HEIGHTS = (140, 180, 130)

# Told apart by people who see few colours too, and by their dashes: (light, dark, width, dashes).
_SERIES = (
    ("#0072b2", "#56b4e9", 2.25, ""),
    ("#d55e00", "#ff9351", 1.5, ""),
    ("#7b4ea3", "#bf9be6", 1.5, "7 3"),
    ("#00805a", "#3ed3a3", 1.5, "2 2.5"),
    ("#8a6d00", "#e5c04c", 1.5, "9 3 2 3"),
    ("#5b6675", "#95a0ae", 1.5, "4 2"),
)


def draw(runs: Sequence[tuple[Run, Score]]) -> str:
    """One line for each autoscaler, the first above the others."""
    scenario = runs[0][0].scenario
    end = float(scenario.seconds)
    x = Scale(0.0, end, _LEFT, WIDTH - _RIGHT)
    drawers: tuple[Callable[[Sequence[tuple[Run, Score]], Panel], list[str]], ...] = (_lag, _rate, _workers)
    top = _HEAD + _LINE * len(runs) + 34.0
    panels: list[Panel] = []
    for height in _HEIGHTS:
        panels.append(Panel(x, top, height))
        top += height + _GAP
    total = top - _GAP + _FOOT
    first = runs[0][0]
    title, rate = scenario.name, f"R = {scenario.limit_per_second:g}/s"
    facts = f"{scenario.words} · {rate} · {sum(first.arrivals):,} orders · simulated, seed {first.seed}"
    body = [rect(0, 0, WIDTH, total, "bg"), text(_LEFT, 38, title, "title"), text(_LEFT, 62, facts, "sub")]
    body += _legend(runs)
    ticks = nice_ticks(end, 9)
    for panel, drawer in zip(panels, drawers, strict=True):
        body += [path(f"M{x(t):.1f} {panel.top}V{panel.bottom}", "grid") for t in ticks if t > 0]
        body += drawer(runs, panel)
        body.append(path(f"M{_LEFT} {panel.bottom}H{WIDTH - _RIGHT}", "axis"))
    for moment in ticks:
        body.append(path(f"M{x(moment):.1f} {panels[-1].bottom}v5", "axis"))
        body.append(text(x(moment), panels[-1].bottom + 20, f"{moment:g}", "tick mid"))
    body.append(text((_LEFT + WIDTH - _RIGHT) / 2, panels[-1].bottom + 43, "Time (s)", "label mid"))
    names = ", ".join(run.autoscaler for run, _ in runs)
    described = (
        f"{title}. {facts}. Three panels over time for {names}: orders waiting, starts per second, workers."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:.0f}" width="{WIDTH}" '
            f'height="{total:.0f}" role="img" aria-labelledby="t d">',
            text(None, None, title, "", tag="title", ident="t"),
            text(None, None, described, "", tag="desc", ident="d"),
            f"<style>{STYLE}{_style()}</style>",
            *body,
            "</svg>",
            "",
        ]
    )


def _style() -> str:
    lines = "".join(
        f".s{index}{{fill:none;stroke:{light};stroke-width:{width};stroke-linejoin:round"
        + (f";stroke-dasharray:{dashes}" if dashes else "")
        + "}"
        for index, (light, _, width, dashes) in enumerate(_SERIES)
    )
    dark = "".join(f".s{index}{{stroke:{night}}}" for index, (_, night, _, _) in enumerate(_SERIES))
    return f"{lines}@media(prefers-color-scheme:dark){{{dark}}}"


def _legend(runs: Sequence[tuple[Run, Score]]) -> list[str]:
    """A line each, with what the eye should take away."""
    lines: list[str] = []
    for index, (run, score) in enumerate(runs):
        y = _HEAD + 8.0 + _LINE * index
        drained = "never a backlog"
        if score.drain_seconds:
            drained = f"a backlog for {score.drain_seconds:,.0f} s" + ("" if score.drained else ", and still")
        changes = f"{score.scale_changes} change{'' if score.scale_changes == 1 else 's'}"
        facts = (
            f"{drained} · worst second {score.worst_rate:,} · {score.over_r:,} orders above R · "
            f"{score.worker_seconds:,.0f} worker-seconds · {changes}"
        )
        lines += [path(f"M{_LEFT} {y - 4:.1f}h28", _name(index)), text(_LEFT + 38, y, run.autoscaler, "head")]
        lines.append(text(_LEFT + 38 + 110, y, facts, "keytext"))
    return lines


def _name(index: int) -> str:
    return f"s{index % len(_SERIES)}"


def _lag(runs: Sequence[tuple[Run, Score]], panel: Panel) -> list[str]:
    y, lines = panel.frame("Waiting", "orders", max(row.lag for run, _ in runs for row in run.rows))
    for index, (run, _) in reversed(list(enumerate(runs))):
        points = [(0.0, 0.0), *((float(row.second), float(row.lag)) for row in run.rows)]
        lines.append(path("M" + " L".join(f"{panel.x(t):.1f} {y(n):.1f}" for t, n in points), _name(index)))
    return lines


def _rate(runs: Sequence[tuple[Run, Score]], panel: Panel) -> list[str]:
    scenario = runs[0][0].scenario
    limits = [(0.0, scenario.limit_per_second), *scenario.limits]
    highest = max(scenario.greatest_limit, *(row.started for run, _ in runs for row in run.rows))
    y, lines = panel.frame("Rate", "orders started in each second", highest * 1.08)
    for index, (run, _) in reversed(list(enumerate(runs))):
        points = [(row.second - 1.0, float(row.started)) for row in run.rows]
        lines.append(path(steps(panel.x, y, points, panel.x.high), _name(index)))
    lines.append(path(steps(panel.x, y, limits, panel.x.high), "limit"))
    lines.append(text(panel.x.high_px, y(limits[-1][1]) - 5, f"R = {limits[-1][1]:g}/s", "note end"))
    return lines


def _workers(runs: Sequence[tuple[Run, Score]], panel: Panel) -> list[str]:
    highest = max(row.existing for run, _ in runs for row in run.rows)
    y, lines = panel.frame("Workers", "running or starting", highest * 1.1, whole=True)
    for index, (run, _) in reversed(list(enumerate(runs))):
        points = [(row.second - 1.0, float(row.existing)) for row in run.rows]
        lines.append(path(steps(panel.x, y, points, panel.x.high), _name(index)))
    return lines
