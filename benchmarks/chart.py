"""Rates as bars on a logarithmic axis, in the style of Peakclip's other figure. Pure.

Grey is what Peakclip is compared with. A thin line over each bar goes from the lowest round to the highest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from peakclip.report.svg import STYLE, path, rect, text

WIDTH: Final = 960
_LEFT, _RIGHT = 318, 118  # pixels: names on the left, numbers on the right
_HEAD, _FOOT = 92, 62
_ROW, _BAR = 38, 20
_WHISKER: Final = ".whisker{fill:none;stroke-width:1.25;stroke:#12181f}"
_WHISKER_DARK: Final = "@media(prefers-color-scheme:dark){.whisker{stroke:#f1f4f8}}"


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    median: float
    low: float
    high: float
    ours: bool  # Peakclip's own
    note: str = ""  # under the number: 'not durable'


def draw(title: str, subtitle: str, unit: str, bars: Sequence[Bar]) -> str:
    """The SVG document. Every value must be above 0."""
    first = math.floor(math.log10(min(bar.low for bar in bars)))
    last = math.log10(max(bar.high for bar in bars))
    bottom = _HEAD + _ROW * len(bars)

    def x(value: float) -> float:
        return _LEFT + (math.log10(value) - first) / (last - first) * (WIDTH - _RIGHT - _LEFT)

    lines = [rect(0, 0, WIDTH, bottom + _FOOT, "bg")]
    lines += [text(28, 38, title, "title"), text(28, 62, subtitle, "sub")]
    for power in range(first, math.floor(last) + 1):
        lines.append(path(f"M{x(10**power):.1f} {_HEAD - 6}V{bottom}", "axis" if power == first else "grid"))
        lines.append(text(x(10**power), bottom + 20, f"{10**power:,}", "tick mid"))
    lines.append(text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 44, f"{unit}, logarithmic", "label mid"))
    for row, bar in enumerate(bars):
        lines += _row(bar, _HEAD + row * _ROW + _ROW / 2, x)
    described = "; ".join(f"{bar.name}: {bar.median:,.0f}" for bar in bars)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + _FOOT}" width="{WIDTH}" '
            f'height="{bottom + _FOOT}" role="img" aria-labelledby="t d">',
            text(None, None, title, "", tag="title", ident="t"),
            text(None, None, f"{subtitle}. {unit}: {described}.", "", tag="desc", ident="d"),
            f"<style>{STYLE}{_WHISKER}{_WHISKER_DARK}</style>",
            *lines,
            "</svg>",
            "",
        ]
    )


def _row(bar: Bar, middle: float, x: Callable[[float], float]) -> list[str]:
    top = middle - _BAR / 2
    low, high = x(bar.low), x(bar.high)
    lines = [
        text(_LEFT - 12, middle + 4, bar.name, "head end" if bar.ours else "keytext end"),
        rect(_LEFT, top, max(1.0, x(bar.median) - _LEFT), _BAR, "arrive" if bar.ours else "refuse"),
    ]
    if high - low >= 2:
        ends = f"M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"
        lines.append(path(f"M{low:.1f} {middle}H{high:.1f}{ends}", "whisker"))
    lines.append(text(high + 10, middle + 4, f"{bar.median:,.0f}", "head"))
    if bar.note:
        lines.append(text(high + 10, middle + 17, bar.note, "tick"))
    return lines
