"""`python -m benchmarks`: measure, say, keep."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import structlog
import uvloop

from benchmarks import accept, drain, expiry, machine, profile_accept, results, slow_connections, tables
from benchmarks.chaos import measure as chaos
from benchmarks.options import QUICK, Options

Measure = Callable[[Options, Callable[[str], None]], Coroutine[Any, Any, dict[str, Any]]]
KINDS: Final[dict[str, Measure]] = {
    "accept": accept.measure,
    "chaos": chaos.measure,
    "drain": drain.measure,
    "expiry": expiry.measure,
    "profile": profile_accept.measure,
    "slow": slow_connections.measure,
}


@click.command()
@click.argument("kinds", nargs=-1, type=click.Choice(sorted(KINDS)))
@click.option(
    "--quick", is_flag=True, help="Tiny sizes: shows that everything runs, says nothing about speed."
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each design (5).")
@click.option(
    "--chaos-rounds", type=click.IntRange(1), help="Rounds of all chaos scenarios, four minutes each (3)."
)
@click.option("--seconds", type=click.FloatRange(0.1), help="Of each accept design in each round (3).")
@click.option("--processes", type=click.IntRange(1), help="API processes of each design (2).")
@click.option("--connections", type=click.IntRange(1), help="Clients (256).")
@click.option(
    "--results", "folder", type=click.Path(file_okay=False, path_type=Path), help="Where results are kept."
)
def main(kinds: tuple[str, ...], quick: bool, folder: Path | None, **chosen: Any) -> None:
    """Measure KINDS (accept, chaos, drain, expiry, profile, slow; all of them by default) and keep the results."""
    _quiet()
    options = dataclasses.replace(
        QUICK if quick else Options(), **{name: value for name, value in chosen.items() if value is not None}
    )
    if folder is None and not quick:
        folder = results.KEPT
    for kind in kinds or tuple(KINDS):
        click.echo(f"== {kind}")
        result = uvloop.run(_measured(kind, options))
        click.echo(f"\n{tables.summary(kind, result)}\n")
        if folder is not None:
            for path in results.write(kind, result, folder):
                click.echo(f"written: {path}")
        if kind == "profile" and folder == results.KEPT:
            results.fill_profile_page(result)
    if folder is None:
        click.echo(
            "Nothing was kept: --quick says nothing about speed (--results DIR keeps it all the same)."
        )


async def _measured(kind: str, options: Options) -> dict[str, Any]:
    at = datetime.now(UTC).replace(microsecond=0)
    found = await KINDS[kind](options, click.echo)
    return {
        "version": 1,
        "kind": kind,
        "at": at.isoformat(),
        "command": machine.command(),
        "options": dataclasses.asdict(options),
        "seconds_taken": round((datetime.now(UTC) - at).total_seconds()),
        **found,
    }


def _quiet() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
