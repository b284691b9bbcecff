"""The figure: well-formed, self-contained, complete; its look was judged by eye."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from peakclip.report.plot import Figure, draw
from peakclip.report.svg import Scale, nice_ticks, steps

FIGURE = Figure(
    title="10,000 orders accepted in 0.87 s, drained at 100.0/s",
    subtitle="max 104 in any second",
    end=120.0,
    bin_seconds=1.0,
    accepted=[10_000.0],
    refused=[0.0, 5.0],
    drained=[25.0, 80.0, *[100.0] * 98],
    backlog=[(0.0, 0), (1.0, 10_000), (101.0, 0)],
    workers=[(-2.0, 1), (2.0, 6), (110.0, 1)],
    wanted=[(-2.0, 1), (1.0, 6)],
    limit=[(-2.0, 100.0)],
    arrivals_note="<all & sundry>",
)


def words_of(svg: str) -> str:
    return " ".join(
        "".join(e.itertext()) for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    )


def test_it_is_one_document_that_needs_nothing_else() -> None:
    svg = draw(FIGURE)
    ElementTree.fromstring(svg)
    assert "prefers-color-scheme:dark" in svg
    assert not re.search(r"href|url\(|@import|<script|<image", svg)


def test_it_says_what_it_shows_with_units() -> None:
    words = words_of(draw(FIGURE))
    for wanted in (
        "drained at 100.0/s",
        "Arrivals",
        "orders/s",
        "Backlog",
        "Drain",
        "R = 100/s",
        "Workers",
        "processes",
        "Time since the first request (s)",
        "refused",
        "<all & sundry>",
        "10,000",
    ):
        assert wanted in words


def test_every_class_has_a_colour_for_day_and_night() -> None:
    svg = draw(FIGURE)
    day, night = svg.split("@media", 1)
    night = night.split("</style>")[0]
    used = set(" ".join(re.findall(r'class="([^"]*)"', svg)).split()) - {"mid", "end", "unit"}
    for name in used:
        assert re.search(rf"\.{name}[,{{]", day), name
        assert re.search(rf"\.{name}[,{{]", night), name


def test_an_empty_run_is_drawn_too() -> None:
    ElementTree.fromstring(draw(Figure(title="t", subtitle="s", end=0.0, bin_seconds=1.0)))


@given(st.floats(0.001, 1e9), st.integers(2, 10))
def test_ticks_are_few_and_cover(highest: float, most: int) -> None:
    ticks = nice_ticks(highest, most, cover=True)
    assert ticks[0] == 0
    assert ticks[-1] >= highest * (1 - 1e-6)
    assert len(ticks) <= most + 2


@given(st.lists(st.tuples(st.floats(-10, 50), st.floats(0, 10)), min_size=1, max_size=20))
def test_a_staircase_stays_inside_the_axes(points: list[tuple[float, float]]) -> None:
    points.sort()
    line = steps(Scale(0, 20, 100, 200), Scale(0, 10, 50, 0), points, 20.0)
    across = [float(n) for n in re.findall(r"[MH](-?[\d.]+)", line)]
    assert all(100 <= n <= 200 for n in across if points[0][0] <= 20)
