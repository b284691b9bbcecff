"""Many runs side by side, each a process of its own; told as they end."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from simulation.system.plan import Mode
from simulation.system.run import Outcome, quiet, run

TELL_EVERY: Final = 500  # runs


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


@dataclass(slots=True)
class Sums:
    began: float
    counts: Counter[str] = field(default_factory=Counter)
    virtual_seconds: float = 0.0
    slowest: float = 0.0  # seconds from the last fault to rest

    def add(self, outcome: Outcome) -> None:
        one = {"runs": 1, outcome.plan.mode: 1, "steps": outcome.happened, "orders": outcome.orders}
        self.counts.update({**one, "faults": outcome.faults, "broken": int(bool(outcome.findings))})
        self.counts["empty"] += int(outcome.plan.mode == "safety" and not outcome.orders)
        self.virtual_seconds += outcome.virtual_seconds
        self.slowest = max(self.slowest, outcome.rested_after or 0.0)

    @property
    def words(self) -> str:
        took, n = time.monotonic() - self.began, self.counts
        return (
            f"{n['runs']:,} runs ({n['safety']:,} safety, {n['empty'] / max(1, n['safety']):.0%} of them without an "
            f"order's row; {n['liveness']:,} liveness), {n['orders']:,} orders, "
            f"{n['faults']:,} faults, {n['steps']:,} steps: {n['broken']} broken. "
            f"{took:.1f} s, {n['runs'] / took:.1f} runs/s, {self.virtual_seconds / took:,.0f} times real time; "
            f"at rest within {self.slowest:.0f} s of the last fault"
        )


def tell(outcomes: Iterable[Outcome], began: float) -> int:
    """Prints what was found as it comes, and the sums. The number of runs that broke something."""
    sums = Sums(began)
    for outcome in outcomes:
        sums.add(outcome)
        if outcome.findings:
            print(f"seed {outcome.plan.seed} ({outcome.plan.mode}): {outcome.replay}")
            for finding in outcome.findings[:8]:
                print(f"  {finding[:600]}")
        if sums.counts["runs"] % TELL_EVERY == 0:
            print(f"… {sums.words}")
        sys.stdout.flush()
    print(sums.words)
    return sums.counts["broken"]
