from __future__ import annotations

import pytest

from peakclip.storing import StoringPace


def test_nothing_is_known_before_the_first_group() -> None:
    pace = StoringPace()
    assert pace.seconds(5.0) == 0.0
    assert pace.orders_within(3.0, 512, 5.0) == float("inf")


def test_the_worked_numbers() -> None:
    pace = StoringPace()
    pace.begin(10.0)
    pace.end(10.0, 10.5)
    assert pace.orders_within(3.0, 512, 11.0) == 3_072


def test_a_group_that_is_under_way_for_long_counts_before_it_ends() -> None:
    pace = StoringPace()
    pace.begin(0.0)
    pace.end(0.0, 0.01)
    pace.begin(1.0)
    pace.begin(3.0)
    assert pace.seconds(4.0) == pytest.approx(3.0)
    pace.end(1.0, 4.0)
    assert pace.seconds(4.0) == pytest.approx(1.0), "the other began a second ago; the mean is 0.907"


def test_after_ten_groups_the_past_is_forgotten() -> None:
    pace = StoringPace()
    pace.begin(0.0)
    pace.end(0.0, 9.0)
    for number in range(10):
        pace.begin(10.0 + number)
        pace.end(10.0 + number, 10.01 + number)
    assert pace.seconds(30.0) < 0.3
