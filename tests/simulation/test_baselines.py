"""The baselines are faithful: the runs of a real KEDA come back from the simulation.

Tolerances, the same for all runs: scale changes 1 s (they were looked at once a second) and exactly the same
numbers; the first commit 2 s; the empty queue 2 s or 4 %; the rate 6 %; the peak 10 %; pod-seconds 3 %; orders above R
25 %.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.measured_keda import CASES, DEFAULTS, TUNED, Case, play, scenario, table

from peakclip_operator.simulation.autoscalers import Autoscaler
from peakclip_operator.simulation.baselines.flink import Flink
from peakclip_operator.simulation.baselines.flink_formulas import FlinkSettings
from peakclip_operator.simulation.baselines.knative import Knative, KnativeSettings
from peakclip_operator.simulation.baselines.named import BASELINES, baseline, hand_set_maximum
from peakclip_operator.simulation.run import Run, run

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_measured_run_comes_back(case: Case, seed: int) -> None:
    real, made = case.measured, play(case, seed)
    assert [change[1:] for change in made.changes] == [change[1:] for change in real.changes]
    assert [change[0] for change in made.changes] == pytest.approx([at for at, _, _ in real.changes], abs=1)
    assert made.first == pytest.approx(real.first, abs=2)
    assert made.empty == pytest.approx(real.empty, abs=2, rel=0.04)
    assert made.rate == pytest.approx(real.rate, rel=0.06)
    assert made.peak == pytest.approx(real.peak, rel=0.10)
    assert made.above == pytest.approx(real.above, rel=0.25)
    assert made.pod_seconds == (
        None if real.pod_seconds is None else pytest.approx(real.pod_seconds, rel=0.03)
    )
    assert made.after == (None if real.after is None else pytest.approx(real.after, rel=0.03))


def test_the_table_is_told() -> None:
    """With pytest -s it is seen: measured | simulated."""
    told = table()
    print(f"\n{told}")
    assert told.count("\n") == len(CASES)


def first_starts(settings: object, polling: float) -> list[float]:
    """Seconds of the first start of an order, over the phases of the poll."""
    case = CASES[0]
    found = []
    for phase in range(int(polling)):
        made = play(replace(case, settings=settings, polling_phase=phase + 0.5))
        found.append(made.first)
    return found


def test_the_first_commit_is_a_lottery_of_the_poll() -> None:
    """As was found: about 1 to 32 s with the default of 30 s, about 1 to 7 s with polls of 5 s."""
    defaults, tuned = first_starts(DEFAULTS, 30), first_starts(TUNED, 5)
    assert min(defaults) < 2.5
    assert 30 < max(defaults) < 32
    assert min(tuned) < 2.5
    assert 5 < max(tuned) < 7


def flash_sale(autoscaler: Autoscaler, orders: int = 12_000) -> Run:
    """On the same node with up to 20 workers, one of them ready."""
    case = replace(CASES[1], orders=orders, until=420)
    return run(scenario(case), autoscaler, step_seconds=0.1)


def changes(made: Run) -> list[tuple[float, int]]:
    return [(now, wanted) for now, _, wanted, _ in made.looks if wanted is not None]


def test_knative_with_its_defaults_is_at_its_maximum_after_two_ticks() -> None:
    made = flash_sale(Knative(KnativeSettings(minimum=1, maximum=20)))
    assert changes(made)[0] == (2.0, 20)  # the HPA needs 60 s for this
    assert max(row.asked for row in made.rows) == 20
    assert made.rows[-1].lag == 0


def test_knative_with_one_request_for_each_worker_does_not_come_down_while_anything_waits() -> None:
    made = flash_sale(Knative(KnativeSettings(container_concurrency=1, minimum=1, maximum=20)))
    empty = next(row.second for row in made.rows if row.second > 5 and row.lag == 0)
    assert all(row.asked == 20 for row in made.rows if 5 < row.second < empty + 50)
    assert made.rows[-1].asked == 1


def test_flink_with_its_defaults_has_decided_nothing_when_a_flash_sale_is_over() -> None:
    assert changes(flash_sale(Flink(FlinkSettings(maximum=20)))) == []


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_has_its_name_and_the_same_run_twice(name: str) -> None:
    case = scenario(replace(CASES[1], until=120))
    one, other = (run(case, baseline(name, case), step_seconds=0.1) for _ in range(2))
    assert one.autoscaler == name
    assert not one.limited
    assert one.looks == other.looks
    assert one.starts == other.starts
    assert {row.asked for row in one.rows} <= set(range(case.max_replicas + 1))


def test_an_engineer_sets_the_maximum_to_what_stays_below_r() -> None:
    assert hand_set_maximum(scenario(CASES[0])) == 4
