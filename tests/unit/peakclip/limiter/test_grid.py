from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.limiter import grid

# Milli-orders per second: one in 1000 s up to 100,000/s, and windows of this decade and the next.
rates = st.one_of(st.integers(1, 5_000), st.integers(1, 100_000_000))
windows = st.integers(6_400_000_000, 10_000_000_000)


@given(rate=rates, window=windows)
def test_the_windows_of_a_rate_partition_its_slots(rate: int, window: int) -> None:
    several = [grid.slots(rate, w) for w in range(window, window + 12)]
    for one, following in pairwise(several):
        assert one.stop == following.start


@given(rate=rates, window=windows)
def test_a_slot_lies_in_the_window_that_it_is_due_in(rate: int, window: int) -> None:
    slots = grid.slots(rate, window)
    for slot in (slots.start, slots.stop - 1) if slots else ():
        # In whole numbers, due in milliseconds times the rate: no rounding can hide a mistake.
        due_in_millis_times_rate = slot * 1_000_000
        assert window * 250 * rate <= due_in_millis_times_rate < (window + 1) * 250 * rate
        assert (
            grid.window_start(window) - 1e-6 <= grid.due(slot, rate) <= grid.window_start(window + 1) + 1e-6
        )


@given(rate=rates, window=windows)
def test_next_window_is_the_first_that_holds_a_slot(rate: int, window: int) -> None:
    found = grid.next_window(rate, window)
    assert found >= window
    assert grid.slots(rate, found)
    assert grid.slots(rate, window).start == grid.slots(rate, found).start


@given(rate=rates, seconds=st.integers(1_600_000_000, 2_400_000_000))
def test_any_span_of_a_second_holds_r_slots_give_or_take_one(rate: int, seconds: int) -> None:
    held = grid.first_slot_at(seconds + 1.0, rate) - grid.first_slot_at(float(seconds), rate)
    assert rate // 1000 <= held <= rate // 1000 + 1


def test_half_an_order_per_second_is_exact() -> None:
    rate = grid.rate_milli(0.5)
    of_a_minute = [len(grid.slots(rate, w)) for w in range(6_400_000_000, 6_400_000_240)]
    assert sum(of_a_minute) == 30
    assert set(of_a_minute) == {0, 1}


@given(rate=rates, window=windows, adds=st.lists(st.integers(1, 300), max_size=40))
def test_granted_numbers_never_overlap_and_never_leave_the_window(
    rate: int, window: int, adds: list[int]
) -> None:
    slots = grid.slots(rate, window)
    value = 0
    given_out: list[int] = []
    for asked in adds:
        value += asked
        given_out += grid.granted(slots, value, asked)
    assert given_out == list(slots)[: sum(adds)]


def test_granted_takes_the_last_of_what_was_added_when_the_rest_is_burnt() -> None:
    assert grid.granted(range(100, 125), 3, 2) == range(101, 103)
    assert grid.granted(range(100, 125), 26, 4) == range(122, 125)
    assert not grid.granted(range(100, 125), 30, 2)


@given(rate=rates, window=windows, late=st.floats(-1.0, 1.0))
def test_still_due_drops_exactly_what_is_past(rate: int, window: int, late: float) -> None:
    slots = grid.slots(rate, window)
    slots = slots[:300]
    earliest = grid.window_start(window) + late
    kept = grid.still_due(slots, rate, earliest)
    assert all(grid.due(slot, rate) >= earliest - 2e-6 for slot in kept)
    assert all(grid.due(slot, rate) < earliest + 2e-6 for slot in slots if slot not in kept)


def test_burning_moves_the_counter_to_the_slot_that_is_due_next() -> None:
    rate, now = grid.rate_milli(100), 1_700_000_000.105
    reached = grid.first_slot_at(1_700_000_000.0, rate)
    assert grid.burn(reached, rate, now) == 11
    assert grid.due(reached + 11, rate) == pytest.approx(1_700_000_000.11)
    assert grid.burn(reached + 50, rate, now) == 0


@given(per_second=st.floats(0.001, 100_000), burst=st.integers(1, 6_000), error=st.floats(0, 0.02))
def test_the_tolerance_leaves_room_for_the_chunk_and_the_clock(
    per_second: float, burst: int, error: float
) -> None:
    rate = grid.rate_milli(per_second)
    late = grid.tolerance(rate, burst, error)
    assert late <= grid.LATE_TOLERANCE_SECONDS
    starts = rate / 1000 * (1 + late + 2 * error) + grid.chunk(rate, burst)
    assert starts <= rate / 1000 + burst + 1e-6


@pytest.mark.parametrize(
    ("per_second", "burst", "chunk", "millis"),
    [
        (0.5, 5, 1, 50),
        (100, 5, 1, 39),
        (1_000, 50, 10, 39),
        (5_000, 250, 50, 39),
        (100, 2, 1, 9),
        (50_000, 2_500, 256, 43.88),
    ],
)
def test_worked_numbers(per_second: float, burst: int, chunk: int, millis: float) -> None:
    rate = grid.rate_milli(per_second)
    assert grid.chunk(rate, burst) == chunk
    assert grid.tolerance(rate, burst) * 1000 == pytest.approx(millis)


@given(per_second=st.floats(0.001, 100_000))
def test_the_default_burst_is_always_enough(per_second: float) -> None:
    assert grid.least_burst(per_second) <= grid.default_burst(per_second)
    assert grid.tolerance(grid.rate_milli(per_second), grid.default_burst(per_second)) >= 0.03
