"""Faults and what came after each of them; what clients said."""

from __future__ import annotations

from collections import Counter

from faults.nemesis.plan import Fault, Kind
from faults.soak.tally import Counts, Faults, Step

KILL = Fault(1.0, Kind.KILL, "nats")
FREEZE = Fault(2.0, Kind.FREEZE, "orders", 3.0)


def done(faults: Faults, fault: Fault, at: float, *, missed: bool = False) -> None:
    faults.begins(fault)
    faults.ends(fault, at, missed=missed)


def test_a_recovery_lasts_until_an_order_that_came_afterwards_takes_the_step() -> None:
    faults = Faults()
    done(faults, KILL, 100.0)
    faults.took(Step.THROUGH, 99.0, 101.0)
    faults.took(Step.THROUGH, 100.0, 101.0)
    assert not faults.slowest, "they came before"
    faults.took(Step.THROUGH, 101.5, 103.25)
    assert faults.slowest[Step.THROUGH, Kind.KILL].seconds == 3.25
    faults.took(Step.THROUGH, 104.0, 110.0)
    assert faults.slowest[Step.THROUGH, Kind.KILL].seconds == 3.25, "it is over"


def test_each_step_is_waited_for_by_itself() -> None:
    faults = Faults()
    done(faults, KILL, 100.0)
    faults.took(Step.ACCEPTED, 100.5, 101.0)
    faults.took(Step.COMMITTED, 104.0, 104.0)
    assert {step: slow.seconds for (step, _), slow in faults.slowest.items()} == {
        Step.ACCEPTED: 1.0,
        Step.COMMITTED: 4.0,
    }
    assert faults.told()["kinds"]["kill"]["slowest"] == {
        "accepted": {"seconds": 1.0, "words": "1.0 s after 1.00 kill nats"},
        "committed": {"seconds": 4.0, "words": "4.0 s after 1.00 kill nats"},
        "through": None,
    }


def test_the_slowest_of_a_kind_is_kept_with_its_fault() -> None:
    faults = Faults()
    for fault, at, after in (
        (KILL, 100.0, 1.0),
        (Fault(9.0, Kind.KILL, "api"), 200.0, 4.0),
        (KILL, 300.0, 2.0),
    ):
        done(faults, fault, at)
        faults.took(Step.ACCEPTED, at + 0.5, at + after)
    assert faults.slowest[Step.ACCEPTED, Kind.KILL].words == "4.0 s after 9.00 kill api"
    assert faults.told()["kinds"]["kill"]["done"] == 3


def test_of_faults_that_overlap_each_waits_for_both() -> None:
    faults = Faults()
    faults.begins(FREEZE)
    done(faults, KILL, 100.0)
    faults.ends(FREEZE, 102.0, missed=False)
    faults.took(Step.THROUGH, 102.5, 103.0)
    assert {kind: slow.seconds for (_, kind), slow in faults.slowest.items()} == {
        Kind.KILL: 3.0,
        Kind.FREEZE: 1.0,
    }


def test_a_fault_that_met_nobody_is_counted_as_such() -> None:
    faults = Faults()
    done(faults, KILL, 100.0, missed=True)
    assert faults.number == 0
    never = {"accepted": None, "committed": None, "through": None}
    assert faults.told() == {
        "done": 0,
        "missed": 1,
        "kinds": {"kill": {"done": 0, "missed": 1, "slowest": never}},
        "pairs": {},
    }


def test_what_is_in_force_is_known_while_it_is() -> None:
    faults = Faults()
    faults.begins(FREEZE)
    faults.begins(FREEZE)
    faults.ends(FREEZE, 1.0, missed=False)
    assert faults.in_force == [FREEZE]
    assert faults.told()["pairs"] == {"freeze orders": 1}


def test_what_is_not_known_is_not_zero() -> None:
    counts = Counts(accepted=10, cancelled=2)
    assert counts.backlog is None
    assert counts.reaped is None
    counts.committed, counts.cancellations = 7, 5
    assert (counts.backlog, counts.reaped) == (3, 3)


def test_effects_that_lag_make_nothing_negative() -> None:
    counts = Counts(accepted=10, committed=12, cancelled=4, cancellations=1)
    assert (counts.backlog, counts.reaped) == (0, 0)


def test_retries_are_told_apart_by_whether_there_was_an_answer() -> None:
    counts = Counts()
    counts.retried(6, Counter({"timeout": 1, "connection-lost": 2, "ServerDisconnectedError": 1, "503": 2}))
    assert (counts.retries, counts.unanswered, counts.come_again) == (6, 4, 2)
    counts.ended({"ok": 5, "refused": 1, "unknown": 2, "accepted": 4})
    assert counts.told()["unknown"] == 2
    assert counts.told()["causes"]["connection-lost"] == 2
