from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peakclip.limiter import sliding
from peakclip.limiter.sliding import SlidingSecond, most_in_any_second

# Sixteenths of a second are exact in binary: no test depends on rounding.
moments = st.lists(st.integers(0, 160).map(lambda n: n / 16), max_size=60)


@given(moments)
def test_agrees_with_counting_by_hand(times: list[float]) -> None:
    by_hand = max((sum(start <= t < start + 1.0 for t in times) for start in times), default=0)
    assert most_in_any_second(times) == by_hand


def test_a_second_is_half_open() -> None:
    assert most_in_any_second([0.0, 1.0]) == 1
    assert most_in_any_second([0.0, 0.999]) == 2


def test_counts_weigh() -> None:
    second = SlidingSecond()
    second.add(0.0, 50)
    second.add(0.5, 30)
    second.add(1.2, 40)
    assert second.most == 80


def test_a_clock_that_was_set_back_never_hides_starts() -> None:
    second = SlidingSecond()
    second.add(10.0, 3)
    second.add(9.5, 2)
    assert second.most == 5


def test_memory_is_bounded_and_nothing_is_lost() -> None:
    second = SlidingSecond()
    for number in range(50_000):
        second.add(number / 100_000)
    assert second.most == 50_000
    assert len(second._recent) <= sliding._MOST_ENTRIES + 1_000


def test_a_clock_that_was_set_back_keeps_the_last_moment() -> None:
    """Counted as at 10.0, so that both leave the second together."""
    second = SlidingSecond()
    second.add(10.0, 3)
    second.add(9.5, 2)
    second.add(10.75, 4)
    assert second.most == 9
    second.add(11.0, 6)
    assert second.most == 10


def test_what_is_a_millisecond_apart_stays_apart_beyond_the_bound() -> None:
    second = SlidingSecond()
    for number in range(sliding._MOST_ENTRIES):
        second.add(number / 16_384)
    assert len(second._recent) == sliding._MOST_ENTRIES
    second.add((sliding._MOST_ENTRIES - 1) / 16_384 + 1 / 2_048)
    assert len(second._recent) == sliding._MOST_ENTRIES, "half a millisecond later is the same moment"
    second.add((sliding._MOST_ENTRIES - 1) / 16_384 + 1 / 512)
    assert len(second._recent) == sliding._MOST_ENTRIES + 1
    assert second.most == sliding._MOST_ENTRIES + 2
