"""The whole system in simulation: nothing breaks, nothing gets stuck, the same seed is the same run, and it bites."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from simulation.system.plan import Fault, Plan
from simulation.system.planted import BUGS
from simulation.system.run import quiet, run
from simulation.system.sweep import sweep, tell

FIRST = int(os.environ.get("PEAKCLIP_DST_FROM", "0"))
RUNS = int(os.environ.get("PEAKCLIP_DST_RUNS", "2000"))  # some 100 s on two cores; `make dst` for more
MOST_SCENES = 1

# The first seed at which each is found; `make dst ARGS="--plant NAME"` looks from any other one on.
FOUND = {
    "ack-before-commit": 101,
    "cancelled-without-stock": 1,
    "limit-by-the-line-alone": 53,
    "no-message-ids": 1,
    "no-wait-for-the-same": 50,
    "outbox-emptied-first": 68,
    "outbox-left-out": 1,
    "paid-without-a-lock": 41,
    "units-not-returned": 2,
    "unknown-is-no": 254,
}
# Those that need a certain fault at a certain step are found at once where it comes, and at random hardly ever.
STEPS = {
    "no-fence": (Fault(0.0, "hole", "api-0", 25.0, ("nats", "api", "stock.", 1)),),
    "acknowledged-before-its-dead-letter": (
        Fault(0.0, "kill", "orders-0", 1.0, ("nats", "orders", "$JS.ACK.SECKILL", 1)),
    ),
    # A flaw that was found at random, by one run of 33,000. The first attempt comes again, since its acknowledgement
    # went down with the server, while the third is waiting: the second came late, and is known to SECKILL only.
    "one-schedule-for-all-attempts": (
        Fault(0.0, "kill", "relay", 7.0),
        Fault(0.0, "nats crash", "orders-0", 0.3, ("nats", "orders", "$JS.ACK.SECKILL", 1)),
        Fault(3.0, "nats crash", "orders-0", 0.3),
    ),
}


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_stuck(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = range(FIRST, FIRST + RUNS)
    broken = tell(sweep(seeds, None, frozenset(), multiprocessing.cpu_count()), time.monotonic())
    said = capsys.readouterr().out
    print(said)
    assert broken == 0, said


def test_the_same_seed_is_the_same_run() -> None:
    """Also in another process, whose sets and dictionaries are in another order, and whose number is shorter."""
    seeds = (4, 7, 11)
    with quiet():
        first = [run(seed).trace for seed in seeds]
        again = [run(seed).trace for seed in seeds]
    assert first == again
    program = (
        "import os\n"
        "from simulation.system.run import quiet, run\n"
        "os.getpid = lambda: 7\n"
        f"with quiet(): print(*[run(seed).trace for seed in {seeds}])"
    )
    folder = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONHASHSEED": "17", "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    )
    assert [int(number) for number in done.stdout.split()] == first


@pytest.mark.parametrize("name", sorted(FOUND))
def test_it_bites(name: str) -> None:
    with quiet():
        found = run(FOUND[name], None, frozenset([name]))
        without = run(FOUND[name])
    assert found.findings, f"{name} is found at this seed no more: look for another (--plant {name})"
    assert not without.findings


@pytest.mark.parametrize("name", sorted(STEPS))
def test_it_bites_where_the_fault_comes_at_its_step(name: str) -> None:
    def prepare(plan: Plan) -> Plan:
        calm = replace(
            plan, weather=(), faults=STEPS[name], apis=1, workers=1, operator=False, changes=(), late=0.0
        )
        if name == "no-fence":
            sale, one = plan.sales[0], plan.buyers[0]
            return replace(
                calm, poison=(), sales=(replace(sale, stock=8),), buyers=(replace(one, sale=0, quantity=1),)
            )
        if name == "one-schedule-for-all-attempts":
            return replace(calm, seconds=8.0, buyers=(), poison=(0.2,))
        return replace(calm, buyers=(), poison=(0.2, 0.1))

    with quiet():
        found = [run(seed, "liveness", frozenset([name]), prepare=prepare) for seed in range(MOST_SCENES)]
        without = [run(seed, "liveness", prepare=prepare) for seed in range(MOST_SCENES)]
    assert any(outcome.findings for outcome in found)
    assert not any(outcome.findings for outcome in without)


def test_every_bug_is_looked_for() -> None:
    assert {*FOUND, *STEPS} == set(BUGS)
