"""The few shapes that the figure is made of. Pure: numbers in, SVG text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_FONT: Final = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Liberation Sans',sans-serif"
_CHARACTER: Final = 6.8  # pixels, a generous mean at 12 px: legends are laid out without measuring

# (class, light, dark): told apart by people who see few colours too, and by shape (area, line, dashes).
_FILLS: Final = [
    ("bg", "#ffffff", "#0f141a"),
    ("title", "#12181f", "#f1f4f8"),
    ("sub,.label,.note,.keytext", "#475160", "#aeb8c4"),
    ("head", "#12181f", "#f1f4f8"),
    ("tick", "#5b6675", "#95a0ae"),
    ("arrive", "#d55e00", "#ff9351"),
    ("refuse", "#b9c0c9", "#566170"),
    ("waitarea", "#7b4ea3", "#bf9be6"),
    ("drainarea", "#0072b2", "#56b4e9"),
    ("workarea", "#00805a", "#3ed3a3"),
]
_LINES: Final = [
    ("grid", "#e7eaee", "#212a35", 1.0, ""),
    ("axis", "#8a94a1", "#66717f", 1.0, ""),
    ("wait", "#7b4ea3", "#bf9be6", 1.75, ""),
    ("drain", "#0072b2", "#56b4e9", 1.5, ""),
    ("limit", "#12181f", "#f1f4f8", 1.25, "6 4"),
    ("work", "#00805a", "#3ed3a3", 1.75, ""),
    ("want", "#5b6675", "#95a0ae", 1.25, "2 3"),
]


def _colours(dark: bool) -> str:
    fills = "".join(f".{name}{{fill:{night if dark else day}}}" for name, day, night in _FILLS)
    return fills + "".join(f".{name}{{stroke:{night if dark else day}}}" for name, day, night, _, _ in _LINES)


STYLE: Final = (
    f"text{{font-family:{_FONT};font-size:12px}}.title{{font-size:21px;font-weight:650}}.sub{{font-size:13.5px}}"
    ".head{font-size:13px;font-weight:650}.unit{font-weight:400;fill-opacity:.72}"
    ".tick{font-size:11.5px;font-variant-numeric:tabular-nums}"
    ".mid{text-anchor:middle}.end{text-anchor:end}.waitarea,.drainarea,.workarea{fill-opacity:.14}"
    + "".join(
        f".{name}{{fill:none;stroke-width:{width};stroke-linejoin:round"
        + (f";stroke-dasharray:{dashes}" if dashes else "")
        + "}"
        for name, _, _, width, dashes in _LINES
    )
    + _colours(dark=False)
    + f"@media(prefers-color-scheme:dark){{{_colours(dark=True)}}}"
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to pixels, linearly."""

    low: float
    high: float
    low_px: float
    high_px: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.low_px + share * (self.high_px - self.low_px)


@dataclass(frozen=True, slots=True)
class Panel:
    """A plot area that shares the time axis `x` with the others."""

    x: Scale
    top: float
    height: float

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def frame(self, name: str, unit: str, highest: float, *, whole: bool = False) -> tuple[Scale, list[str]]:
        """The value scale, from 0 to a round number above `highest`, with its lines, numbers and heading."""
        ticks = nice_ticks(max(highest, 1.0), 4, whole=whole, cover=True)
        y = Scale(0.0, ticks[-1], self.bottom, self.top)
        lines = [
            f'<text x="{self.x.low_px:.1f}" y="{self.top - 12:.1f}" class="head">{escape(name)}'
            f'<tspan class="unit" dx="7">{escape(unit)}</tspan></text>'
        ]
        for tick in ticks:
            if tick:
                lines.append(path(f"M{self.x.low_px:.1f} {y(tick):.1f}H{self.x.high_px:.1f}", "grid"))
            lines.append(text(self.x.low_px - 9, y(tick) + 4, f"{tick:,.10g}", "tick end"))
        return y, lines


def nice_ticks(highest: float, most: int, *, whole: bool = False, cover: bool = False) -> list[float]:
    """0, step, 2 step ...: at most about `most` steps of 1, 2, 2.5 or 5 times a power of ten.

    With `cover` the last tick is not below `highest`, otherwise not above. 10,000 in 4: 0, 2,500 ... 10,000.
    """
    rough = highest / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step))
    count = math.ceil(highest / step - 1e-9) if cover else math.floor(highest / step + 1e-9)
    return [round(index * step, 10) for index in range(count + 1)]


def steps(x: Scale, y: Scale, points: Sequence[tuple[float, float]], end: float) -> str:
    """A staircase: each value holds until the next moment, the last until `end`. Left of the axis is cut."""
    first = max((index for index, (t, _) in enumerate(points) if t <= x.low), default=0)
    line = f"M{x(min(end, max(x.low, points[first][0]))):.1f} {y(points[first][1]):.1f}"
    for moment, value in points[first + 1 :]:
        line += f" H{x(min(moment, end)):.1f} V{y(value):.1f}"
    return line + f" H{x(end):.1f}"


def key(right: float, y: float, entries: Sequence[tuple[str, str, str]]) -> list[str]:
    """A legend that ends at `right`: (class, words, 'box' or 'line') each."""
    lines = []
    for name, words, shape in reversed(entries):
        left = right - _CHARACTER * len(words)
        lines.append(text(right, y, words, "keytext end"))
        if shape == "box":
            lines.append(rect(left - 17, y - 9, 11, 10, name))
        else:
            lines.append(path(f"M{left - 30:.1f} {y - 4:.1f}h24", name))
        right = left - (17 if shape == "box" else 30) - 18
    return lines


def text(
    x: float | None, y: float | None, words: str, classes: str, *, tag: str = "text", ident: str = ""
) -> str:
    place = "" if x is None or y is None else f' x="{x:.1f}" y="{y:.1f}"'
    named = f' class="{classes}"' if classes else ""
    marked = f' id="{ident}"' if ident else ""
    return f"<{tag}{marked}{place}{named}>{escape(words)}</{tag}>"


def path(shape: str, name: str) -> str:
    return f'<path d="{shape}" class="{name}"/>'


def rect(x: float, y: float, width: float, height: float, name: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{name}"/>'
