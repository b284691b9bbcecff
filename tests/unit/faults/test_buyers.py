"""What buyers note of an answer, whatever became of the requests before it."""

from __future__ import annotations

import random

import pytest
from faults.buyers import Buyers
from faults.history.record import End, History, Kind, Ok, Refused, Unknown

from peakclip.load.outcome import Answer

YES = Answer(202, b'{"order_id":"o","status":"queued"}', 2.0, 1.0)
NO = Answer(409, b'{"type":"https://peakclip.dev/problems/sold-out"}', 2.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "asked_again", "end"),
    [
        (YES, True, Ok(attempt=1, at=102.0, order_id="o", status="queued")),
        (NO, False, Refused(attempt=1, at=102.0, problem="sold-out", asked=101.5)),
        (
            NO,
            True,
            Unknown(attempt=1, at=102.0, cause="refused when asked again", problem="sold-out", asked=101.5),
        ),
        (None, True, Unknown(attempt=1, at=7.0, cause="no final answer")),
    ],
)
def test_what_was_said_is_kept(answer: Answer | None, asked_again: bool, end: End) -> None:
    history = History("t", lambda: 7.0)
    buyers = Buyers("http://host:1", "pk", random.Random(1), history)
    attempt = history.invoke(Kind.PURCHASE, key="k", customer="c", sale="s")
    buyers._record(attempt, answer, asked_again=asked_again, asked=101.5, began=100.0)
    assert history.entries[-1] == end
