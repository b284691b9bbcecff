"""Some hundred random scenarios with the real plan; `make simulate` makes 100,000."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from peakclip_operator.plan import decide
from peakclip_operator.simulation import peakclip, sweep
from peakclip_operator.simulation.cli import command, replay
from peakclip_operator.simulation.sweep import drawn, runs

FIRST, COUNT = 1, 300


def test_the_plan_keeps_every_promise() -> None:
    found = runs(range(FIRST, FIRST + COUNT))
    assert [(replay(seed), violation) for seed, violation in found.broken] == []
    assert found.runs == COUNT


@pytest.mark.parametrize(
    "seed",
    [
        *(90, 402, 501, 517, 1142),  # a controller that had lost its memory went by the first guess
        *(177, 296, 335, 715, 836, 10554, 11348, 14352, 14516, 18896, 22084, 24459, 24904, 98957),
        *(35793, 65428, 76065, 83573, 99877),  # restarts while the arrivals rise, the database was behind
    ],
)
def test_a_scenario_that_once_broke_a_promise(seed: int) -> None:
    assert runs(range(seed, seed + 1)).broken == []


def test_every_kind_of_arrivals_and_of_trouble_is_drawn() -> None:
    words = {word for seed in range(1, 201) for word in drawn(seed).words.split(", ")}
    assert len(words) == 6 + len(sweep._TROUBLES)


def test_a_seed_is_always_the_same_scenario() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_a_violation_comes_with_the_command_that_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that gives everybody back when it knows nothing, as if unknown were zero."""

    def careless(spec, observation, memory, now):  # type: ignore[no-untyped-def]
        decision, memory = decide(spec, observation, memory, now)
        return (decision if observation.lag else replace(decision, replicas=spec.min_replicas)), memory

    monkeypatch.setattr(peakclip, "decide", careless)
    result = CliRunner().invoke(command, ["--sweep", "40", "--jobs", "1", "--json"])
    assert result.exit_code == 1
    found = [one for one in json.loads(result.stdout)["violations"] if one["promise"] == "unknown"]
    assert found
    again = CliRunner().invoke(command, [*found[0]["command"].split()[2:], "--json"])
    assert again.exit_code == 1
    (made,) = json.loads(again.stdout)["runs"]
    same = {name: found[0][name] for name in ("promise", "at", "words")}
    assert same in made["violations"]
    told = CliRunner().invoke(command, ["--sweep", "40", "--jobs", "1"])
    assert found[0]["command"] in told.stdout


def test_processes_together_find_what_one_alone_finds() -> None:
    alone, together = sweep.sweep(120, 5, jobs=1), sweep.sweep(120, 5, jobs=2)
    assert (alone.runs, alone.judged, alone.broken) == (together.runs, together.judged, together.broken)
