"""`make dst`: thousands of seeded runs, and a line to replay each that breaks a promise."""

from __future__ import annotations

import argparse
import multiprocessing
import time

from simulation.system.planted import BUGS
from simulation.system.run import quiet, run
from simulation.system.sweep import sweep, tell


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
