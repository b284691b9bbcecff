from __future__ import annotations

from itertools import pairwise
from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.errors import SettingsError
from peakclip.limiter.pace import (
    FENCE_SECONDS,
    Change,
    Pace,
    Segment,
    Share,
    Step,
    changed,
    compacted,
    most_from,
    rate_at,
    segment_at,
    segments,
    settled,
)

NOW = 1_700_000_000.0


def started(rate: float = 100.0, **more: Any) -> Pace:
    return changed(None, Change(limit_per_second=rate, **more), NOW)


def test_the_first_rate_is_in_force_at_once_since_nothing_was_before() -> None:
    pace = started(100)
    assert (pace.limit_per_second, pace.burst, pace.paused) == (100, 5, False)
    assert rate_at(pace, NOW) == 100
    assert rate_at(pace, NOW - 1) is None


def test_a_change_is_in_force_at_the_fence_and_not_before() -> None:
    pace = changed(started(100), Change(limit_per_second=400), NOW + 10)
    assert rate_at(pace, NOW + 10 + FENCE_SECONDS - 0.001) == 100
    assert rate_at(pace, NOW + 10 + FENCE_SECONDS) == 400
    assert pace.burst == 20


def test_until_the_fence_the_old_burst_is_in_force_too() -> None:
    pace = changed(started(400), Change(limit_per_second=50), NOW + 10)
    assert [(s.rate, s.burst) for s in segments(pace)] == [(400_000, 20), (50_000, 5)]


def test_two_changes_inside_one_fence_follow_each_other() -> None:
    pace = changed(started(100), Change(limit_per_second=400), NOW + 10)
    pace = changed(pace, Change(limit_per_second=50), NOW + 10.2)
    assert [rate_at(pace, NOW + 10 + t) for t in (1.29, 1.31, 1.49, 1.51)] == [100, 400, 400, 50]


def test_pause_and_resume() -> None:
    paused = changed(started(100), Change(paused=True), NOW + 10)
    assert paused.paused
    assert rate_at(paused, NOW + 12) == 0
    assert paused.limit_per_second == 100
    raised = changed(paused, Change(limit_per_second=300), NOW + 20)
    assert rate_at(raised, NOW + 30) == 0
    resumed = changed(raised, Change(paused=False), NOW + 40)
    assert rate_at(resumed, NOW + 41.2) == 0
    assert rate_at(resumed, NOW + 41.3) == 300


def test_the_controller_lowers_the_rate_but_never_raises_it_above_the_limit() -> None:
    lowered = changed(started(100), Change(effective_per_second=60), NOW + 10)
    assert (lowered.limit_per_second, lowered.effective_per_second) == (100, 60)
    assert lowered.burst == 5
    raised = changed(lowered, Change(effective_per_second=500), NOW + 20)
    assert raised.effective_per_second == 100
    lower_limit = changed(lowered, Change(limit_per_second=30), NOW + 20)
    assert lower_limit.effective_per_second == 30


def test_the_controller_does_not_end_a_pause() -> None:
    paused = changed(started(100), Change(paused=True), NOW + 10)
    assert changed(paused, Change(effective_per_second=60), NOW + 20) is paused


def test_saying_the_same_again_changes_nothing() -> None:
    pace = started(100, burst=10)
    assert changed(pace, Change(limit_per_second=100), NOW + 10) is pace
    assert changed(pace, Change(effective_per_second=100), NOW + 10) is pace
    assert changed(pace, Change(paused=False), NOW + 10) is pace
    assert changed(pace, Change(burst=10), NOW + 10) is pace
    assert changed(pace, Change(burst=8), NOW + 10) is not pace


@pytest.mark.parametrize("rate", [0.0, -3.0, 0.0004, 1e9, nan, inf])
def test_nonsense_is_refused(rate: float) -> None:
    with pytest.raises(SettingsError, match="per second"):
        Change(limit_per_second=rate)
    with pytest.raises(SettingsError, match="per second"):
        Change(effective_per_second=rate)


def test_a_burst_too_small_to_be_kept_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 2"):
        Change(limit_per_second=100, burst=1)
    with pytest.raises(SettingsError, match="at least 2"):
        changed(started(100), Change(burst=1), NOW)


def test_a_pool_without_a_rate_cannot_be_paused() -> None:
    with pytest.raises(SettingsError, match="no rate yet"):
        changed(None, Change(paused=True), NOW)


def test_a_write_that_was_held_up_moves_its_fence_for_every_reader() -> None:
    pace = changed(started(100), Change(limit_per_second=400), NOW + 10)
    assert settled(pace, NOW + 10.05) is pace
    late = settled(pace, NOW + 11)
    assert late.steps[-1].from_time == pytest.approx(NOW + 12.2)
    assert late.steps[:-1] == pace.steps[:-1]


def test_only_the_newest_fence_moves_to_whole_milliseconds() -> None:
    pace = changed(started(100), Change(limit_per_second=400), NOW + 10)
    pace = changed(pace, Change(limit_per_second=50), NOW + 20)
    late = settled(pace, NOW + 21.00049)
    assert [step.from_time for step in late.steps[:-1]] == [step.from_time for step in pace.steps[:-1]]
    assert late.steps[-1].from_time == NOW + 22.2
    last = msgspec.structs.replace(pace.steps[-1], from_time=NOW + 22.2)
    exact = msgspec.structs.replace(pace, steps=(*pace.steps[:-1], last))
    assert settled(exact, NOW + 21.0) is exact


def test_what_was_long_out_of_force_is_forgotten() -> None:
    steps = tuple(Step(NOW + at, 100.0 + at, 5) for at in (0, 10, 20, 30))
    assert compacted(steps, NOW + 24.999) == steps[1:]
    assert compacted(steps, NOW + 25) == steps[2:]
    assert compacted(steps, NOW + 1_000) == steps[3:]
    assert compacted(steps, NOW + 4) is steps


def test_the_most_from_a_fence_on() -> None:
    assert most_from(Pace(100, 5, False, ()), NOW) == 0.0
    pace = changed(started(100), Change(limit_per_second=50), NOW + 10)
    fence = NOW + 10 + FENCE_SECONDS
    assert most_from(pace, NOW) == 100
    assert most_from(pace, fence - 0.001) == 100
    assert most_from(pace, fence) == 50


def test_the_first_step_is_never_moved() -> None:
    pace = started(100)
    assert settled(pace, NOW + 30) is pace


def test_a_clock_that_was_set_back_does_not_stop_the_next_change() -> None:
    pace = changed(started(100), Change(limit_per_second=400), NOW - 3600)
    assert rate_at(pace, NOW - 3600) is None
    assert rate_at(pace, NOW - 3600 + FENCE_SECONDS) == 400


@given(
    # In order and apart, as `changed` writes them.
    gaps=st.lists(st.floats(0.0, 20.0), min_size=1, max_size=12),
    rates=st.lists(st.sampled_from([0.0, 0.5, 50.0, 100.0, 400.0]), min_size=12, max_size=12),
    now=st.floats(0.0, 200.0),
)
def test_compaction_never_changes_the_present_or_the_future(
    gaps: list[float], rates: list[float], now: float
) -> None:
    times = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    steps = tuple(Step(at, rate, 5) for at, rate in zip(times, rates, strict=False))
    whole, less = Pace(1, 5, False, steps), Pace(1, 5, False, compacted(steps, now))
    for ahead in (-4.9, 0.0, 1.3, 5.0, 60.0):
        assert rate_at(less, now + ahead) == rate_at(whole, now + ahead)


@given(
    changes=st.lists(
        st.tuples(st.floats(0.0, 5.0), st.sampled_from([25.0, 100.0, 400.0]), st.booleans()), max_size=10
    )
)
def test_whatever_is_changed_the_segments_partition_time_and_the_past_stands(
    changes: list[tuple[float, float, bool]],
) -> None:
    pace, now = started(100), NOW
    for wait, rate, paused in changes:
        now += wait
        before = pace
        pace = changed(pace, Change(limit_per_second=rate, paused=paused), now)
        for ahead in (0.0, 0.6, 1.298):
            assert rate_at(pace, now + ahead) == rate_at(before, now + ahead)
        assert rate_at(pace, now + 60) == (0 if paused else rate)
    schedule = segments(pace)
    assert schedule[-1].until == inf
    assert all(one.until == two.from_time for one, two in pairwise(schedule))


def test_segment_at_is_half_open() -> None:
    schedule = (Segment(1.0, 2.0, 5, 5), Segment(2.0, inf, 7, 5))
    assert segment_at(schedule, 0.999) is None
    assert segment_at(schedule, 1.0) is schedule[0]
    assert segment_at(schedule, 2.0) is schedule[1]


def test_the_agreed_json_is_read_with_and_without_the_burst_of_a_step() -> None:
    text = b'{"limit_per_second":100.0,"burst":5,"paused":false,"steps":[{"from_time":1.0,"rate_per_second":100.0}]}'
    pace = msgspec.json.decode(text, type=Pace)
    assert segments(pace) == (Segment(1.0, inf, 100_000, 5),)
    assert msgspec.json.decode(msgspec.json.encode(pace), type=Pace) == pace


def test_nobody_raises_a_pool_above_its_share() -> None:
    pace = changed(started(100), Change(share=Share("database", 40)), NOW + 10)
    assert (pace.limit_per_second, pace.effective_per_second) == (100, 40)
    for change in (
        Change(limit_per_second=400),
        Change(effective_per_second=90),
        Change(burst=20),
        Change(limit_per_second=400, effective_per_second=300),
    ):
        assert changed(pace, change, NOW + 20).effective_per_second == 40
    paused = changed(pace, Change(paused=True), NOW + 20)
    assert paused.effective_per_second == 0
    assert changed(paused, Change(share=Share("database", 60)), NOW + 30).effective_per_second == 0
    assert changed(paused, Change(paused=False), NOW + 30).effective_per_second == 40
    assert changed(pace, Change(limit_per_second=30), NOW + 20).effective_per_second == 30


def test_a_pool_follows_its_share_unless_its_controller_had_lowered_it() -> None:
    pace = changed(started(100), Change(share=Share("database", 40)), NOW + 10)
    assert changed(pace, Change(share=Share("database", 70)), NOW + 20).effective_per_second == 70
    assert changed(pace, Change(share=Share("database", 0)), NOW + 20).effective_per_second == 0
    lowered = changed(pace, Change(effective_per_second=25), NOW + 20)
    assert changed(lowered, Change(share=Share("database", 70)), NOW + 30).effective_per_second == 25
    assert changed(lowered, Change(share=Share("database", 20)), NOW + 30).effective_per_second == 20
    assert changed(pace, Change(alone=True), NOW + 20).effective_per_second == 100
    with pytest.raises(SettingsError, match="share"):
        Change(share=Share("database", -1))


def test_a_first_pace_with_a_share_of_nothing_starts_nothing() -> None:
    pace = started(100, share=Share("database", 0))
    assert rate_at(pace, NOW) == 0
    assert most_from(pace, NOW) == 0


def test_the_most_from_a_moment_on() -> None:
    pace = changed(started(100), Change(effective_per_second=60), NOW + 10)
    assert most_from(pace, NOW + 11) == 100
    assert most_from(pace, NOW + 10 + FENCE_SECONDS) == 60


def test_writing_again_adds_a_step_of_the_same_rate() -> None:
    """Else `settled` would put off the last step, and the rate before it would be in force once more."""
    pace = changed(started(100), Change(effective_per_second=60), NOW + 10)
    again = changed(pace, Change(again=True), NOW + 30)
    assert again is not pace
    assert {rate_at(settled(again, NOW + 40), NOW + at) for at in (30, 31, 35, 45)} == {60}
