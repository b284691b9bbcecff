"""The real plan in every named scenario; and that each promise is one: somebody who breaks it is found out."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from simulation.autoscalers import Fixed, Wrong

from peakclip_operator.simulation.arrivals import flash, joined, steady
from peakclip_operator.simulation.autoscalers import Seen
from peakclip_operator.simulation.cli import command
from peakclip_operator.simulation.contenders import makers
from peakclip_operator.simulation.measure import reversals, score, slo_misses
from peakclip_operator.simulation.optimum import Stretch, stretches
from peakclip_operator.simulation.peakclip import Peakclip
from peakclip_operator.simulation.promises import violations
from peakclip_operator.simulation.report import Result, markdown, table
from peakclip_operator.simulation.run import run
from peakclip_operator.simulation.scenario import Restart, Scenario
from peakclip_operator.simulation.scenarios import named

BURST = Scenario("burst", flash(120, 3_000, 10), poisson=False, catch_up_seconds=20.0, turns=1)


@pytest.mark.parametrize("name", named())
def test_the_plan_keeps_every_promise(name: str) -> None:
    scenario = named()[name]
    assert violations(run(scenario, Peakclip(scenario))) == []


@pytest.mark.parametrize("name", ["flash-3000", "flash-10000", "flash-12000", "from-zero", "work-halves"])
def test_a_burst_is_drained_within_a_twentieth_of_the_best_that_r_allows(name: str) -> None:
    scenario = named()[name]
    scored = score(run(scenario, Peakclip(scenario)))
    assert scored.drained
    assert scored.drain_seconds <= 1.05 * scored.optimum_seconds
    assert scored.over_r <= scenario.burst


# -- who breaks a promise is found out -----------------------------------------------------------------------


def broken(scenario: Scenario, change: Callable[[int, Seen, float], int]) -> set[str]:
    return {one.promise for one in violations(run(scenario, Wrong(scenario, change)))}


def test_nothing_is_broken_by_the_plan_as_it_is() -> None:
    assert broken(BURST, lambda wanted, seen, now: wanted) == set()


def test_without_a_limiter_the_rate_is_broken() -> None:
    made = run(replace(BURST, min_replicas=12), Fixed(12, limited=False))
    assert "rate" in {one.promise for one in violations(made)}


def test_more_than_the_rate_in_force_is_broken_too() -> None:
    """As if the workers went on at R while 30/s are in force."""
    made = run(replace(BURST, min_replicas=12), Fixed(12))
    told = replace(made, rates=[(0.0, 100.0), (20.0, 30.0)])
    assert [(one.promise, one.at) for one in violations(told)] == [("rate", pytest.approx(20.5, abs=0.7))]


def test_one_worker_too_many_is_broken() -> None:
    assert "bounds" in broken(
        replace(BURST, max_replicas=6), lambda wanted, seen, now: wanted + (wanted == 6)
    )


@pytest.mark.parametrize("short", [1, 2])
def test_workers_that_cannot_do_r_are_broken(short: int) -> None:
    """R takes 4.3 of them: with four, 92/s, and a tenth of the burst would come late."""
    assert "catch-up" in broken(BURST, lambda wanted, seen, now: min(wanted, 5 - short - 1))


def test_coming_too_late_is_broken() -> None:
    assert "catch-up" in broken(BURST, lambda wanted, seen, now: wanted if now > 25 else 1)


def test_up_and_down_is_broken() -> None:
    assert "oscillation" in broken(BURST, lambda wanted, seen, now: wanted + int(now) % 2)


def test_fewer_while_the_lag_is_unknown_is_broken() -> None:
    blind = replace(BURST, lag_unknown=((20.0, 30.0),))
    assert broken(blind, lambda wanted, seen, now: wanted) == set()
    assert "unknown" in broken(blind, lambda wanted, seen, now: wanted if seen.lag else 1)


@pytest.mark.parametrize("first", [1, 12])
@pytest.mark.parametrize("memory_kept", [True, False])
def test_a_step_after_a_restart_is_broken(first: int, memory_kept: bool) -> None:
    calm = joined(steady(10, 20), steady(110, 60))
    scenario = replace(BURST, arrivals=calm, restarts=(Restart(60.0, 3.0, memory_kept),))
    assert broken(scenario, lambda wanted, seen, now: wanted) == set()
    step = "restart" in broken(scenario, lambda wanted, seen, now: first if 63 <= now < 64 else wanted)
    assert step is (first == 12 or not memory_kept)  # what is remembered may allow it to give somebody back


# -- the numbers -------------------------------------------------------------------------------------------


def test_reversals_are_changes_of_direction() -> None:
    assert reversals([]) == 0
    assert reversals([4, 2, 1]) == 0
    assert reversals([4, 2, -3, -1, 1]) == 2


def test_a_backlog_begins_above_a_second_of_r_and_ends_at_half_of_it() -> None:
    waiting = [0, 90, 101, 400, 99, 60, 51, 50, 40, 100, 102]
    assert stretches(waiting, 100.0) == [Stretch(2, 7, over=True), Stretch(10, 11, over=False)]
    assert stretches([10, 9, 10], 2.0) == []


def test_an_order_that_waits_too_long_is_a_miss_also_if_it_never_started() -> None:
    """1,000 orders at 10 s, 23.1/s, patience of 20 s: after 20 s 462 were in time."""
    scenario = replace(BURST, arrivals=flash(120, 1_000, 10), slo_seconds=20.0, work_noise=0.0)
    assert slo_misses(run(scenario, Fixed(1))) == pytest.approx(1_000 - 462, abs=25)
    stuck = replace(scenario, start_seconds=1e9, min_replicas=0)
    assert slo_misses(run(stuck, Fixed(1))) == 1_000


# -- the command -------------------------------------------------------------------------------------------


def simulate(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.output


def test_the_table_has_a_line_for_each_run() -> None:
    code, output = simulate("flash-3000")
    assert code == 0
    assert "\x1b" not in output
    line = next(line for line in output.splitlines() if line.startswith("  peakclip"))
    scored = score(run(named()["flash-3000"], Peakclip(named()["flash-3000"])))
    drain, best, _, worst, above, *_ = line.split()[1:]
    assert (drain, best) == (f"{scored.drain_seconds:.1f}", f"{scored.optimum_seconds:.1f}")
    assert (worst, above) == (str(scored.worst_rate), str(scored.over_r))


def test_json_holds_the_command_that_makes_the_run_again() -> None:
    code, output = simulate("flash-3000", "--seed", "7", "--rate", "50", "--json")
    (made,) = json.loads(output)["runs"]
    assert code == 0
    assert made["command"] == "peakclip simulate flash-3000 --rate 50 --seed 7"
    assert made["worst_rate"] <= 55
    again = json.loads(simulate(*made["command"].split()[2:], "--json")[1])
    assert again["runs"] == [made]


def test_a_figure_has_a_line_for_everybody(tmp_path: Path) -> None:
    code, _ = simulate("from-zero", "waves", "--plot", str(tmp_path))
    assert code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"from-zero.svg", "waves.svg"}
    figure = ElementTree.parse(tmp_path / "waves.svg").getroot()
    lines = [one for one in figure.iter() if one.get("class") == "s0"]
    assert len(lines) == 4  # waiting, rate, workers, and the legend
    words = " ".join("".join(one.itertext()) for one in figure.iter() if one.tag.endswith("text"))
    assert "R = 100/s" in words


def test_a_trace_takes_the_place_of_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("second,count\n5,600\n60,0\n")
    code, output = simulate("--trace", str(file), "--rate", "20", "--json")
    (made,) = json.loads(output)["runs"]
    assert code == 0
    assert (made["scenario"], made["finished"], made["limit_per_second"]) == ("mine", 600, 20.0)
    assert str(file) in made["command"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "No scenario is called 'nowhere'"),
        (("ramp", "--against", "nobody"), "Nobody is called 'nobody'"),
        (("ramp", "--min", "5", "--max", "4"), "may not exceed"),
    ],
)
def test_what_is_not_there_is_named(arguments: tuple[str, ...], words: str) -> None:
    code, output = simulate(*arguments)
    assert code == 2
    assert words in output


def test_the_list_names_every_scenario_and_everybody() -> None:
    _, output = simulate("--list")
    assert [line.split()[0] for line in output.splitlines()[: len(named())]] == list(named())
    assert all(name in output for name in makers() if name != "peakclip")


def test_what_breaks_a_limit_is_red_and_told_with_its_command() -> None:
    scenario = named()["flash-3000"]
    made = run(replace(scenario, min_replicas=12), Fixed(12, limited=False))
    result = Result(scenario, score(made), violations(made), "peakclip simulate flash-3000")
    coloured, plain = table([result], colour=True), table([result])
    assert "\x1b[31m" in coloured
    assert "\x1b" not in plain
    assert "BROKEN rate at" in plain
    assert "(peakclip simulate flash-3000)" in plain
    assert markdown([result]).splitlines()[2].startswith("| flash-3000 | fixed | ")


def test_every_line_of_the_table_ends_in_the_same_column() -> None:
    _, output = simulate("flash-3000", "sine-day")
    head, *rows = [line for line in output.splitlines() if line.startswith(("  autoscaler", "  peakclip"))]
    assert len(rows) == 2
    assert {len(row) for row in rows} == {len(head)}


@pytest.mark.parametrize("name", ["flash-3000", "work-doubles", "slow-starts", "above-r"])
def test_the_length_of_a_step_changes_nothing_that_matters(name: str) -> None:
    scenario = named()[name]
    fine, usual, coarse = (
        score(run(scenario, Peakclip(scenario), step_seconds=seconds)) for seconds in (0.05, 0.1, 0.2)
    )
    assert fine.drain_seconds == pytest.approx(usual.drain_seconds, rel=0.05)
    assert coarse.drain_seconds == pytest.approx(usual.drain_seconds, rel=0.05)
    assert {fine.worst_rate, usual.worst_rate, coarse.worst_rate} <= set(range(98, 106))
