"""What follows an attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip_worker.channels.port import DeliveryError, DeliveryFailedError, DeliveryRefusedError
from peakclip_worker.deliveries import BACKOFF_SECONDS, LONGEST_WAIT_SECONDS, Verdict, after, printable


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_what_has_arrived_is_done_at_any_attempt(attempt: int) -> None:
    assert after(attempt, None) == Verdict("sent")


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_what_was_refused_is_dead_at_any_attempt(attempt: int) -> None:
    assert after(attempt, DeliveryRefusedError("answered 410")) == Verdict("dead", "answered 410")


def test_what_failed_is_tried_after_one_second_after_five_and_no_more() -> None:
    failed = DeliveryFailedError("answered 500")
    assert after(1, failed) == Verdict("pending", "answered 500", 1)
    assert after(2, failed) == Verdict("pending", "answered 500", 5)
    assert after(3, failed) == Verdict("dead", "answered 500")


@pytest.mark.parametrize(
    ("asked", "waits"), [(None, 1), (0.0, 1), (0.5, 1), (17.0, 17), (60.0, 60), (1e9, 60), (float("inf"), 60)]
)
def test_the_far_side_may_ask_for_more_time_within_a_minute(asked: float | None, waits: float) -> None:
    verdict = after(1, DeliveryFailedError("answered 429", retry_after_seconds=asked))
    assert verdict.wait_seconds == waits


outcomes = st.one_of(
    st.none(),
    st.builds(DeliveryRefusedError, st.text()),
    st.builds(DeliveryFailedError, st.text(), retry_after_seconds=st.none() | st.floats(0, allow_nan=False)),
    st.builds(DeliveryError, st.text()),
)


@given(st.integers(1, 5), outcomes, st.lists(st.floats(0, 100), max_size=3))
def test_every_end_is_one_of_three(attempt: int, outcome: DeliveryError | None, backoff: list[float]) -> None:
    verdict = after(attempt, outcome, backoff)
    assert (verdict.state == "sent") == (outcome is None)
    assert (verdict.error is None) == (outcome is None)
    assert (verdict.wait_seconds is not None) == (verdict.state == "pending")
    if verdict.wait_seconds is not None:
        assert attempt <= len(backoff)
        assert min(backoff[attempt - 1], LONGEST_WAIT_SECONDS) <= verdict.wait_seconds <= LONGEST_WAIT_SECONDS


def test_three_attempts_by_default() -> None:
    assert len(BACKOFF_SECONDS) + 1 == 3


@given(st.text(st.characters(codec=None, exclude_categories=[])))
def test_what_a_far_side_says_can_be_stored_and_logged(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert "\0" not in line
    line.encode()
    assert len(line) <= 500
