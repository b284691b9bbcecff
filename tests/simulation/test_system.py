"""The whole system in simulation: nothing breaks, nothing gets stuck, the same seed is the same run, and it bites."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simulation.system.planted import BUGS
from simulation.system.run import quiet, run
from simulation.system.sweep import sweep, tell

FIRST = int(os.environ.get("PEAKCLIP_DST_FROM", "0"))
RUNS = int(os.environ.get("PEAKCLIP_DST_RUNS", "400"))  # some 20 s on two cores; `make dst` for more
MOST_RUNS = 400  # until a planted bug is found

# Where each is found first: so each is one run here, and `make dst ARGS="--plant NAME"` looks from any other seed on.
FOUND = {}


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_stuck(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = range(FIRST, FIRST + RUNS)
    broken = tell(sweep(seeds, None, frozenset(), multiprocessing.cpu_count()), time.monotonic())
    said = capsys.readouterr().out
    print(said)
    assert broken == 0, said


def test_the_same_seed_is_the_same_run() -> None:
    """Also in another process, whose sets and dictionaries are in another order."""
    seeds = (4, 7, 11)
    with quiet():
        first = [run(seed).trace for seed in seeds]
        again = [run(seed).trace for seed in seeds]
    assert first == again
    program = (
        "from simulation.system.run import quiet, run\n"
        f"with quiet(): print(*[run(seed).trace for seed in {seeds}])"
    )
    folder = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONHASHSEED": "17", "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    )
    assert [int(number) for number in done.stdout.split()] == first


@pytest.mark.parametrize("name", sorted(BUGS))
def test_it_bites(name: str) -> None:
    with quiet():
        found = run(FOUND[name], None, frozenset([name]))
        without = run(FOUND[name])
    assert found.findings, f"{name} is found at this seed no more: look for another (--plant {name})"
    assert not without.findings
