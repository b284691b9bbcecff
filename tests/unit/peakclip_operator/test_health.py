"""R in force on the health of the database."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.messages import DATABASE_BOUNDS
from peakclip_operator.plan import DatabaseTotals, Health, Lag, Memory, Observation, PoolSpec, Totals, decide
from peakclip_operator.plan.health import Level, Reading, judge, percentile, read

SPEC = PoolSpec(limit_per_second=100, prior_batch_seconds=1 / 22)
BOUNDS = (0.01, 0.1, 1.0, 10.0)
BUSY = Lag(5_000, 5, 5_005, 0)


def totals(calls: int = 0, errors: int = 0, wait: float = 0.0, took: tuple[int, ...] = ()) -> DatabaseTotals:
    return DatabaseTotals(calls, errors, wait, took or (calls, 0, 0, 0, 0), BOUNDS)


class Database:
    """Seconds of calls, as the level sees them."""

    def __init__(self, spec: PoolSpec = SPEC) -> None:
        self.spec, self.level, self.now = spec, Level(), 100.0
        self.sum = totals()

    def seconds(
        self, number: int, calls: int = 100, errors: int = 0, wait: float = 0.0, lag: Lag | None = BUSY
    ) -> float:
        """The rate in force after them."""
        for _ in range(number):
            self.level = self.level.observe(self.spec, self.sum, lag, self.now)
            self.now += 1.0
            self.sum = totals(
                self.sum.calls + calls, self.sum.errors + errors, self.sum.wait_seconds + wait * calls
            )
        return self.spec.limit_per_second if self.level.rate is None else self.level.rate


def test_well_is_all_of_r() -> None:
    database = Database()
    assert database.seconds(60) == 100
    assert (database.level.rate, database.level.trouble) == (None, None)


@pytest.mark.parametrize(("trouble", "word"), [({"errors": 7}, "errors"), ({"wait": 0.3}, "wait")])
def test_trouble_is_one_step_down_in_an_interval(trouble: dict[str, float], word: str) -> None:
    database = Database()
    assert database.seconds(6, **trouble) == 70  # type: ignore[arg-type]
    assert database.level.trouble == word
    assert database.seconds(4, **trouble) == 70  # type: ignore[arg-type]
    assert database.seconds(1, **trouble) == pytest.approx(49)  # type: ignore[arg-type]


def test_slow_calls_are_trouble_and_quick_ones_are_not() -> None:
    level, took = Level(), (0, 0, 0, 0, 0)
    for second, slow in enumerate([0] * 6 + [10] * 6):
        level = level.observe(SPEC, DatabaseTotals(second * 100, 0, 0.0, took, BOUNDS), BUSY, 100.0 + second)
        took = (took[0] + 100 - slow, 0, 0, took[3] + slow, 0)
    assert (level.rate, level.trouble) == (70, "slow")
    assert level.reading is not None
    assert level.reading.p95_seconds == pytest.approx(4.375)


def test_it_rises_by_steps_to_r_and_no_further() -> None:
    database = Database()
    database.seconds(5, errors=50)
    rates = [database.seconds(5) for _ in range(9)]
    assert rates == [70, 75, 80, 85, 90, 95, 100, 100, 100]
    assert database.level.rate is None


def test_it_never_falls_below_the_least_share() -> None:
    database = Database()
    assert database.seconds(200, errors=100) == 5


def test_unknown_changes_nothing_and_an_empty_queue_lets_it_rise() -> None:
    database = Database()
    database.seconds(5, errors=50)
    before = database.seconds(1, calls=0)
    assert before == 70
    assert database.seconds(30, calls=0, lag=None) == 70
    assert database.seconds(30, calls=0) == 70  # something waits, and nobody asks the database: who knows
    assert database.seconds(31, calls=0, lag=Lag(0, 0, 9, 9)) == 100


def test_one_error_among_many_calls_or_alone_at_a_slow_rate_is_told_apart() -> None:
    assert judge(Health(), Reading(3, 1, 0.0, None)) is None
    assert judge(Health(), Reading(3, 2, 0.0, None)) == "errors"
    assert judge(Health(), Reading(1, 1, 0.0, None)) == "errors"  # all that was tried
    assert judge(Health(), Reading(100, 5, 0.25, 1.0)) is None  # the bounds themselves
    assert judge(Health(), Reading(100, 6, 0.0, None)) == "errors"


def test_one_slow_call_alone_is_bad_luck() -> None:
    assert judge(Health(), Reading(1, 0, 0.0, 1.2, slow=1, timed=1)) is None
    assert judge(Health(), Reading(10, 0, 0.0, 5.5, slow=1, timed=10)) is None
    assert judge(Health(), Reading(10, 0, 0.0, 5.5, slow=2, timed=10)) == "slow"
    assert judge(Health(), Reading(100, 0, 0.0, 0.9, slow=5, timed=100)) is None  # one in twenty may be slow
    assert judge(Health(), Reading(100, 0, 0.0, 0.9, slow=4, timed=100)) is None
    assert judge(Health(), Reading(1, 0, 9.0, None)) is None
    assert judge(Health(), Reading(2, 0, 9.0, None)) == "wait"
    before = DatabaseTotals(0, 0, 0.0, (0, 0, 0, 0, 0), BOUNDS)
    after = DatabaseTotals(12, 0, 0.0, (1, 2, 4, 3, 2), BOUNDS)
    reading = read(before, after, Health(most_p95_seconds=1.0))
    assert reading is not None
    # Above one second; what is in the bucket that ends there is not.
    assert (reading.slow, reading.timed) == (5, 12)


def slow(most_p95: float, *took: float) -> bool:
    """Whether calls that took so long are too slow, as workers tell of them."""
    counts = [0] * (len(DATABASE_BOUNDS) + 1)
    before = DatabaseTotals(0, 0, 0.0, tuple(counts), DATABASE_BOUNDS)
    for seconds in took:
        counts[bisect_left(DATABASE_BOUNDS, seconds)] += 1
    health = Health(most_p95_seconds=most_p95)
    reading = read(before, DatabaseTotals(len(took), 0, 0.0, tuple(counts), DATABASE_BOUNDS), health)
    assert reading is not None
    return judge(health, reading) == "slow"


def test_a_bound_between_two_classes_of_times_counts_as_the_upper_one() -> None:
    """Below it nobody knows which calls were too slow, and a database that is well must not be held at a twentieth."""
    assert not slow(1.2, *[1.19] * 500)
    assert not slow(
        1.2, *[1.05] * 97, *[1.4] * 3
    )  # three of a hundred are too slow for certain, and that is few
    assert slow(1.2, *[1.26] * 500)
    assert not slow(6.0, *[5.9] * 500)
    assert slow(6.0, *[6.1] * 500)
    assert slow(5.2, *[6.1] * 500)
    assert slow(10.0, *[11.0] * 500)
    assert (slow(0.0, *[0.001] * 500), slow(0.0, *[0.003] * 500)) == (False, True)


@given(st.floats(0.2, 10.0), st.lists(st.floats(0.001, 20.0), min_size=40, max_size=200), st.booleans())
def test_who_keeps_the_bound_is_never_slow_and_who_misses_it_by_a_third_always(
    bound: float, took: list[float], well: bool
) -> None:
    few, many = len(took) // 20, len(took) // 20 + 1
    if well:  # no more than one in twenty is above it
        assert not slow(bound, *(min(one, bound) for one in took[few:]), *[20.0] * few)
    elif bound <= 7.5:
        assert slow(bound, *took[many:], *[bound * 1.34] * many)


def test_who_tells_nothing_for_a_minute_suffers_no_longer() -> None:
    """The workers that told of the database were replaced by others that never do."""
    level, rates = Level(100.0, 70.0, totals(500), 105.0), []
    for second in range(100):
        level = level.observe(SPEC, None, BUSY, 105.0 + second)
        rates.append(level.rate)
    assert rates[59] == 70.0
    assert rates[60] == 75.0
    assert (rates[80], rates[85]) == (95.0, None)


def test_a_share_is_not_what_an_earlier_controller_lowered() -> None:
    spec = replace(SPEC, effective_per_second=20, share_per_second=20)
    assert Level().observe(spec, None, BUSY, 0.0).rate is None
    assert Level().observe(replace(spec, effective_per_second=10), None, BUSY, 0.0).rate == 10


def test_under_a_share_a_step_down_begins_at_what_is_in_force() -> None:
    database = Database(replace(SPEC, share_per_second=10))
    database.seconds(1, calls=10)
    rates = [database.seconds(5, calls=10, errors=5) for _ in range(8)]
    assert rates == pytest.approx([7.0, 4.9, 3.43, 2.401, 1.6807, 1.17649, 0.823543, 0.5764801])
    assert database.seconds(60, calls=1, errors=1) == 0.5  # a twentieth of the share


def test_a_share_that_grows_gives_a_sick_database_no_more() -> None:
    """But a twentieth of it: it may be well by now, and without calls nobody would see it."""
    database = Database(replace(SPEC, share_per_second=10))
    database.seconds(11, calls=10, errors=5)
    database.spec = SPEC
    assert database.seconds(4, calls=10, errors=5) == pytest.approx(4.9)
    assert database.seconds(1, calls=10, errors=5) == 5
    assert database.seconds(60, calls=10, errors=5) == 5
    assert [database.seconds(5, calls=10) for _ in range(4)] == [5, 10, 15, 20]


def test_a_share_that_comes_and_goes_lowers_nothing_while_the_database_is_well() -> None:
    database = Database()
    for share in (100.0, 1.0, 0.0, 0.05, 50.0, None, 10.0):
        database.spec = replace(SPEC, share_per_second=share)
        assert database.seconds(11, calls=1) == 100
    assert database.level.rate is None


@pytest.mark.parametrize("least", [0.0, 0.01, 1.0])
def test_a_share_of_next_to_nothing_is_no_end(least: float) -> None:
    """Of a rate that was lowered to nothing there would be no call, so nobody would see that the database is well."""
    database = Database(replace(SPEC, share_per_second=least))
    assert database.seconds(120, calls=2, errors=2) == max(0.001, 0.05 * least)
    database.spec = SPEC
    assert database.seconds(6, calls=0) == 5


def test_another_r_is_in_force_as_it_stands() -> None:
    database = Database()
    database.seconds(6, errors=50)
    database.spec = replace(SPEC, limit_per_second=300)
    assert database.seconds(1) == 300


def test_a_new_controller_goes_on_from_what_it_finds() -> None:
    found = replace(SPEC, effective_per_second=40)
    assert Level().observe(found, None, BUSY, 0.0).rate == 40
    assert Level().observe(replace(found, paused=True), None, BUSY, 0.0).rate is None
    for other in (100, 120, 0, None):
        assert Level().observe(replace(found, effective_per_second=other), None, BUSY, 0.0).rate is None
    assert Level().observe(replace(found, effective_per_second=0.5), None, BUSY, 0.0).rate == 0.5


def test_another_r_is_not_what_an_earlier_controller_left() -> None:
    level = Level().observe(SPEC, None, BUSY, 0.0)
    other = replace(
        SPEC, limit_per_second=300, effective_per_second=100
    )  # the pace of before, on its way out
    assert level.observe(other, None, BUSY, 1.0).rate is None


def test_paused_or_switched_off_it_stays() -> None:
    paused = Database()
    paused.seconds(6, errors=50)
    paused.spec = replace(SPEC, paused=True)
    assert paused.seconds(30) == 70
    off = Database(replace(SPEC, health=Health(enabled=False)))
    assert off.seconds(60, errors=100) == 100
    assert off.level == Level(100.0)


def test_totals_that_begin_anew_are_no_calls() -> None:
    database = Database()
    database.seconds(7, errors=50)
    level = database.level.observe(SPEC, totals(3, 3), BUSY, database.now)
    assert (level.rate, level.base) == (database.level.rate, totals(3, 3))


def test_a_clock_that_is_set_back_begins_the_interval_anew() -> None:
    database = Database()
    database.seconds(6, errors=50)
    level = database.level.observe(SPEC, database.sum, BUSY, 0.0)
    assert (level.since, level.rate) == (0.0, 70)


def test_reading_is_what_was_between() -> None:
    before = DatabaseTotals(100, 1, 5.0, (90, 10, 0, 0, 0), BOUNDS)
    after = DatabaseTotals(300, 21, 25.0, (190, 110, 0, 0, 0), BOUNDS)
    assert read(before, after, Health()) == Reading(200, 20, 0.1, pytest.approx(0.091), timed=200)
    assert read(after, after, Health()) is None
    one = DatabaseTotals(101, 2, 5.5, (91, 10, 0, 0, 0), BOUNDS)
    assert read(before, one, Health()) == Reading(1, 1, 0.5, pytest.approx(0.0095), timed=1)


def test_one_word_of_the_database_is_no_reading() -> None:
    """The interval begins with the first totals, and one that ends without any says nothing."""
    level = Level()
    for second in range(7):
        level = level.observe(SPEC, None, BUSY, 100.0 + second)
    level = level.observe(SPEC, totals(500, 500), BUSY, 107.0)
    assert (level.since, level.rate) == (107.0, None)
    level = level.observe(SPEC, totals(500, 500), BUSY, 107.0)
    assert level.since == 107.0
    level = level.observe(SPEC, None, BUSY, 112.0)
    assert (level.base, level.reading, level.rate) == (None, None, None)
    other = replace(totals(900, 500), bounds=(1.0,), took=(900, 0))
    level = level.observe(SPEC, totals(600, 500), BUSY, 113.0).observe(SPEC, other, BUSY, 119.0)
    assert (level.base, level.since, level.rate) == (other, 119.0, None)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([90, 10, 0, 0, 0], 0.055),
        ([100, 0, 0, 0, 0], 0.0095),
        ([0, 0, 0, 0, 5], 19.5),
        ([1, 0, 0, 0, 0], 0.0095),
        ([19, 0, 1, 0, 0], 0.01),  # nineteen of twenty are the ninety-five of a hundred
        ([0, 1, 0, 0, 1], 19.0),
        ([0, 0, 0, 0, 0], None),
    ],
)
def test_percentile_is_linear_in_its_bucket(counts: list[int], expected: float | None) -> None:
    assert percentile(counts, BOUNDS, 0.95) == (None if expected is None else pytest.approx(expected))


def test_the_decision_tells_the_rate_and_why() -> None:
    memory, database, decision = Memory(), totals(), None
    for second in range(14):
        seen = Observation(BUSY, Totals(50 * second, 0, 2.0 * second, database), 6)
        decision, memory = decide(SPEC, seen, memory, 100.0 + second)
        database = totals(database.calls + 50, database.errors + 25)
    assert decision is not None
    assert (decision.rate, decision.rate_reason) == (pytest.approx(49), "database")
    assert decision.inputs["database_error_share"] == 0.5
    assert decision.inputs["effective_per_second"] == decision.rate
    share, _ = decide(
        replace(SPEC, share_per_second=30),
        Observation(BUSY, Totals(700, 0, 28.0, database), 6),
        memory,
        114.0,
    )
    assert (share.rate, share.rate_reason) == (30, "share")


calls = st.tuples(st.integers(0, 200), st.floats(0, 1), st.floats(0, 2), st.booleans())


@given(
    st.floats(0.01, 10_000),
    st.one_of(st.none(), st.floats(0, 10_000)),
    st.lists(calls, max_size=60),
)
def test_it_stays_between_the_least_share_and_r(
    limit: float, told: float | None, seconds: list[tuple[int, float, float, bool]]
) -> None:
    database = Database(replace(SPEC, limit_per_second=limit, share_per_second=told))
    most = limit if told is None else min(limit, told)
    for number, share, wait, known in seconds:
        before = database.level
        rate = database.seconds(1, number, round(number * share), wait, BUSY if known else None)
        assert max(0.001, 0.05 * most) <= rate <= limit
        if database.level.trouble is not None and database.level.since != before.since:
            assert rate <= max(0.001, 0.7 * most)  # one step is seen at once
