"""The figure of a run as SVG, made by hand: arrivals, backlog, drain and workers over one time axis. Pure.

Plain classes with colours for light, overridden for dark by `prefers-color-scheme`: a viewer without media
queries still draws the light figure. No script, no font file, no reference to anything outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from peakclip.report.svg import STYLE, Panel, Scale, key, nice_ticks, path, rect, steps, text

WIDTH: Final = 960
_LEFT, _RIGHT = 78, 26  # pixels beside the panels
_HEAD, _FOOT = 96, 58
_GAP: Final = 44  # between panels; holds the next one's heading
_HEIGHTS: Final = (120, 120, 150, 110)


@dataclass(frozen=True, slots=True)
class Figure:
    """What to draw. Times in seconds since the first request."""

    title: str
    subtitle: str
    end: float  # of the time axis
    bin_seconds: float  # width of a step of the three series that follow
    accepted: Sequence[float] = ()  # orders per second
    refused: Sequence[float] = ()
    drained: Sequence[float] = ()
    backlog: Sequence[tuple[float, int]] = ()
    workers: Sequence[tuple[float, int]] = ()
    wanted: Sequence[tuple[float, int]] = ()
    limit: Sequence[tuple[float, float]] = ()  # R in force from that moment on
    arrivals_note: str = ""
    drained_note: str = ""


def draw(figure: Figure) -> str:
    """The SVG document."""
    end = max(figure.end, 1.0)
    x = Scale(0.0, end, _LEFT, WIDTH - _RIGHT)
    drawers: tuple[Callable[[Figure, Panel], list[str]], ...] = (_arrivals, _backlog, _drain, _workers)
    panels: list[Panel] = []
    top = float(_HEAD)
    for height in _HEIGHTS:
        top += _GAP if panels else 20
        panels.append(Panel(x, top, height))
        top += height
    total = top + _FOOT
    body = [rect(0, 0, WIDTH, total, "bg")]
    body += [text(_LEFT, 38, figure.title, "title"), text(_LEFT, 62, figure.subtitle, "sub")]
    ticks = nice_ticks(end, 9)
    for panel, drawer in zip(panels, drawers, strict=True):
        body += [path(f"M{x(t):.1f} {panel.top}V{panel.bottom}", "grid") for t in ticks if t > 0]
        body += drawer(figure, panel)
        body.append(path(f"M{_LEFT} {panel.bottom}H{WIDTH - _RIGHT}", "axis"))
    body += _time_axis(x, panels[-1].bottom, ticks)
    return _document(figure, total, body)


def _document(figure: Figure, height: float, body: list[str]) -> str:
    described = (
        f"{figure.title}. {figure.subtitle}. Four panels over time: arrivals, backlog, drain rate, workers."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" role="img" aria-labelledby="t d">',
            text(None, None, figure.title, "", tag="title", ident="t"),
            text(None, None, described, "", tag="desc", ident="d"),
            f"<style>{STYLE}</style>",
            *body,
            "</svg>",
            "",
        ]
    )


def _time_axis(x: Scale, bottom: float, ticks: Sequence[float]) -> list[str]:
    lines = []
    for moment in ticks:
        lines.append(path(f"M{x(moment):.1f} {bottom}v5", "axis"))
        lines.append(text(x(moment), bottom + 20, f"{moment:g}", "tick mid"))
    lines.append(
        text((x.low_px + x.high_px) / 2, bottom + 43, "Time since the first request (s)", "label mid")
    )
    return lines


def _arrivals(figure: Figure, panel: Panel) -> list[str]:
    both = [a + r for a, r in _zipped(figure.accepted, figure.refused)]
    y, lines = panel.frame("Arrivals", "orders/s", max(both, default=0.0))
    peak = max(range(len(both)), key=both.__getitem__, default=None)
    for index, (accepted, total) in enumerate(zip(_padded(figure.accepted, len(both)), both, strict=True)):
        left = panel.x(index * figure.bin_seconds)
        width = max(3.0, panel.x((index + 1) * figure.bin_seconds) - left)
        if accepted:
            lines.append(rect(left, y(accepted), width, panel.bottom - y(accepted), "arrive"))
        if total > accepted:
            lines.append(rect(left, y(total), width, y(accepted) - y(total), "refuse"))
    if peak is not None and figure.arrivals_note:
        after = panel.x((peak + 1) * figure.bin_seconds) + 10
        fits = after + 6.2 * len(figure.arrivals_note) < WIDTH - _RIGHT
        where, kind = (after, "note") if fits else (panel.x(peak * figure.bin_seconds) - 10, "note end")
        lines.append(text(where, y(both[peak]) + 12, figure.arrivals_note, kind))
    entries = [("arrive", "accepted", "box")]
    if any(figure.refused):
        entries.append(("refuse", "refused", "box"))
    return lines + key(WIDTH - _RIGHT, panel.top - 12, entries)


def _backlog(figure: Figure, panel: Panel) -> list[str]:
    y, lines = panel.frame("Backlog", "orders accepted, not yet in the database", _highest(figure.backlog))
    if figure.backlog:
        points = " L".join(f"{panel.x(t):.1f} {y(n):.1f}" for t, n in figure.backlog)
        first, last = figure.backlog[0][0], figure.backlog[-1][0]
        area = f"M{panel.x(first):.1f} {panel.bottom} L{points} L{panel.x(last):.1f} {panel.bottom}Z"
        lines += [path(area, "waitarea"), path(f"M{points}", "wait")]
    return lines


def _drain(figure: Figure, panel: Panel) -> list[str]:
    unit = "orders started/s" + (f" · {figure.drained_note}" if figure.drained_note else "")
    highest = max([*figure.drained, *(rate for _, rate in figure.limit)], default=0.0)
    y, lines = panel.frame("Drain", unit, highest * 1.12)
    rates = [(index * figure.bin_seconds, rate) for index, rate in enumerate(figure.drained)]
    if rates:
        line = steps(panel.x, y, rates, min(figure.end, len(rates) * figure.bin_seconds))
        first, last = panel.x(0), panel.x(min(figure.end, len(rates) * figure.bin_seconds))
        lines += [path(f"{line} L{last:.1f} {panel.bottom} L{first:.1f} {panel.bottom}Z", "drainarea")]
        lines += [path(line, "drain")]
    entries = [("drain", "started in each second" if figure.bin_seconds == 1 else "started", "line")]
    if figure.limit:
        lines.append(path(steps(panel.x, y, figure.limit, figure.end), "limit"))
        entries.append(
            ("limit", f"R = {figure.limit[-1][1]:,.10g}/s" if len(figure.limit) == 1 else "R", "line")
        )
    return lines + key(WIDTH - _RIGHT, panel.top - 12, entries)


def _workers(figure: Figure, panel: Panel) -> list[str]:
    highest = max(_highest(figure.workers), _highest(figure.wanted))
    y, lines = panel.frame("Workers", "processes", highest * 1.1, whole=True)
    if figure.workers:
        line = steps(panel.x, y, figure.workers, figure.end)
        first = panel.x(max(0.0, figure.workers[0][0]))
        lines.append(path(f"{line} V{panel.bottom} H{first:.1f}Z", "workarea"))
        if figure.wanted:
            lines.append(path(steps(panel.x, y, figure.wanted, figure.end), "want"))
        lines.append(path(line, "work"))
    return lines + key(
        WIDTH - _RIGHT, panel.top - 12, [("work", "running", "line"), ("want", "wanted", "line")]
    )


def _highest(points: Sequence[tuple[float, float]]) -> float:
    return max((value for _, value in points), default=0.0)


def _padded(values: Sequence[float], length: int) -> list[float]:
    return [*values, *[0.0] * (length - len(values))]


def _zipped(one: Sequence[float], other: Sequence[float]) -> list[tuple[float, float]]:
    length = max(len(one), len(other))
    return list(zip(_padded(one, length), _padded(other, length), strict=True))
