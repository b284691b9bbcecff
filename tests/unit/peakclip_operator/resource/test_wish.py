from __future__ import annotations

from typing import Any

import pytest

from peakclip_operator import plan
from peakclip_operator.lanes import Member, member_of
from peakclip_operator.resource.duration import Duration, parse, written
from peakclip_operator.resource.model import WorkerPoolSpec, read_spec
from peakclip_operator.resource.wish import burst_of, group_of, read_pauses, to_pool_spec

LEAST: dict[str, Any] = {
    "workload": {"name": "w"},
    "source": {"stream": "SECKILL", "consumer": "orders"},
    "throughput": {"limitPerSecond": 100},
}


def wish(**parts: Any) -> WorkerPoolSpec:
    return read_spec({**LEAST, **parts})


def test_every_field_reaches_the_plan() -> None:
    spec = wish(
        throughput={"limitPerSecond": 0.5, "burst": 7, "catchUp": "1m30s", "utilization": 0.5},
        replicas={"min": 0, "max": 9},
        behavior={
            "scaleUp": {"pods": 2, "period": "10s"},
            "scaleDown": {"stabilization": "5m", "pods": 1, "period": "1m"},
        },
        fallback={"after": "20s", "policy": "Floor", "replicas": 4},
        mode="Advise",
        paused=True,
    )
    made = to_pool_spec(spec, {})
    assert made == plan.PoolSpec(
        limit_per_second=0.5,
        paused=True,
        advise=True,
        min_replicas=0,
        max_replicas=9,
        scale_up=plan.StepLimit(2, 10.0),
        scale_down=plan.StepLimit(1, 60.0),
        fallback=plan.Fallback(20.0, "Floor", 4),
        utilization=0.5,
        catch_up_seconds=90.0,
        stabilization_seconds=300.0,
        start_seconds=3.0,
    )
    assert burst_of(spec) == 7


@pytest.mark.parametrize(("limit", "burst"), [(0.5, 5), (100, 5), (1000, 50)])
def test_the_burst_that_nobody_named_is_the_limiters_default(limit: float, burst: int) -> None:
    assert burst_of(wish(throughput={"limitPerSecond": limit})) == burst


@pytest.mark.parametrize(
    ("annotations", "override"),
    [
        ({}, plan.Override()),
        ({"peakclip.dev/paused": "true"}, plan.Override(hold=True)),
        ({"peakclip.dev/paused": "yes"}, plan.Override(hold=True)),
        ({"peakclip.dev/paused": "False"}, plan.Override()),
        ({"peakclip.dev/paused": ""}, plan.Override()),
        ({"peakclip.dev/paused-replicas": "3"}, plan.Override(replicas=3)),
        ({"peakclip.dev/paused-replicas": "0"}, plan.Override(replicas=0)),
        ({"peakclip.dev/paused-replicas": "99"}, plan.Override(replicas=20)),
        ({"peakclip.dev/paused-replicas": "many"}, plan.Override(hold=True)),
        ({"peakclip.dev/paused-replicas": "-1"}, plan.Override(hold=True)),
        ({"peakclip.dev/paused-scale-down": "true"}, plan.Override(no_scale_down=True)),
    ],
)
def test_the_annotations_stop_the_scaling(annotations: dict[str, str], override: plan.Override) -> None:
    made = to_pool_spec(wish(), annotations)
    assert (made.override, made.paused) == (override, False)


@pytest.mark.parametrize("text", ["many", "-1", "99"])
def test_an_annotation_that_cannot_be_followed_is_complained_of(text: str) -> None:
    complaint = read_pauses({"peakclip.dev/paused-replicas": text}, wish()).complaint
    assert f'"{text}"' in complaint
    assert complaint.endswith(".")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("30s", 30), ("2m", 120), ("1h30m", 5400), ("1.5s", 1.5), ("1h0m1s", 3601), ("24h", 86_400)],
)
def test_durations_are_seconds_inside(text: str, seconds: float) -> None:
    assert parse(text) == seconds
    assert parse(written(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "s", "1", "1d", "1 s", "-1s", "1m1h", "1s1s", "99999999999999999s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="30s"):
        parse(text)


def test_a_duration_is_a_text_or_seconds() -> None:
    duration = Duration("1s", "1h")
    assert duration.check(90) == 90.0
    for wrong in (True, None, 0.5, "2h"):
        with pytest.raises(ValueError, match="must be a duration"):
            duration.check(wrong)


def test_excluded_periods_reach_the_plan_by_day_and_minute() -> None:
    periods = [
        {"from": "22:30", "to": "03:00", "days": ["Sun", "Mon", "Mon"], "timeZone": "Asia/Shanghai"},
        {"from": "00:00", "to": "00:00"},
    ]
    assert to_pool_spec(wish(behavior={"excludedPeriods": periods}), {}).excluded == (
        plan.Period(22 * 60 + 30, 3 * 60, (0, 6), "Asia/Shanghai"),
        plan.Period(0, 0, (0, 1, 2, 3, 4, 5, 6), "UTC"),
    )
    assert to_pool_spec(wish(), {}).excluded == ()


def test_pools_of_a_namespace_share_by_the_name_of_their_group() -> None:
    shared = {
        "group": "database",
        "limitPerSecond": 300,
        "priority": 10,
        "weight": 2,
        "guaranteedPerSecond": 20,
    }
    spec = wish(throughput={"limitPerSecond": 100, "shared": shared})
    assert group_of(spec, "shop") == "shop.database"
    assert member_of(spec, "shop") == Member("orders", "shop.database", 300, 100, 10, 2, 20)
    assert group_of(wish(), "shop") is member_of(wish(), "shop") is None
    # Whose rate nobody sets has no part in it.
    advised = wish(throughput={"limitPerSecond": 100, "shared": shared}, mode="Advise")
    assert group_of(advised, "shop") is member_of(advised, "shop") is None


def test_the_database_the_trials_and_the_first_workers_are_as_wished() -> None:
    spec = read_spec(
        {
            "workload": {"name": "w"},
            "source": {"stream": "S", "consumer": "c"},
            "throughput": {
                "limitPerSecond": 10,
                "databaseHealth": {
                    "enabled": False,
                    "maxErrorPercent": 20,
                    "maxWait": "2s",
                    "maxP95": "0.5s",
                },
            },
            "replicas": {"min": 0, "activation": 3},
            "behavior": {"scaleUp": {"reverseIneffective": False}},
        }
    )
    wanted = to_pool_spec(spec, {})
    assert (wanted.health.enabled, wanted.health.most_error_share) == (False, 0.2)
    assert (wanted.health.most_wait_seconds, wanted.health.most_p95_seconds) == (2.0, 0.5)
    assert (wanted.effect.enabled, wanted.activation_replicas, wanted.scale_up) == (False, 3, None)
    plain = to_pool_spec(read_spec({**spec.model_dump(by_alias=True), "behavior": {}, "replicas": {}}), {})
    assert (plain.effect.enabled, plain.activation_replicas) == (True, 1)
