from __future__ import annotations

import time
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.limiter.clock import ServerClock, local_time
from peakclip.limiter.waits import WaitMeter


def test_before_the_first_sample_nothing_is_known() -> None:
    clock = ServerClock()
    assert clock.at(1.0) is None
    assert clock.error(1.0) == inf


@given(
    offset=st.floats(-1e6, 1e6),
    trips=st.lists(st.tuples(st.floats(1e-5, 0.3), st.floats(1e-5, 0.3)), min_size=1, max_size=20),
)
def test_is_never_further_off_than_it_says(offset: float, trips: list[tuple[float, float]]) -> None:
    clock, local = ServerClock(), 100.0
    for there, back in trips:
        clock.add(local, local + there + offset, local + there + back)
        local += there + back + 0.5
    known = clock.at(local)
    assert known is not None
    assert abs(known - (local + offset)) <= clock.error(local) + 1e-6


def test_a_slow_answer_does_not_replace_a_quick_one() -> None:
    clock = ServerClock()
    clock.add(0.0, 1000.0005, 0.001)
    clock.add(0.5, 1000.69, 0.9)
    assert clock.at(1.0) == pytest.approx(1001.0)
    assert clock.error(1.0) < 0.001


def test_a_quick_answer_gets_old() -> None:
    clock = ServerClock()
    clock.add(0.0, 1000.0005, 0.001)
    assert clock.error(100.0) > clock.error(1.0)
    clock.add(100.0, 1100.001, 100.002)
    assert clock.error(100.002) == pytest.approx(0.001)


def test_the_server_s_clock_was_set_so_the_old_sample_is_wrong_however_good_it_was() -> None:
    clock = ServerClock()
    clock.add(0.0, 1000.0, 0.0001)
    clock.add(0.5, 5000.5, 0.6)
    assert clock.at(1.0) == pytest.approx(5001.0, abs=0.1)


def test_local_time_goes_on_while_the_machine_sleeps() -> None:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    before = time.clock_gettime(clock)
    assert before <= local_time() <= time.clock_gettime(clock)


def test_waits_that_overlap_add_up_and_those_that_go_on_count() -> None:
    meter = WaitMeter()
    meter.begin(10.0)
    meter.begin(11.0)
    assert meter.total(12.0) == pytest.approx(3.0)
    meter.end(12.0)
    meter.end(13.0)
    assert meter.total(99.0) == pytest.approx(4.0)
