"""Overrides, stabilization and steps by themselves, to the edge."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from peakclip_operator.plan import (
    Fallback,
    Lag,
    Memory,
    Observation,
    Override,
    PoolSpec,
    StepLimit,
    Totals,
    decide,
)
from peakclip_operator.plan.steps import overruled, stabilize, step

SPEC = PoolSpec(max_replicas=20)
NOBODY_SEEN = Memory(replicas=7)
LOST = Memory(replicas=7, unknown=(("lag", 100.0),))


def seen(replicas: int | None) -> Observation:
    return Observation(Lag(1, 0, 1, 0), None, replicas)


def test_who_cannot_be_counted_is_left_as_asked_for() -> None:
    assert overruled(SPEC, seen(None), NOBODY_SEEN, 0.0) == (7, "WorkersUnknown", "unknown")


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        (Override(), None),
        (Override(hold=True), (4, "Paused", "paused")),
        (Override(replicas=3), (3, "Paused", "paused")),
        (Override(replicas=0, hold=True), (0, "Paused", "paused")),
        (Override(replicas=99), (20, "Paused", "paused")),
        (Override(no_scale_down=True), None),
    ],
)
def test_a_hand_at_the_pool(override: Override, answer: tuple[int, str, str] | None) -> None:
    assert overruled(replace(SPEC, override=override), seen(4), NOBODY_SEEN, 0.0) == answer


@pytest.mark.parametrize(
    ("fallback", "now", "answer"),
    [
        (Fallback(30.0, "Floor", 9), 129.9, None),
        (Fallback(30.0, "Floor", 9), 130.0, 9),
        (Fallback(30.0, "Floor", 5), 130.0, 7),
        (Fallback(30.0, "Fixed", 5), 130.0, 5),
        (Fallback(30.0, "Fixed", 0), 130.0, 0),
        (Fallback(30.0, "Floor", 0), 130.0, 7),
        (Fallback(30.0), 999.0, None),
    ],
)
def test_the_fallback(fallback: Fallback, now: float, answer: int | None) -> None:
    spec = replace(SPEC, fallback=fallback, min_replicas=0)
    wanted = None if answer is None else (answer, "LagUnknown", "fallback")
    assert overruled(spec, seen(4), LOST, now) == wanted
    assert overruled(replace(spec, paused=True), seen(4), LOST, now) is None
    assert overruled(spec, seen(4), NOBODY_SEEN, now) is None


def test_the_fallback_of_a_controller_that_has_not_decided_yet_goes_by_what_is_there() -> None:
    spec = replace(SPEC, fallback=Fallback(30.0, "Floor", 3))
    assert overruled(spec, seen(4), Memory(unknown=(("lag", 0.0),)), 30.0) == (4, "LagUnknown", "fallback")


def test_down_to_the_most_that_was_needed() -> None:
    history = ((90.0, 9), (95.0, 6))
    assert stabilize(4, 9, history, 99.0, 10.0) == (9, ((90.0, 9), (95.0, 6), (99.0, 4)))
    assert stabilize(4, 9, history, 100.0, 10.0) == (
        6,
        ((95.0, 6), (100.0, 4)),
    )  # exactly that old is too old
    assert stabilize(6, 9, history, 99.0, 10.0) == (
        9,
        ((90.0, 9), (99.0, 6)),
    )  # as much as before: the newer stays
    assert stabilize(12, 9, history, 99.0, 10.0) == (12, ((99.0, 12),))
    assert stabilize(4, 5, history, 99.0, 10.0)[0] == 5  # never up by it
    assert stabilize(4, 9, (), 99.0, 10.0) == (4, ((99.0, 4),))


LIMITED = replace(SPEC, scale_up=StepLimit(3, 10.0), scale_down=StepLimit(2, 5.0))


def test_as_far_as_the_steps_allow() -> None:
    assert step(LIMITED, 9, 4, (), 50.0) == (7, "scale-up-limit", ((50.0, 3),))
    assert step(LIMITED, 7, 4, (), 50.0) == (7, None, ((50.0, 3),))
    assert step(LIMITED, 1, 4, (), 50.0) == (2, "scale-down-limit", ((50.0, -2),))
    assert step(LIMITED, 2, 4, (), 50.0) == (2, None, ((50.0, -2),))
    assert step(LIMITED, 4, 4, ((45.0, 1),), 50.0) == (4, None, ((45.0, 1),))
    assert step(SPEC, 19, 1, (), 50.0) == (19, None, ((50.0, 18),))
    assert step(SPEC, 1, 19, ((49.9, 18),), 50.0) == (1, None, ((50.0, -18),))


def test_what_was_moved_in_the_period_counts_in_its_direction() -> None:
    moves = ((40.0, 3), (41.0, 1), (45.0, -1), (46.0, -1))
    assert step(LIMITED, 9, 4, moves, 50.0) == (6, "scale-up-limit", (*moves[1:], (50.0, 2)))
    assert step(LIMITED, 1, 4, moves, 50.0) == (3, "scale-down-limit", (*moves[1:], (50.0, -1)))
    assert step(LIMITED, 1, 4, ((48.0, -2),), 50.0) == (4, "scale-down-limit", ((48.0, -2),))


def test_every_bound_is_told_in_its_order() -> None:
    spec = replace(SPEC, limit_per_second=100, prior_batch_seconds=1 / 22, scale_up=StepLimit(2, 10.0))
    decision, memory = decide(spec, Observation(Lag(9_000, 0, 9_000, 0), None, 1), Memory(), 0.0)
    assert decision.bounds == (("limit", 6), ("scale-up-limit", 3))
    assert (decision.binding_constraint, memory.moves) == ("scale-up-limit", ((0.0, 2),))
    held = replace(spec, override=Override(no_scale_down=True), stabilization_seconds=0.0)
    for second in range(1, 20):
        decision, memory = decide(held, Observation(Lag(0, 0, 9_000, 9_000), None, 3), memory, float(second))
    assert decision.bounds == (("demand", 0), ("minimum", 1), ("scale-down-paused", 3))
    assert decision.binding_constraint == "scale-down-paused"


def beginning(
    spec: PoolSpec, found: int, *, speed: float | None = None, seconds: float = 12.0
) -> list[float]:
    """Seconds after its first look in which a controller without a memory leaves alone whom it finds. `speed`: what
    busy workers tell to do in a second."""
    memory, held = Memory(), []
    for tick in range(int(seconds * 2)):
        done = 0 if speed is None else round(speed * found * tick / 2)
        totals = None if speed is None else Totals(done, 0, found * tick / 2)
        seen = Observation(Lag(0, 0, done, done), totals, found)
        decision, memory = decide(spec, seen, memory, 1_000 + tick / 2)
        if decision.binding_constraint == "beginning":
            assert decision.replicas == found
            held.append(tick / 2)
    return held


BEGUN = PoolSpec(max_replicas=20, stabilization_seconds=0.0)


def test_whom_a_controller_without_a_memory_finds_is_left_alone_for_a_window() -> None:
    assert beginning(BEGUN, 5) == [tick / 2 for tick in range(12)]
    assert beginning(BEGUN, 20) == beginning(BEGUN, 5)
    assert beginning(BEGUN, 21) == beginning(BEGUN, 1) == beginning(replace(BEGUN, paused=True), 5) == []


def test_and_only_until_it_is_known_what_one_of_them_does() -> None:
    assert max(beginning(BEGUN, 5, speed=22.0)) == BEGUN.worker_settle_seconds - 0.5


WORKERS = "The smallest number of workers may not exceed the largest, which is at least 1."
UTILIZATION = "Utilization is between 0 and 1, and (1 + spare) * utilization is at most 1."
TIMES = "The catch-up time, the batch and its prior time are above zero."


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, WORKERS),
        ({"max_replicas": 0, "min_replicas": 0}, WORKERS),
        ({"min_replicas": -1}, WORKERS),
        ({"fallback": Fallback(30.0, "Fixed", 21)}, "The fallback's number of workers is between 1 and 20."),
        ({"fallback": Fallback(30.0, "Fixed", 0)}, "The fallback's number of workers is between 1 and 20."),
        ({"utilization": 0.0}, UTILIZATION),
        ({"utilization": 0.95}, UTILIZATION),
        ({"utilization": 1.01, "spare": 0.0}, UTILIZATION),
        ({"spare": -0.01}, UTILIZATION),
        ({"catch_up_seconds": 0.0}, TIMES),
        ({"prior_batch_seconds": 0.0}, TIMES),
        ({"batch": 0}, TIMES),
        ({"limit_per_second": -1.0}, "A limit is not negative."),
        ({"effective_per_second": -1.0}, "A limit is not negative."),
    ],
)
def test_a_wish_that_contradicts_itself_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        replace(SPEC, **wrong)


def test_a_wish_at_its_edges_is_taken() -> None:
    edge = replace(
        SPEC, utilization=1.0, spare=0.0, limit_per_second=0.0, effective_per_second=0.0, min_replicas=20, batch=1,
        fallback=Fallback(0.0, "Floor", 20),
    )  # fmt: skip
    assert edge.rate_per_second == 0
    with pytest.raises(ValueError, match=r"^A limit of steps is at least one worker in more than no time\.$"):
        StepLimit(1, 0.0)
    with pytest.raises(ValueError, match=r"^A limit of steps is at least one worker in more than no time\.$"):
        StepLimit(0, 10.0)
    hold = r"^The policies Floor and Fixed name a number of workers, and Hold names none\.$"
    with pytest.raises(ValueError, match=hold):
        Fallback(30.0, "Hold", 3)
    with pytest.raises(ValueError, match=hold):
        Fallback(30.0, "Fixed")
