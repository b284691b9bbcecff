"""`peakclip simulate`: autoscalers in simulated scenarios, and many random ones that hold every promise to account."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from peakclip_operator.simulation import report
from peakclip_operator.simulation.arrivals import recorded
from peakclip_operator.simulation.contenders import makers
from peakclip_operator.simulation.events.telling import many_runs, one_run
from peakclip_operator.simulation.measure import Score, score
from peakclip_operator.simulation.partitions import MILLION, partitioned, told
from peakclip_operator.simulation.peakclip import Peakclip
from peakclip_operator.simulation.plot import draw
from peakclip_operator.simulation.promises import Violation, violations
from peakclip_operator.simulation.report import Result
from peakclip_operator.simulation.run import Run, run
from peakclip_operator.simulation.scenario import Scenario
from peakclip_operator.simulation.scenarios import named
from peakclip_operator.simulation.sweep import STEP_SECONDS, Found, drawn, sweep

_SEED_PREFIX: Final = "seed-"
_SHOWN: Final = 50
_EXIT_BROKEN: Final = 1
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_DIR: Final = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--list", "listing", is_flag=True, help="The scenarios, and against whom.")
@click.option(
    "--against", default="", metavar="NAME,...", help="Other autoscalers beside the plan; all: each one."
)
@click.option("--seed", type=int, help="Another run of the same scenario.  [default: the scenario's own]")
@click.option("--trace", type=_FILE, help="A recorded trace instead of scenarios: a CSV of `second,count`.")
@click.option("--rate", type=click.FloatRange(min=0.5, max=100_000), help="R, orders per second.")
@click.option(
    "--work", type=click.FloatRange(min=0, min_open=True), help="What a worker takes for a batch, seconds."
)
@click.option("--min", "least", type=click.IntRange(min=0), help="Fewest workers.")
@click.option("--max", "most", type=click.IntRange(min=1), help="Most workers.")
@click.option("--plot", type=_DIR, help="Write one SVG for each scenario into this folder.")
@click.option(
    "--sweep", "count", type=click.IntRange(min=1), help="So many random scenarios, every promise checked."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes of a sweep.  [default: one for each core]"
)
@click.option(
    "--events", is_flag=True, help="The limiter, event by event: the run of --seed, or a --sweep of many."
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1000),
    help="A million orders within a second, over so many queues side by side with --rate together.",
)
@click.option("--markdown", is_flag=True, help="The table for a page.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
def command(
    names: tuple[str, ...],
    listing: bool,
    against: str,
    seed: int | None,
    trace: Path | None,
    rate: float | None,
    work: float | None,
    least: int | None,
    most: int | None,
    plot: Path | None,
    count: int | None,
    jobs: int | None,
    events: bool,
    partitions: int | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Try the autoscaler in a simulated world, alone or against others, faster than real time.

    Without a SCENARIO all of them are run. `seed-N` is the one that a sweep drew from the seed N. The plan's own
    workers obey the limiter; those of the others do not. Nothing is connected to, and nothing sleeps.

    Exit 0: every promise was kept; 1: one was broken, each named with the command that makes the run again; 2: usage.
    """
    if listing:
        return _list()
    if partitions is not None:
        return click.echo(told(partitioned(MILLION, partitions, rate or 64_000.0, seed=seed or 1)))
    if events:
        return _events(count, 1 if seed is None else seed, jobs or os.cpu_count() or 1, as_json=as_json)
    if count is not None:
        return _sweep(count, seed or 1, jobs or os.cpu_count() or 1, as_json=as_json)
    changes = _changes(rate, work, least, most)
    chosen = [_changed(scenario, changes) for scenario in _chosen(names, trace)]
    results: list[Result] = []
    for scenario in chosen:
        runs = [_judged(scenario, maker, seed) for maker in _contenders(against)]
        options = _options(trace, changes, seed)
        results += [_result(one, scored, broken, options) for one, scored, broken in runs]
        if plot is not None:
            plot.mkdir(parents=True, exist_ok=True)
            path = plot / f"{scenario.name}.svg"
            path.write_text(draw([(one, scored) for one, scored, _ in runs]), encoding="utf-8")
            click.echo(f"{path}", err=True)
    _show(results, markdown=markdown, as_json=as_json)
    if any(result.broken for result in results):
        sys.exit(_EXIT_BROKEN)


# -- one scenario --------------------------------------------------------------------------------------------


def _chosen(names: Sequence[str], trace: Path | None) -> list[Scenario]:
    if trace is not None:
        if names:
            raise click.UsageError("--trace takes the place of a scenario: name one or the other.")
        try:
            return [
                Scenario(name=trace.stem, words="a recorded trace", arrivals=recorded(trace), poisson=False)
            ]
        except ValueError as exc:
            raise click.UsageError(str(exc)) from exc
    return [_named(name) for name in names or named()]


def _named(name: str) -> Scenario:
    if name in named():
        return named()[name]
    if name.startswith(_SEED_PREFIX) and name.removeprefix(_SEED_PREFIX).isdigit():
        return drawn(int(name.removeprefix(_SEED_PREFIX)))
    raise click.UsageError(f"No scenario is called {name!r}; see --list.")


def _contenders(against: str) -> list[str]:
    known = makers()
    others = [name.strip() for name in against.split(",") if name.strip()]
    if others == ["all"]:
        return list(known)
    if unknown := [name for name in others if name not in known]:
        raise click.UsageError(f"Nobody is called {unknown[0]!r}; there are {', '.join(known)}.")
    return list(dict.fromkeys([Peakclip.name, *others]))


def _changes(
    rate: float | None, work: float | None, least: int | None, most: int | None
) -> dict[str, float | int]:
    """Options that change a scenario, by the name that they have on the command line."""
    given = {"rate": rate, "work": work, "min": least, "max": most}
    return {name: value for name, value in given.items() if value is not None}


def _changed(scenario: Scenario, changes: dict[str, float | int]) -> Scenario:
    fields = {"rate": "limit_per_second", "min": "min_replicas", "max": "max_replicas"}
    values: dict[str, Any] = {fields[name]: value for name, value in changes.items() if name in fields}
    if "work" in changes:
        values["work"] = ((0.0, float(changes["work"])),)
    changed = replace(scenario, **values)
    try:
        changed.spec()
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    return changed


def _judged(scenario: Scenario, name: str, seed: int | None) -> tuple[Run, Score, list[Violation] | None]:
    step_seconds = STEP_SECONDS if scenario.name.startswith(_SEED_PREFIX) else 0.1
    one = run(scenario, makers()[name](scenario), seed, step_seconds=step_seconds)
    return one, score(one), violations(one) if name == Peakclip.name else None


def _result(one: Run, scored: Score, broken: list[Violation] | None, options: list[str]) -> Result:
    words = ["peakclip", "simulate", *([] if "--trace" in options else [one.scenario.name]), *options]
    return Result(one.scenario, scored, broken, shlex.join(words))


def _options(trace: Path | None, changes: dict[str, float | int], seed: int | None) -> list[str]:
    """As they have to be given to make the run again."""
    options = ["--trace", str(trace)] if trace is not None else []
    for name, value in changes.items():
        options += [f"--{name}", f"{value:.10g}"]
    return [*options, "--seed", str(seed)] if seed is not None else options


# -- showing -------------------------------------------------------------------------------------------------


def _show(results: Sequence[Result], *, markdown: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"version": 1, "runs": [report.as_dict(result) for result in results]}))
    elif markdown:
        click.echo(report.markdown(results))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        click.echo(report.table(results, colour=colour), color=colour)


def _list() -> None:
    scenarios = named()
    width = max(map(len, scenarios))
    for name, scenario in scenarios.items():
        click.echo(f"{name:<{width}}  {scenario.words}")
    click.echo(f"{_SEED_PREFIX + 'N':<{width}}  the one that a sweep drew from the seed N")
    click.echo(
        f"\n--against: {', '.join(name for name in makers() if name != Peakclip.name) or 'nobody is here'}"
    )


# -- sweeping ------------------------------------------------------------------------------------------------


def _sweep(count: int, first: int, jobs: int, *, as_json: bool) -> None:
    live = sys.stderr.isatty()

    def progress(found: Found) -> None:
        if live:
            click.echo(f"\r{_progress(found, count)}", nl=False, err=True)
        elif found.runs * 10 // count > (found.runs - 100) * 10 // count:
            click.echo(_progress(found, count), err=True)

    found = sweep(count, first, jobs=jobs, progress=progress)
    if live:
        click.echo(err=True)
    click.echo(
        json.dumps(_as_dict(found, first, jobs)) if as_json else "\n".join(_as_lines(found, first, jobs))
    )
    if found.broken:
        sys.exit(_EXIT_BROKEN)


def _events(count: int | None, seed: int, jobs: int, *, as_json: bool) -> None:
    if count is None:
        words, kept = one_run(seed, as_json=as_json)
    else:
        words, kept = many_runs(
            seed, count, jobs, as_json=as_json, progress=lambda done: click.echo(done, err=True)
        )
    click.echo(words)
    if not kept:
        sys.exit(_EXIT_BROKEN)


def _progress(found: Found, count: int) -> str:
    left = (count - found.runs) * found.seconds / found.runs
    speed = found.runs / max(found.seconds, 1e-9)
    return f"{found.runs:>9,} of {count:,} runs  {speed:6.0f}/s  {left:5.0f} s left  {len(found.broken):,} violations "


def _as_lines(found: Found, first: int, jobs: int) -> list[str]:
    lines = []
    for seed, violation in found.broken[:_SHOWN]:
        lines.append(f"BROKEN  {violation.promise} at {violation.at:.1f} s: {violation.words}")
        lines.append(f"        {replay(seed)}  ({drawn(seed).words})")
    if len(found.broken) > _SHOWN:
        lines.append(f"        and {len(found.broken) - _SHOWN:,} more (all with --json)")
    width = max(map(len, found.judged))
    lines += [f"{name:<{width}}  {runs:>9,} runs" for name, runs in found.judged.most_common()]
    factor = found.simulated_seconds / max(found.seconds, 1e-9)
    lines.append(
        f"{found.runs:,} runs (seeds {first:,} to {first + found.runs - 1:,}), "
        f"{found.simulated_seconds / 3600:,.1f} hours simulated in {found.seconds:,.1f} s by {jobs} processes: "
        f"{found.runs / max(found.seconds, 1e-9):,.0f} runs/s, {factor:,.0f} times faster than real time"
    )
    lines.append(f"{1000 * found.processor_seconds / found.runs:.1f} ms of processor time a run")
    lines.append(f"{len(found.broken):,} violations")
    return lines


def _as_dict(found: Found, first: int, jobs: int) -> dict[str, Any]:
    return {
        "version": 1,
        "runs": found.runs,
        "first_seed": first,
        "jobs": jobs,
        "seconds": round(found.seconds, 3),
        "processor_seconds": round(found.processor_seconds, 3),
        "simulated_seconds": found.simulated_seconds,
        "scenarios": dict(found.judged),
        "violations": [
            {"seed": seed, "command": replay(seed), **violation._asdict()} for seed, violation in found.broken
        ],
    }


def replay(seed: int) -> str:
    return f"peakclip simulate {_SEED_PREFIX}{seed}"
