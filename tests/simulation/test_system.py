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
from simulation.system.plan import Fault, Plan, Weather
from simulation.system.planted import BUGS
from simulation.system.run import quiet, run
from simulation.system.sweep import sweep, tell

FIRST = int(os.environ.get("PEAKCLIP_DST_FROM", "0"))
RUNS = int(os.environ.get("PEAKCLIP_DST_RUNS", "2000"))  # some 100 s on two cores; `make dst` for more
# One of all others. The word of the order has to come later than the answer to who asks again.
SCENES = {"sold-out-without-a-look": 12}

# A seed at which each is found as what it does; `make dst ARGS="--plant NAME"` looks from any other one on.
FOUND = {
    "ack-before-commit": 101,
    "admitted-beyond-the-stock": 3,
    "cancelled-without-stock": 1,
    "limit-by-the-line-alone": 53,
    "no-message-ids": 1,
    "no-message-ids-in-the-relay": 32,
    "no-wait-for-the-same": 50,
    "outbox-emptied-first": 68,
    "outbox-left-out": 1,
    "paid-without-a-lock": 92,  # before, as an answer 500: where the sale has no other unit that is reserved
    "sold-out-without-a-look": 8,  # of the limit; of the stock hardly ever, so it is below, too
    "units-not-returned": 2,
    "unknown-is-no": 254,
}
# Those that need a certain fault at a certain step are found at once where it comes, and at random hardly ever.
STEPS = {
    "no-fence": (Fault(0.0, "hole", "api-0", 25.0, ("nats", "api", "stock.", 1)),),
    "acknowledged-before-its-dead-letter": (
        Fault(0.0, "kill", "orders-0", 1.0, ("nats", "orders", "$JS.ACK.SECKILL", 1)),
    ),
    "sold-out-without-a-look": (Fault(0.0, "kill", "api-0", 3.0, ("nats", "api", "intake.", 1)),),
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
    assert BUGS[name].damage in found.damages, (
        f"{name} is found at this seed no more: look for another (--plant {name}); {found.findings}"
    )
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
        if name == "sold-out-without-a-look":
            sale, one = plan.sales[0], plan.buyers[0]
            slow = Weather(spikes=0.5, spike_seconds=0.5)
            only = replace(
                one, sale=0, comes_at=0.0, quantity=1, keys=1, again=0, plan="never", hurry=0.05, twin=False
            )
            sales = (replace(sale, stock=1, limit=1),)
            return replace(calm, apis=2, weather=((0.0, slow),), poison=(), sales=sales, buyers=(only,))
        if name == "one-schedule-for-all-attempts":
            return replace(calm, seconds=8.0, buyers=(), poison=(0.2,))
        return replace(calm, buyers=(), poison=(0.2, 0.1))

    scenes = range(SCENES.get(name, 1))
    with quiet():
        found = [run(seed, "liveness", frozenset([name]), prepare=prepare) for seed in scenes]
        without = [run(seed, "liveness", prepare=prepare) for seed in scenes]
    assert any(BUGS[name].damage in outcome.damages for outcome in found), found[0].findings
    assert not any(outcome.findings for outcome in without)


def test_every_bug_is_looked_for() -> None:
    assert {*FOUND, *STEPS} == set(BUGS)
