"""Start times, learnt."""

from __future__ import annotations

from peakclip_operator.plan.starting import Starts


def test_who_was_waited_for_longest_comes_first() -> None:
    starts = Starts().observe(1, 1, 9.0).observe(3, 1, 10.0).observe(3, 2, 12.0).observe(3, 3, 14.0)
    assert (starts.took, starts.waiting, starts.seconds) == ((2.0, 4.0), (), 3.0)


def test_nobody_has_come_before_somebody_works() -> None:
    starts = Starts().observe(3, 1, 10.0).observe(3, 1, 11.0).observe(3, 1, 12.0)
    assert (starts.took, starts.waiting) == ((), (10.0, 10.0))


def test_unknown_is_none_and_keeps_what_was_learnt() -> None:
    assert Starts().seconds is None
    starts = Starts(took=(2.0,)).observe(None, 3, 1.0)
    assert (starts.seconds, starts.ready) == (2.0, None)
    assert starts.observe(5, None, 2.0).seconds == 2.0
    assert starts.observe(5, 4, 3.0).observe(5, 5, 4.5).took == (2.0, 1.5)


def test_who_is_not_asked_for_any_more_is_not_waited_for() -> None:
    starts = Starts().observe(5, 1, 0.0).observe(2, 1, 1.0)
    assert starts.waiting == (0.0,)
    assert starts.observe(1, 1, 2.0).waiting == ()


def test_one_that_dies_is_waited_for_from_then_on() -> None:
    starts = Starts().observe(2, 2, 0.0).observe(2, 1, 50.0).observe(2, 2, 53.0)
    assert starts.took == (3.0,)


def test_the_median_of_the_last_five() -> None:
    starts = Starts(took=(1.0, 2.0, 3.0, 4.0, 100.0))
    assert starts.seconds == 3.0
    starts = starts.observe(2, 1, 0.0).observe(2, 2, 9.0)
    assert starts.took == (2.0, 3.0, 4.0, 100.0, 9.0)


def test_a_clock_that_is_set_back_makes_no_negative_time() -> None:
    assert Starts().observe(2, 1, 100.0).observe(2, 2, 10.0).took == (0.0,)
