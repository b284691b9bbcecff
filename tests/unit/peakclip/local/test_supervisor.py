"""When a process that ended is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.local.supervisor import (
    FIRST_DELAY_SECONDS,
    HEALTHY_SECONDS,
    LONGEST_DELAY_SECONDS,
    describe_exit,
    restart_delay,
)


def test_crash_after_crash_waits_longer_up_to_a_bound() -> None:
    delay, seen = None, []
    for _ in range(8):
        delay = restart_delay(delay, ran_seconds=1.0)
        seen.append(delay)
    assert seen == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_a_healthy_run_makes_the_next_restart_fast_again() -> None:
    assert restart_delay(LONGEST_DELAY_SECONDS, HEALTHY_SECONDS) == FIRST_DELAY_SECONDS
    assert restart_delay(LONGEST_DELAY_SECONDS, HEALTHY_SECONDS - 0.1) == LONGEST_DELAY_SECONDS


@given(st.none() | st.floats(0.1, 5.0), st.floats(0, 1e6))
def test_the_pause_stays_within_its_bounds(previous: float | None, ran: float) -> None:
    assert FIRST_DELAY_SECONDS <= restart_delay(previous, ran) <= LONGEST_DELAY_SECONDS


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (2, "exit code 2"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")],
)
def test_an_exit_is_told_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
