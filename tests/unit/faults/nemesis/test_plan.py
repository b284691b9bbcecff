"""The plan of faults: the same for a seed, nothing left out, every number within its bounds."""

from __future__ import annotations

from collections import Counter

from faults.nemesis.plan import CLOCKS, LINKS, PROCESSES, SERVERS, Fault, Kind, pairs, plan
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 2**32), st.floats(1.0, 600.0), st.floats(0.05, 5.0))
def test_any_plan_is_in_order_and_within_its_time(seed: int, seconds: float, pause: float) -> None:
    faults = plan(seed, seconds, pause)
    assert faults == plan(seed, seconds, pause)
    assert [one.at for one in faults] == sorted(one.at for one in faults)
    assert all(0 <= one.at <= seconds for one in faults)
    for one in faults:
        assert 0 <= one.seconds <= 8
        assert 0 <= one.pick < 1.0005, "rounded"
        assert bool(one.delay) <= (one.kind in (Kind.SLOW, Kind.CLOCK))
        assert bool(one.after_bytes) <= (one.kind is Kind.CUT)
        assert bool(one.seconds) == (one.kind not in (Kind.KILL, Kind.RESTART, Kind.BACKENDS))


def test_nothing_comes_twice_before_all_have_come_once() -> None:
    count = len(pairs())
    faults = plan(7, 1_000, 1.0)
    assert len(faults) > 3 * count
    for first in range(0, 3 * count, count):
        assert Counter((one.kind, one.target) for one in faults[first : first + count]) == Counter(pairs())


def test_another_seed_is_another_plan() -> None:
    assert len({plan(seed, 60, 1.0) for seed in range(50)}) == 50


def test_the_number_of_faults_follows_the_pause() -> None:
    mean = sum(len(plan(seed, 100, 0.5)) for seed in range(50)) / 50
    assert 180 < mean < 220


def test_every_kind_and_everybody_is_among_the_pairs() -> None:
    assert {kind for kind, _ in pairs()} == set(Kind)
    assert {target for _, target in pairs()} == {*PROCESSES, *SERVERS, *LINKS, *CLOCKS}


def test_only_what_is_asked_for() -> None:
    faults = plan(1, 30, 0.5, among=[(Kind.KILL, "orders")])
    assert {(one.kind, one.target) for one in faults} == {(Kind.KILL, "orders")}


def test_a_fault_in_words() -> None:
    assert str(Fault(1.5, Kind.KILL, "api")) == "  1.50 kill api"
    cut = Fault(12.0, Kind.CUT, "api-nats", 0.5, after_bytes=100)
    assert str(cut) == " 12.00 cut api-nats for 0.5 bytes 100"
    assert str(Fault(3.0, Kind.CLOCK, "relay", 2.0, delay=-60.0)).endswith("clock relay for 2 delay -60")
