"""When the auditor may compare the admission counters with the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peakclip.audit.rest import Moment, under_way

QUIET = Moment(
    unfinished={"INTAKE/relay": 0, "SECKILL/orders": 0, "STOCK/reconciler": 0},
    outbox_rows=0,
    movement_age_seconds=5.0,
    counters_match=True,
)


def test_counters_that_match_settle_every_reservation() -> None:
    assert under_way(QUIET) == []
    assert under_way(replace(QUIET, unfinished={**QUIET.unfinished, "STOCK/reconciler": 3})) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unfinished": {"SECKILL/orders": 7}}, "SECKILL/orders: 7 not finished"),
        ({"unfinished": {"INTAKE/relay": None}}, "there is no consumer INTAKE/relay"),
        ({"outbox_rows": 2}, "outbox: 2 rows not yet published"),
        ({"counters_match": False}, "a counter differs from the database and moved 5 s ago"),
        (
            {"counters_match": False, "movement_age_seconds": 60.0, "unfinished": {"STOCK/reconciler": 3}},
            "STOCK/reconciler: 3 not finished",
        ),
    ],
)
def test_each_reason_not_to_be_at_rest(change: dict[str, Any], reason: str) -> None:
    assert under_way(replace(QUIET, **change)) == [reason]


@pytest.mark.parametrize("age", [30.0, None])
def test_a_difference_that_lasts_is_not_under_way(age: float | None) -> None:
    assert under_way(replace(QUIET, counters_match=False, movement_age_seconds=age)) == []
