"""`peakclip up`: the whole stack on one machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from peakclip import telemetry, topology
from peakclip.cli.common import check_rate, check_workers, error_words
from peakclip.durability import FileSystem
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import read_pace
from peakclip.local.disks import file_systems
from peakclip.local.stack import Stack, StackOptions


@click.command("up")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), envvar="PEAKCLIP_DATA",
              help="Keep everything in this folder. Default: a temporary one, removed at the end.")  # fmt: skip
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the API. Default: 8080, or any free one."
)
@click.option("--rate", type=float, callback=check_rate,
              help="Orders per second into the database. [default: the last one, or 100]")  # fmt: skip
@click.option(
    "--min", "min_workers", type=click.IntRange(min=1), default=1, show_default=True, help="Workers at least."
)
@click.option(
    "--max", "max_workers", type=click.IntRange(min=1), default=20, show_default=True, help="Workers at most."
)
@click.option("--api-processes", type=click.IntRange(1, 64), default=2, show_default=True,
              help="Processes that accept orders.")  # fmt: skip
@click.option("--work-ms", type=click.IntRange(min=0), default=0, show_default=True,
              help="Stand-in for a third party's time per order.")  # fmt: skip
@click.option("--effects-rate", type=float, callback=check_rate,
              help="Events per second to effects. [default: the last one, or 500]")  # fmt: skip
@click.option("--reaper-rate", type=float, callback=check_rate,
              help="Unpaid orders cancelled per second. [default: the last one, or 100]")  # fmt: skip
@click.option("--shared-rate", type=float, callback=check_rate,
              help="One rate for all pools together, orders first. [default: each its own]")  # fmt: skip
def command(
    data: Path | None,
    port: int | None,
    rate: float | None,
    min_workers: int,
    max_workers: int,
    api_processes: int,
    work_ms: int,
    effects_rate: float | None,
    reaper_rate: float | None,
    shared_rate: float | None,
) -> None:
    """Run everything on this machine until Ctrl-C.

    NATS and PostgreSQL are its own, made for this, unless others are named:
    PEAKCLIP_NATS_URL and PEAKCLIP_DATABASE_URL make it use servers that exist.
    """
    check_workers(min_workers, max_workers)
    telemetry.configure_logging("up", json=not sys.stderr.isatty())
    options = StackOptions(
        data=data,
        port=port,
        rate=rate,
        min_workers=min_workers,
        max_workers=max_workers,
        api_processes=api_processes,
        work_ms=work_ms,
        effects_rate=effects_rate,
        reaper_rate=reaper_rate,
        shared_rate=shared_rate,
    )
    try:
        asyncio.run(_until_stopped(options))
    except (PeakclipError, OSError) as exc:
        click.echo(f"peakclip up: {error_words(exc)}", err=True)
        raise SystemExit(2) from exc


async def _until_stopped(options: StackOptions) -> None:
    """Ctrl-C and SIGTERM stop in order, also while the stack is still starting."""
    running = asyncio.create_task(_run(options), name="stack")
    asked = False

    def stop() -> None:
        nonlocal asked
        click.echo("Still stopping …" if asked else "Stopping …", err=True)
        if not asked:  # a second time would cut the orderly stop short
            asked = True
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await running
    except asyncio.CancelledError:
        kept = f" Everything is kept in {options.data}." if options.data else ""
        click.echo(f"Stopped.{kept}", err=True)


async def _run(options: StackOptions) -> None:
    click.echo("Starting …", err=True)
    async with Stack(options) as stack:
        text = summary(stack, options, await _rate(stack), file_systems(stack.directory, os.environ))
        Console(highlight=False, soft_wrap=True).print(text)  # unwrapped, to be copied
        await asyncio.Event().wait()


async def _rate(stack: Stack) -> float | None:
    """The rate in force, which kept data and `peakclip pace` may have set; None if it cannot be read now."""
    try:
        async with await JetStream.connect(stack.credentials["nats_url"], name="peakclip up") as js:
            found = await read_pace(js, topology.ORDERS_POOL)
    except (PeakclipError, msgspec.DecodeError):
        return None
    return found[0].effective_per_second if found else None


def summary(
    stack: Stack, options: StackOptions, rate: float | None, disks: Sequence[FileSystem | None] = ()
) -> str:
    """What people need to know to begin, with commands that can be copied; rich markup."""
    folder, program = stack.directory, _program()
    data = escape(shlex.quote(str(folder)))
    rows = {
        "Dashboard": f"[bold cyan]{stack.credentials['url']}/[/]",
        "Rate": f"{_orders(rate)}, {options.min_workers} to {options.max_workers} workers",
        "Durable": _durable(stack.durable, disks),
        "Keys": f"{escape(str(folder / 'credentials.json'))} [dim](readable by you only)[/]",
        "Logs": escape(str(folder / "logs")),
        "": "",
        "Send a burst": f"{program} load --data {data} --stock 10000 --orders 10000",
        "Buy by hand": f"{program} shop --data {data}",
        "Check it": f"{program} audit --data {data}",
        "Stop": "Ctrl-C",
    }
    lines = (f"  [dim]{name:<14}[/]{text}".rstrip() if name else "" for name, text in rows.items())
    return "\n".join(["", "[bold green]Peakclip is up.[/]", "", *lines, ""])


def _orders(rate: float | None) -> str:
    return "not set" if rate is None else f"{rate:g} orders per second"


def _durable(durable: bool | None, disks: Sequence[FileSystem | None]) -> str:
    """The servers' word first, then what is under them. The first bad news is the one to tell."""
    if durable is None:
        return "[yellow]unknown: NATS does not show its settings to this user[/]"
    if not durable:
        return "[bold red]no: a power loss may lose accepted orders (NATS needs sync_interval: always)[/]"
    if gone := _kinds(disk for disk in disks if disk is not None and disk.durable is False):
        return f"[bold red]no: every write is synced, but {gone} is memory: a power loss takes all[/]"
    if any(disk is None or disk.durable is None for disk in disks):
        kinds = _kinds(disk for disk in disks if disk is not None and disk.durable is None)
        kinds = kinds or "the disk here"
        return f"[yellow]unknown: every write is synced, but nobody knows whether {kinds} keeps it without power[/]"
    on = f", on {_kinds(disk for disk in disks if disk is not None)}" if disks else ""
    return f"yes: the servers report that every write is synced{on}"


def _kinds(disks: Iterable[FileSystem]) -> str:
    return escape(" and ".join(dict.fromkeys(disk.kind for disk in disks)))


def _program() -> str:
    """How the reader started us, unless plain `peakclip` does the same."""
    started = Path(sys.argv[0])
    found = shutil.which("peakclip")
    if started.name != "peakclip" or (found and Path(found).resolve() == started.resolve()):
        return "peakclip"
    return escape(shlex.quote(str(started)))
