"""From answers to figures."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from peakclip.load.outcome import Answer, LoadOptions, LoadResult, percentile, problem_name, summarise

OPTIONS = LoadOptions(url="http://h", sale="s", key="pk_secret", orders=4, connections=2)


def summary(answers: list[Answer | None]) -> LoadResult:
    return summarise(OPTIONS, answers, started_at=100.0, causes=Counter(), retries=0, cpu_seconds=0.001)


def accepted(order_id: str, at: float, latency: float) -> Answer:
    return Answer(202, json.dumps({"order_id": order_id, "status": "queued"}).encode(), at, latency)


def test_counts_and_times() -> None:
    sold_out = b'{"type":"https://peakclip.dev/problems/sold-out","title":"x"}'
    result = summary(
        [accepted("a", 0.1, 0.05), accepted("b", 0.25, 0.2), Answer(409, sold_out, 0.9, 0.3), None]
    )
    assert result.accepted_ids == {"a": 1, "b": 1}
    assert (result.accepted, result.refused, result.errors) == (2, {"sold-out": 1}, 1)
    assert result.accept_seconds == 0.9
    assert (result.accept_p50_ms, result.accept_p99_ms) == (50.0, 200.0)
    assert result.accepted_series == [0, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert result.refused_series == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_nothing_answered_is_unknown_and_not_zero() -> None:
    result = summary([None, None, None, None])
    assert result.accept_seconds is None
    assert result.accept_p99_ms is None
    assert result.errors == 4
    assert result.accepted_series == []


def test_an_accepted_answer_without_an_order_id_is_an_error() -> None:
    result = summary([Answer(202, b"{}", 0.1, 0.1), accepted("a", 0.1, 0.1)])
    assert (result.accepted, result.errors) == (1, 1)
    assert result.error_causes == {"accepted-without-order-id": 1}


def test_two_orders_of_one_name_are_seen() -> None:
    result = summary([accepted("a", 0.1, 0.1), accepted("a", 0.2, 0.1)])
    assert result.accepted == 2
    assert len(result.accepted_ids) == 1


def test_the_key_is_not_in_the_json() -> None:
    assert "pk_secret" not in json.dumps(summary([None]).to_json())


def test_problem_names() -> None:
    assert problem_name(409, b'{"type":"https://x/problems/sold-out"}') == "sold-out"
    assert problem_name(410, b'{"type":"urn:peakclip:sale-closed"}') == "sale-closed"
    assert problem_name(404, b'{"type":"about:blank"}') == "404"
    assert problem_name(400, b'{"type":7}') == "400"
    assert problem_name(502, b"<html>\xff") == "502"


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_percentile_is_the_smallest_value_that_covers_the_share(values: list[float], share: float) -> None:
    values.sort()
    found = percentile(values, share)
    assert found is not None
    assert sum(v <= found for v in values) >= share * len(values) - 1e-9
    assert sum(v < found for v in values) < share * len(values)
