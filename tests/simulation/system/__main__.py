"""`make dst`: thousands of seeded runs, and a line to replay each that breaks a promise."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

from simulation.system.plan import Mode
from simulation.system.planted import BUGS
from simulation.system.run import Outcome, quiet, run


def sweep(seeds: range, mode: Mode | None, bugs: frozenset[str], processes: int) -> Iterator[Outcome]:
    one = partial(run, mode=mode, bugs=bugs)
    if processes == 1:
        with quiet():
            yield from map(one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _begin) as pool:
        yield from pool.imap_unordered(one, seeds, chunksize=20)


_quiet = quiet()


def _begin() -> None:
    _quiet.__enter__()


def tell(outcomes: Iterable[Outcome], began: float) -> int:
    """Prints what was found as it comes, and the sums. The number of runs that broke something."""
    sums: Counter[str] = Counter()
    seconds, slowest = 0.0, 0.0
    for outcome in outcomes:
        sums["runs"] += 1
        sums[outcome.plan.mode] += 1
        sums["steps"] += outcome.happened
        sums["orders"] += outcome.orders
        sums["faults"] += outcome.faults
        seconds += outcome.virtual_seconds
        slowest = max(slowest, outcome.rested_after or 0.0)
        if outcome.findings:
            sums["broken"] += 1
            print(f"seed {outcome.plan.seed} ({outcome.plan.mode}): {outcome.replay}")
            for finding in outcome.findings[:8]:
                print(f"  {finding[:600]}")
            sys.stdout.flush()
    took = time.monotonic() - began
    print(
        f"{sums['runs']:,} runs ({sums['safety']:,} safety, {sums['liveness']:,} liveness), {sums['orders']:,} orders, "
        f"{sums['faults']:,} faults, {sums['steps']:,} steps: {sums['broken']} broken. "
        f"{took:.1f} s, {sums['runs'] / took:.1f} runs/s, {seconds / took:,.0f} times real time; "
        f"at rest within {slowest:.0f} s of the last fault"
    )
    return sums["broken"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m simulation.system", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--mode", choices=("safety", "liveness"))
    parser.add_argument("--plant", action="append", choices=sorted(BUGS), default=[])
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--trace", action="store_true", help="print all that happened, of one run")
    given = parser.parse_args()
    bugs = frozenset(given.plant)
    began = time.monotonic()
    if given.trace:
        with quiet():
            outcome = run(given.first, given.mode, bugs, keep_trace=True)
        print("\n".join(outcome.lines))
        print(outcome.plan)
        raise SystemExit(1 if tell([outcome], began) else 0)
    seeds = range(given.first, given.first + given.runs)
    raise SystemExit(1 if tell(sweep(seeds, given.mode, bugs, given.processes), began) else 0)


if __name__ == "__main__":
    main()
