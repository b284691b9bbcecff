"""Results in words and tables, for people. Pure: kept results in, Markdown and figures out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.chart import Bar, draw
from benchmarks.designs import ACCEPT, BY_NAME, DRAIN, Design

Result = Mapping[str, Any]

_OURS = ("peakclip", "batch-", "worker")
_NAMES = {
    "best-tx": "the best transaction per order (1, 4 or 16 connections)",
    "best-batch": "Peakclip's best batch",
    "tx-1": "a transaction per order, 1 connection",
    "batch-1": "Peakclip's statement with 1 order",
    "worker": "a whole worker, unlimited",
}


def accept_table(result: Result) -> str:
    """Rates, latencies and what an order costs each process."""
    lines = [
        "| | design | durable | requests/s (lowest to highest) | p50 ms | p99 ms "
        "| CPU us an order: API, NATS, PostgreSQL |",
        "|---|---|---|---|---|---|---|",
    ]
    for design in ACCEPT:
        found = result["designs"][design.name]
        cpu = found["cpu_us_per_order"]
        used = ", ".join(f"{cpu[role]:,.0f}" for role in ("api", "nats", "postgres"))
        lines.append(
            f"| {design.letter} | {design.words} | {'yes' if design.durable else 'no'} | {_rate(found['per_second'])} "
            f"| {found['p50_ms']['median']:.1f} | {found['p99_ms']['median']:.1f} | {used} |"
        )
    return "\n".join([*lines, "", *_ratio_lines(result), "", *_half_load_lines(result)])


def _half_load_lines(result: Result) -> list[str]:
    lines = [
        "At half of its own capacity, open loop:",
        "",
        "| design | rate/s | p50 ms | p99 ms |",
        "|---|---|---|---|",
    ]
    for name, found in result["half_load"].items():
        p99 = found["p99_ms"]
        lines.append(
            f"| {BY_NAME[name].letter} {BY_NAME[name].words} | {found['rate_per_second']:,.0f} "
            f"| {found['p50_ms']['median']:.1f} | {p99['median']:.1f} ({p99['low']:.1f} to {p99['high']:.1f}) |"
        )
    return lines


def drain_table(result: Result) -> str:
    lines = ["| design | orders/s (lowest to highest) |", "|---|---|"]
    lines += [
        f"| {design.words} | {_rate(result['designs'][design.name]['per_second'])} |" for design in DRAIN
    ]
    return "\n".join([*lines, "", *_ratio_lines(result)])


def profile_table(result: Result) -> str:
    """Stages from the most expensive to the cheapest, then what the others spend on the same order."""
    profile = result["profile"]
    total = profile["api_cpu_us"]
    lines = ["| where an API process spends an accept | us | share |", "|---|---|---|"]
    for name, value in sorted(profile["stages_us"].items(), key=lambda item: -item[1]):
        lines.append(f"| {name} | {value:.1f} | {value / total:.0%} |")
    lines += [f"| **Sum: CPU time of the API process for an order** | **{total:.1f}** | 100% |", ""]
    waits, others = profile["waits_ms"], profile["others_us"]
    lines += [
        f"Of this, {profile['system_us']:.1f} us are spent in the kernel and {profile['garbage_collection_us']:.1f} us "
        f"in garbage collections. On the same order nats-server spends {others['nats']:.1f} us, the load client "
        f"{others['client']:.1f} us, and every further API process {result['foreign_order_us']:.1f} us on following "
        "the log.",
        "",
        f"One process on one core accepted {profile['per_second']:,.0f} orders/s. A frame held "
        f"{profile['orders_per_frame']:.0f} orders and waited {waits['reserve']:.1f} ms for its units and "
        f"{waits['publish']:.1f} ms for its fsync (medians, under the stop watches); an answer took "
        f"{profile['p50_ms']:.0f} ms with {result['options']['connections']} clients, who all wait for the same core.",
        "",
        f"The process was preempted {profile['preempted_per_1000']:.1f} times in 1,000 orders; the stop watches took "
        f"{profile['watch_us']:.1f} us an order, which are taken off.",
    ]
    return "\n".join(lines)


def expiry_table(result: Result) -> str:
    """The reaper's rate, and what accepting notices of it."""
    rate, options = result["rate"], result["options"]
    lines = [
        f"{options['due_orders']:,} unpaid orders were due in the same second, R of the reaper was "
        f"{options['reaper_rate']:,.0f}/s. {rate['orders']:,} of them, cancelled without a break: "
        f"**{rate['mean']:,.1f}/s** ({rate['error_percent']:+.2f} %), at most {rate['most_in_a_second']:,} commits in "
        "any second.",
        "",
        f"Meanwhile {options['expiry_load_rate']:,.0f} orders/s were accepted, the reaper at work and paused in turn:",
        "",
        "| round | reaper | p50 ms | p99 ms | cancelled |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['round']} | {one['state']} | {one['p50_ms']:.1f} | {one['p99_ms']:.1f} | {one['cancelled']:,} |"
        for one in result["rounds"]
    ]
    return "\n".join([*lines, "", *_ratios(result, "reaping / paused")])


def slow_table(result: Result) -> str:
    """What others notice of connections that hurry nowhere."""
    options = result["options"]
    lines = [
        f"{options['slow_rate']:,.0f} orders/s were accepted over {options['slow_clients']} connections, in turn with "
        f"and without {options['slow_connections']:,} others. A quarter each: heads byte by byte, bodies byte by byte, "
        "readers who never read many large answers, streams of events that stand still. Who was ended came back at "
        "once.",
        "",
        "| round | slow connections | p50 ms | p99 ms | CPU us an order: API | held | ended |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['round']} | {one['state']} | {one['p50_ms']:.1f} | {one['p99_ms']:.1f} "
        f"| {one['cpu_us_per_order']['api']:.0f} | {one['held']:,} | {one['ended']:,} |"
        for one in result["rounds"]
    ]
    return "\n".join([*lines, "", *_ratios(result, "with / without", cpu="CPU time of the API")])


def _ratios(result: Result, words: str, **more: str) -> list[str]:
    lines = [f"| {words}, in the same round | median | lowest to highest |", "|---|---|---|"]
    for name, called in {"p50": "p50", "p99": "p99", **more}.items():
        one = result[f"{name}_ratio"]
        lines.append(f"| {called} | **{one['median']:.2f}** | {one['low']:.2f} to {one['high']:.2f} |")
    return lines


_CHAOS = {
    "postgres_restart": "PostgreSQL ends and is away",
    "pg_backend_kill": "all its backends are terminated, twice a second",
    "pool_exhaustion": "it has no connection left, for the workers neither",
    "crash_recovery": "both workers are killed at once (from the blow itself)",
    "repeated_kills": "one of the workers is killed, every second",
    "nats_restart": "nats-server ends and is away (not in the public benchmark)",
}


def chaos_table(result: Result) -> str:
    """The drain before, during and after each scenario, how long it took to come back, and the judges' words."""
    options, judged = result["options"], result["judged"]
    lines = [
        f"R = {options['chaos_rate']:,.0f} orders/s, two workers, always a backlog, and four fifths of R accepted all "
        f"the time. A harm lasts {options['chaos_fault_seconds']:g} s, the baseline before it "
        f"{options['chaos_seconds']:g} s; afterwards is as long and begins {options['chaos_recovery_seconds']:g} s "
        "after what was away has answered. The controller lowers R when a database fails its workers, and raises it by "
        "a twentieth in five seconds: later is when R is in force again. Medians of "
        f"{_count(options['chaos_rounds'], 'round')}, in brackets the worst.",
        "",
        "| scenario | before/s | during/s | accepted during/s | first commit after, s | afterwards / before "
        "| R in force after, s | later / before | goals (98 %, 2 s) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in result["scenarios"].items():
        before, during = (found[f"{phase}_per_second"]["median"] for phase in ("baseline", "during"))
        accepted = found["accepted_during_per_second"]
        cells = [
            f"`{name}`: {_CHAOS[name]}",
            f"{before:,.1f}",
            f"{during:,.1f}",
            "" if accepted is None else f"{accepted['median']:,.0f}",
            _worst(found["first_success_seconds"], "{:.2f}", "high"),
            _worst(found["ratio"], "{:.1%}", "low"),
            _worst(found["whole_seconds"], "{:.0f}", "high"),
            _worst(found["later_ratio"], "{:.1%}", "low"),
            "reached" if found["reached"] else "later" if found["reached_later"] else "missed",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    harms = f"{judged['lost']:,} were lost, {judged['duplicated']:,} doubled, {judged['oversold']:,} oversold"
    lines += [
        "",
        f"Of {judged['accepted']:,} accepted orders {harms}, and {judged['undersold']:,} units undersold; the auditor "
        f"and the checker of what customers were told have {_count(judged['findings'], 'finding')}.",
    ]
    return "\n".join(lines)


def _worst(found: Mapping[str, float] | None, form: str, end: str) -> str:
    """The median and, in brackets, the worst."""
    return "never" if found is None else f"**{form.format(found['median'])}** ({form.format(found[end])})"


def accept_figure(result: Result) -> str:
    bars = [_bar(f"{design.letter}  {design.words}", design, result) for design in ACCEPT]
    options = result["options"]
    processes = _count(options["processes"], "process")
    how = f"{_count(options['connections'], 'client')}, {processes} each, {_where(result)}"
    return draw("Accepting orders", how, "Requests answered with 201 or 202 per second", bars)


def drain_figure(result: Result) -> str:
    bars = [_bar(design.words, design, result) for design in DRAIN]
    return draw("Draining into PostgreSQL", _where(result), "Orders committed per second", bars)


def about(result: Result) -> str:
    """Where this comes from."""
    versions, machine = result["versions"], result["machine"]
    sync = machine["fdatasync_ms"]
    parts = [
        f"`{result['command']}`, {result['at']}, commit {result['code'] or 'unknown'}",
        f"{machine['cpus']} × {machine['processor']}, {machine['memory_gib']:g} GiB, {machine['system']}",
        f"{machine['file_system']}, fdatasync of 4 KiB {sync['p50']:g} ms (p99 {sync['p99']:g})",
        f"load average before {machine['load_average_before'][0]:g}",
        f"nats-server {versions['nats-server']}, PostgreSQL {versions['postgresql']}, Python {versions['python']}, "
        f"aiohttp {versions['aiohttp']}, asyncpg {versions['asyncpg']}",
    ]
    return "; ".join(parts) + "."


def tuned(result: Result) -> str:
    """Why (a) has the connections that it has."""
    trials = ", ".join(f"{count}: {rate:,.0f}/s" for count, rate in result["sync_trials"].items())
    how = f", the fastest of what was tried ({trials})" if trials else ""
    return f"(a') and (a'') had {result['sync_connections']} connections in each process{how}."


def summary(kind: str, result: Result) -> str:
    tables = {
        "accept": accept_table,
        "chaos": chaos_table,
        "drain": drain_table,
        "expiry": expiry_table,
        "slow": slow_table,
        "profile": profile_table,
    }
    return tables[kind](result)


def _ratio_lines(result: Result) -> list[str]:
    lines = ["| times as fast, in the same round | median | lowest to highest |", "|---|---|---|"]
    return lines + [
        f"| {_named(one['over'])} / {_named(one['under'])} | **{_times(one['median'])}** "
        f"| {_times(one['low'])} to {_times(one['high'])} |"
        for one in result["ratios"]
    ]


def _times(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _named(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    design = BY_NAME[name]
    return f"{design.letter} {design.words}" if design.letter else design.words


def _rate(found: Mapping[str, float]) -> str:
    return f"**{found['median']:,.0f}** ({found['low']:,.0f} to {found['high']:,.0f})"


def _bar(name: str, design: Design, result: Result) -> Bar:
    found = result["designs"][design.name]["per_second"]
    ours = design.name.startswith(_OURS)
    return Bar(name, found["median"], found["low"], found["high"], ours, design.note)


def _where(result: Result) -> str:
    machine, options = result["machine"], result["options"]
    cores, rounds = _count(machine["cpus"], "core"), _count(options["rounds"], "round")
    return f"{cores}, {machine['processor']}, median of {rounds}"


def _count(number: int, word: str) -> str:
    """The word's plural is with s or, after s, with es."""
    if number != 1:
        word += "es" if word.endswith("s") else "s"
    return f"{number:,} {word}"
