"""The live view as text: every state of a run, wide and narrow, with and without a terminal."""

from __future__ import annotations

import io
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from peakclip.cli.live import Display, View, duration, gauge, picture, plain_line, sparkline
from peakclip.load import Progress
from peakclip.messages import PoolStatus

STATUS = PoolStatus(
    pool="orders", at=1.0, limit_per_second=50.0, effective_per_second=50.0, paused=False, lag_ready=10,
    lag_in_flight=1, oldest_seconds=42.0, arrival_per_second=0.0, drain_per_second=50.0, per_worker_per_second=22.0,
    workers_current=3, workers_desired=5, workers_ceiling=7, eta_seconds=9.0, reason="AtLimit",
    binding_constraint="limit", processed_total=9, failed_total=0, average_processing_seconds=0.04,
    starts_max_sliding_second=51,
)  # fmt: skip


def drawn(view: View, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(picture(view, width))
    return out.getvalue()


def running() -> View:
    view = View(orders=1000, limit=100.0, phase="Draining", status=STATUS, accepted=1000, drained=400)
    view.rates = deque([49.0, 50.0, 51.0])
    return view


def test_every_state_is_drawn_and_told() -> None:
    fresh = View(orders=1000, limit=100.0)
    assert "1,000 orders, not sent yet" in drawn(fresh)
    assert "not heard of yet" in drawn(fresh)
    assert plain_line(fresh) == "Starting"
    bursting = View(orders=1000, limit=100.0, burst=Progress(1000, 300, 50, 0, 0.2))
    assert "350 of 1,000 answered" in drawn(bursting)
    assert "350 of 1,000 answered" in plain_line(bursting)
    assert "600 waiting, the oldest for 42 s" in drawn(running())
    assert "51/s of 50/s, 12 s left" in drawn(running())
    assert "●●●○○" in drawn(running())
    assert "3 running, 5 wanted: AtLimit" in drawn(running())


def test_the_controller_s_rate_wins_over_the_one_asked_for() -> None:
    assert "of 50/s" in plain_line(running())


def test_unknown_is_not_zero() -> None:
    view = View(orders=10, limit=1.0, accepted=10)
    assert view.eta_seconds is None
    assert plain_line(view) == "Starting · backlog 10 · drained 0"


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in drawn(running(), width).splitlines())


@given(st.lists(st.floats(0, 1e6), max_size=50), st.floats(0.1, 1e6), st.integers(1, 40))
def test_sparklines_show_the_newest_and_never_more_than_fits(
    values: list[float], top: float, width: int
) -> None:
    line = sparkline(values, top, width)
    assert len(line) == min(width, len(values))
    assert line == sparkline(values[-width:], top, width)


def test_a_rate_at_the_limit_leaves_room_for_an_excess() -> None:
    assert sparkline([0.0, 100.0, 200.0], 100.0, 3) == "▁▆█"


@given(st.floats(-1, 2), st.integers(1, 60))
def test_a_gauge_keeps_its_width(share: float, width: int) -> None:
    assert len(gauge(share, width)) == width


def test_durations() -> None:
    assert [duration(s) for s in (None, 0.4, 119.4, 185.0)] == ["?", "0 s", "119 s", "3 min 05 s"]


def test_without_a_terminal_a_line_is_printed_for_each_phase_and_nothing_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = View(orders=10, limit=1.0, phase="One")
    with Display(view) as display:
        display.show()
        display.show()
        view.phase = "Two"
        display.show()
        display.say("kept")
    assert capsys.readouterr().out.splitlines() == ["One", "Two", "kept"]
