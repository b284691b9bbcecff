"""What a soak is asked for."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from faults.nemesis.plan import Kind, pairs
from faults.sabotage import SABOTAGES

# A first attempt at an order costs some 8 KB on the disk until the end: rows, indexes, streams and write-ahead log.
BYTES_OF_AN_ORDER: Final = 10_000
SPARE_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class Options:
    minutes: float = 5.0
    seed: int = 1
    rate: float = 600.0  # orders a second that clients ask for, of all kinds
    faults: float = 30.0  # a minute, on average
    chapter_seconds: float = 90.0  # so long the same customers come to the same sales
    report: Path = Path(".soak/report.json")
    plant: str = ""  # a protection that is taken out, for a test of the soak
    among: tuple[str, ...] = ()  # kinds of faults, or a kind and its target (`kill:nats`); empty: all
    patience: float = 600.0  # seconds until the last unit of a scarce sale must have been paid for
    keep: bool = False  # the data folder, even if nothing is broken

    @property
    def seconds(self) -> float:
        return 60.0 * self.minutes

    @property
    def pairs(self) -> list[tuple[Kind, str]]:
        """What is done to whom."""
        return [
            (kind, target)
            for kind, target in pairs()
            if not self.among or kind in self.among or f"{kind}:{target}" in self.among
        ]

    @property
    def drain_rate(self) -> float:
        """R of the pools: far above what comes, so that they catch up after each fault. A batch is R / 100.

        Not higher still: what a lost worker, or a lost acknowledgement, had in hand is begun again one by one, each
        with a start of its own, and a worker that has 256 of those does nothing else for a minute.
        """
        return max(6_400.0, 6.0 * self.rate)

    @property
    def disk_bytes(self) -> int:
        return int(self.seconds * self.rate * BYTES_OF_AN_ORDER) + SPARE_BYTES

    def told(self) -> dict[str, Any]:
        """For the report, and for whoever wants the same again."""
        return {**asdict(self), "report": str(self.report), "drain_rate": self.drain_rate}

    @property
    def again(self) -> str:
        return (
            f"make soak MINUTES={self.minutes:g} SEED={self.seed} RATE={self.rate:g} FAULTS={self.faults:g}"
        )


def parse(argv: Sequence[str] | None = None) -> Options:
    """Exits with 2 and a sentence if something cannot be done."""
    usual = Options()
    parser = argparse.ArgumentParser(
        prog="python -m faults.soak",
        description="The whole system under load and faults, and afterwards the question whether it kept its promises.",
    )
    parser.add_argument(
        "--minutes", type=float, default=usual.minutes, help="of load and faults (%(default)g)"
    )
    parser.add_argument("--seed", type=int, help="of the faults and the customers (any)")
    parser.add_argument("--rate", type=float, default=usual.rate, help="orders a second (%(default)g)")
    parser.add_argument("--faults", type=float, default=usual.faults, help="a minute (%(default)g)")
    parser.add_argument(
        "--chapter-seconds", type=float, default=usual.chapter_seconds, help=argparse.SUPPRESS
    )
    parser.add_argument("--patience", type=float, default=usual.patience, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help="JSON file (.soak/SEED.json)")
    parser.add_argument("--among", nargs="*", default=[], metavar="KIND[:TARGET]", help="these faults only")
    parser.add_argument("--plant", default="", choices=["", *SABOTAGES], help="take out a protection first")
    parser.add_argument("--keep", action="store_true", help="keep data and logs, even if nothing is broken")
    given = parser.parse_args(argv)
    if given.minutes <= 0 or given.rate <= 0 or given.faults <= 0 or given.chapter_seconds <= 0:
        parser.error("minutes, rate and faults are above 0")
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    options = Options(
        minutes=given.minutes, seed=seed, rate=given.rate, faults=given.faults,
        chapter_seconds=given.chapter_seconds, report=given.report or Path(".soak") / f"{seed}.json",
        patience=given.patience, plant=given.plant, among=tuple(given.among), keep=given.keep,
    )  # fmt: skip
    if not options.pairs:
        parser.error(f"there is no such fault as {' or '.join(options.among)}")
    return options
