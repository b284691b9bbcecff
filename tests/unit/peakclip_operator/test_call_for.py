"""The number that a tick calls for, by itself and to the edge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peakclip_operator.plan import Lag, Memory, PoolSpec
from peakclip_operator.plan.need import Need, Present, Rates, call_for, is_behind

SPEC = PoolSpec(limit_per_second=100, catch_up_seconds=100, max_replicas=20)
CALM = Rates(
    arrival=10.0, stable_arrival=10.0, recent_arrival=10.0, seen_seconds=6.0, drain=10.0, per_worker=20.0
)
HERE = Present(
    workers=4, known=True, ceiling=8, useful=8, memory=Memory(), now=100.0, guessing=False, start_seconds=2.0, ready=4,
    stuck=0,
)  # fmt: skip


def lag(ready: int, in_flight: int = 0) -> Lag:
    return Lag(ready, in_flight, 10_000, 10_000 - ready - in_flight)


def need(
    found: Lag | None, spec: PoolSpec = SPEC, rates: dict[str, Any] | None = None, **present: Any
) -> Need:
    return call_for(spec, found, replace(CALM, **(rates or {})), replace(HERE, **present))


# -- which arrivals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "stable", "counts"),
    [
        (15.0, 10.0, 10.0),
        (15.1, 10.0, 15.1),
        (10.0 / 1.5, 10.0, 10.0),
        (6.6, 10.0, 6.6),
        (0.0, 10.0, 0.0),
        (2.3, 0.6, 2.3),  # by chance up to 0.6 + 3 * sqrt(0.1) = 1.549
        (1.5, 0.6, 0.6),
        (1.6, 0.6, 1.6),
        (7.0, None, 7.0),
        (None, 10.0, None),
    ],
)
def test_the_longer_window_counts_where_the_shorter_one_shows_no_more_than_chance(
    short: float | None, stable: float | None, counts: float | None
) -> None:
    assert need(lag(0), rates={"arrival": short, "stable_arrival": stable}).arrival == counts


@pytest.mark.parametrize(
    ("ready", "drain", "guessing", "called"),
    [
        (0, 9.8, True, 1),
        (0, 9.8, False, 8),  # what was measured counts
        (0, 9.7, True, 8),  # more comes than is done
        (1, 9.8, True, 8),  # and something waits
        (0, None, True, 8),
    ],
)
def test_a_guess_adds_nobody_where_all_that_comes_is_done(
    ready: int, drain: float | None, guessing: bool, called: int
) -> None:
    slow = {"drain": drain, "per_worker": 2.0, "arrival": 10.0}
    found = need(lag(ready, 3), rates=slow, workers=1, guessing=guessing)
    assert found.workers == called
    assert (found.binding == "keeping-up") is (called == 1)


def test_the_fewest_for_want_of_a_number_are_no_reason_to_call_a_backlog_a_burst() -> None:
    unseen = {"arrival": None, "recent_arrival": None, "stable_arrival": None, "seen_seconds": 0.0}
    few = replace(SPEC, min_replicas=1)
    assert need(lag(600), few, unseen, workers=1).at_limit is True
    assert need(lag(600), few, unseen, workers=1, known=False).at_limit is False


def test_what_called_for_all_of_a_small_share_has_not_called_for_all_of_a_large_one() -> None:
    rates = {"arrival": 10.0, "drain": 10.0}
    small = replace(SPEC, share_per_second=12.0, effective_per_second=12.0)
    assert need(lag(500), small, rates).at_limit is True
    called = Memory(at_limit=True, share=12.0)
    assert need(lag(500), small, rates, memory=called).at_limit is True
    large = replace(SPEC, share_per_second=98.0, effective_per_second=98.0)
    assert need(lag(500), large, rates, memory=called).at_limit is False
    assert need(lag(50_000), large, rates, memory=called).at_limit is True
    assert need(lag(500), large, rates, memory=replace(called, share=98.0)).at_limit is True
    assert need(lag(500), rates=rates, memory=called).at_limit is True, "its own again: R as ever"


def test_a_share_of_nothing_makes_no_backlog_a_burst() -> None:
    nothing = replace(SPEC, effective_per_second=0.0)
    unseen = {"arrival": None, "recent_arrival": None, "stable_arrival": None, "seen_seconds": 0.0}
    assert need(lag(600), nothing, unseen, workers=1).at_limit is False


def test_without_the_shortest_window_nothing_is_sudden() -> None:
    assert need(lag(5_000), rates={"recent_arrival": None, "arrival": 30.0}).arrival == 30.0


@pytest.mark.parametrize(("ready", "counts"), [(200, 40.0), (201, 90.0)])
def test_a_sudden_burst_counts_by_two_seconds(ready: int, counts: float) -> None:
    assert need(lag(ready), rates={"arrival": 40.0, "recent_arrival": 90.0}).arrival == counts


@pytest.mark.parametrize(
    ("ready", "seen", "counts"),
    [(0, 2.9, None), (0, 3.0, 10.0), (85, 1.9, None), (85, 2.0, 10.0), (100, 0.1, 10.0), (99, 0.1, None)],
)
def test_time_to_see_where_little_waits(ready: int, seen: float, counts: float | None) -> None:
    assert need(lag(ready), rates={"seen_seconds": seen}).arrival == counts


# -- a backlog ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "workers", "backlog"),
    [
        (lag(79, 4), 4, False),
        (lag(80), 4, True),
        (lag(0, 500), 4, False),  # in hand
        (lag(100), 9, True),  # nine could do 180 in a second, R allows 100
        (lag(99), 9, False),
        (lag(99), 0, False),
        (lag(100), 0, True),
    ],
)
def test_a_backlog_is_what_those_who_are_there_cannot_do_in_a_second(
    found: Lag, workers: int, backlog: bool
) -> None:
    assert need(found, workers=workers).backlog is backlog


def test_even_the_slowest_pool_has_a_backlog_of_one() -> None:
    slow = replace(SPEC, limit_per_second=0.5)
    assert need(lag(1), slow, workers=1).backlog
    assert not need(lag(0, 1), slow, workers=1).backlog


def test_what_is_stuck_is_no_backlog() -> None:
    assert need(lag(80, 10), stuck=0).backlog
    assert not need(lag(80, 10), stuck=1).backlog


# -- the demand --------------------------------------------------------------------------------------------------


def test_the_demand() -> None:
    found = need(lag(60), rates={"arrival": 7.0, "stable_arrival": 7.0})
    assert found.demand == pytest.approx((60 + 7 * 2) / 100 + 7 / 0.7)
    assert (found.want, found.binding) == (found.demand, "demand")
    assert found.workers == 1  # 10.74 * 1.2 / 20


def test_a_demand_of_exactly_r_is_r_to_the_end() -> None:
    rates = {"arrival": 0.0, "stable_arrival": 0.0, "recent_arrival": 0.0}
    found = need(lag(10_000), rates=rates)
    assert (found.demand, found.at_limit, found.want, found.binding) == (100.0, True, 100.0, "limit")
    less = need(lag(9_999), rates=rates)
    assert (less.at_limit, less.binding) == (False, "demand")
    later = need(lag(500), rates=rates, memory=Memory(at_limit=True))
    assert (later.at_limit, later.want) == (True, 100.0)
    gone = need(lag(79), rates=rates, memory=Memory(at_limit=True))
    assert gone.at_limit is False


@pytest.mark.parametrize(
    ("ready", "workers", "at_limit", "called"),
    [(100, 1, True, 6), (99, 1, False, 1), (100, 2, False, 2), (100, 0, True, 6), (1, 0, False, 1), (0, 0, False, 0)],
)  # fmt: skip
def test_without_a_history(ready: int, workers: int, at_limit: bool, called: int) -> None:
    """R for a long backlog, unless somebody had a reason for more workers than the fewest."""
    spec = replace(SPEC, min_replicas=min(1, workers))
    found = need(lag(ready), spec, rates={"arrival": None, "recent_arrival": None}, workers=workers)
    assert (found.at_limit, found.workers) == (at_limit, called)
    if not at_limit:
        assert (found.binding, found.bounds) == ("demand", (("demand", called),))
        assert found.backlog is (ready >= 20 * workers > 0 or ready >= 100)


def test_unknown_and_paused_hold() -> None:
    for at_limit in (True, False):
        memory = Memory(at_limit=at_limit)
        unknown = need(None, memory=memory)
        assert (unknown.workers, unknown.binding, unknown.backlog, unknown.at_limit) == (
            4, "unknown", at_limit, at_limit,
        )  # fmt: skip
        paused = need(lag(500), replace(SPEC, paused=True), memory=memory)
        assert (paused.workers, paused.binding, paused.backlog, paused.at_limit) == (
            4, "paused", True, at_limit,
        )  # fmt: skip
        assert need(lag(5), replace(SPEC, paused=True), memory=memory).at_limit is False


# -- the bounds --------------------------------------------------------------------------------------------------


def at_limit(spec: PoolSpec = SPEC, ready: int = 5_000, **present: Any) -> Need:
    return need(lag(ready), spec, memory=Memory(at_limit=True, on_pace_at=100.0), **present)


@pytest.mark.parametrize(
    ("per_worker", "workers", "called", "bounds"),
    [
        (24.0, 4, 5, (("limit", 5),)),
        (23.9, 5, 5, (("limit", 6), ("tolerance", 5))),  # 5.02 are five
        (120 / 5.25, 5, 5, (("limit", 6), ("tolerance", 5))),
        (22.8, 5, 6, (("limit", 6),)),
        (24.0, 6, 6, (("limit", 5), ("catch-up", 6))),
        (24.0, 5, 5, (("limit", 5),)),
        (10.0, 5, 8, (("limit", 12), ("ceiling", 8))),
    ],
)
def test_limit_tolerance_catch_up_and_ceiling(
    per_worker: float, workers: int, called: int, bounds: tuple[tuple[str, int], ...]
) -> None:
    found = at_limit(rates={"per_worker": per_worker}, workers=workers)
    assert (found.workers, found.bounds) == (called, bounds)
    assert found.binding == (bounds[0][0] if bounds[-1][0] == "tolerance" else bounds[-1][0])


@pytest.mark.parametrize(
    ("per_worker", "name"), [(120 / 8.4, "ceiling"), (120 / 8.41, "maximum"), (120 / 8.2, "ceiling")]
)
def test_more_than_the_maximum_is_told_beyond_the_tolerance(per_worker: float, name: str) -> None:
    found = at_limit(replace(SPEC, max_replicas=8), rates={"per_worker": per_worker}, workers=1)
    assert (found.binding, found.workers) == (name, 8)
    assert found.beyond_maximum is (name == "maximum")


def test_short_of_it_for_long_is_one_more() -> None:
    def after(seconds: float, **present: Any) -> Need:
        memory = Memory(at_limit=True, on_pace_at=100.0 - seconds)
        who = {"workers": 5, "ready": None, "memory": memory, **present}
        return need(lag(5_000), rates={"per_worker": 24.0}, **who)

    assert after(12.0).bounds == (("limit", 5),)
    assert after(12.1).bounds == (("limit", 5), ("shortfall", 6))
    assert after(12.1, ready=5).workers == 6
    assert after(12.1, ready=None).workers == 6
    assert after(12.1, ready=4).workers == 5  # who does not come calls for nobody
    assert after(12.1, workers=8).bounds[-2:] == (("shortfall", 9), ("ceiling", 8))
    assert after(12.1, workers=8, guessing=True).bounds[-1] == ("shortfall", 9)
    assert after(12.1, workers=20, guessing=True).workers == 20
    assert need(lag(5_000), workers=5, memory=Memory(at_limit=True)).bounds == (("limit", 6),)


def test_activation_and_the_fewest() -> None:
    rates = {"arrival": 1.0, "stable_arrival": 1.0, "recent_arrival": 1.0}
    eager = replace(SPEC, min_replicas=0, activation_replicas=3)
    assert need(lag(1), eager, rates, workers=0).bounds == (("demand", 1), ("activation", 3))
    assert need(lag(1), eager, rates, workers=1).bounds == (("demand", 1),)
    assert need(lag(0), eager, {**rates, "arrival": 0.0, "stable_arrival": 0.0}, workers=0).workers == 0
    exact = replace(eager, activation_replicas=1)
    assert need(lag(1), exact, rates, workers=0).bounds == (("demand", 1),)
    assert need(lag(1), replace(SPEC, min_replicas=2), rates, workers=2).bounds == (
        ("demand", 1),
        ("minimum", 2),
    )
    nobody = replace(SPEC, limit_per_second=0, min_replicas=0)
    assert need(lag(1), nobody, rates, workers=0).workers == 0


# -- behind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drain", "arrival", "behind"),
    [
        (98.0, 10.0, False),
        (97.9, 10.0, True),
    ],
)
def test_behind_r(drain: float, arrival: float, behind: bool) -> None:
    rates = replace(CALM, drain=drain, arrival=arrival)
    found = Need(5, "limit", backlog=True, at_limit=True)
    assert is_behind(SPEC, lag(5_000), found, rates) is behind
    assert not is_behind(replace(SPEC, paused=True), lag(5_000), found, rates)
    assert not is_behind(SPEC, None, found, rates)
    assert not is_behind(SPEC, lag(5_000), found, replace(rates, drain=None))
    assert not is_behind(SPEC, lag(5_000), replace(found, backlog=False), rates)


@pytest.mark.parametrize(("drain", "behind"), [(29.4, False), (29.3, True)])
def test_behind_what_ends_the_backlog_in_time(drain: float, behind: bool) -> None:
    """20/s come, and 1,000 are to be gone in 100 s: 30/s."""
    found = Need(5, "demand", backlog=True, at_limit=False)
    rates = replace(CALM, drain=drain, arrival=20.0)
    assert is_behind(SPEC, lag(1_000), found, rates) is behind
    assert is_behind(SPEC, lag(3_000), found, replace(rates, arrival=None)) is (drain < 29.4)
