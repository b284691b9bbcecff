"""`peakclip demo`: the stack, a burst, the drain to its end, an audit; then a report in words, JSON and a figure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import structlog
import uvloop

from peakclip import store, telemetry
from peakclip.audit import RateLimit, audit_system
from peakclip.cli.burst import send_burst
from peakclip.cli.common import check_rate, check_workers, check_writable, error_words
from peakclip.cli.live import Display, View
from peakclip.cli.watch import Watch
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.load import Progress
from peakclip.load.access import create_sale
from peakclip.local.stack import Credentials, Stack, StackOptions
from peakclip.report.figure import figure_of
from peakclip.report.plot import draw
from peakclip.report.report import full_report, read_drain, read_durability
from peakclip.report.words import (
    audit_words,
    burst_words,
    drain_words,
    durability_words,
    failures,
    worker_words,
)

_CONTROLLER_SECONDS: Final = 30.0  # to its first word
STABILIZATION_SECONDS: Final = 8.0  # a demo need not keep its workers for a minute in case of another burst
_GIVE_BACK_SECONDS: Final = 60.0
_REST_SECONDS: Final = 60.0  # for the audit: outbox published, counters settled
_PATH: Final = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Options:
    stack: StackOptions
    orders: int
    stock: int
    rate: float
    report: Path
    plot: Path
    leave: bool


@click.command("demo")
@click.option(
    "--orders", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="In the burst."
)
@click.option("--stock", type=click.IntRange(min=0), help="Units on sale. [default: as many as orders]")
@click.option("--rate", type=click.FloatRange(min=0.5), callback=check_rate, default=100.0, show_default=True,
              help="R, orders per second.")  # fmt: skip
@click.option("--work-ms", type=click.IntRange(0, 60_000), default=40, show_default=True,
              help="Stand-in for a third party's time per order, so that one worker alone cannot reach R.")  # fmt: skip
@click.option("--report", type=_PATH, help="Where to write the figures as JSON. [default: beside --plot]")
@click.option("--plot", type=_PATH, help="Where to write the figure. [default: peakclip-demo.svg]")
@click.option(
    "--exit", "leave", is_flag=True, help="End after the report instead of keeping the dashboard up."
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the API. [default: 8080, or a free one]")
@click.option("--min", "min_workers", type=click.IntRange(min=1), default=1, show_default=True,
              help="Workers at least.")  # fmt: skip
@click.option("--max", "max_workers", type=click.IntRange(min=1), default=20, show_default=True,
              help="Workers at most.")  # fmt: skip
@click.option("--api-processes", type=click.IntRange(1, 64), default=2, show_default=True,
              help="Processes that accept orders.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path, file_okay=False),
              help="Keep the data in this folder. [default: a temporary one, removed at the end]")  # fmt: skip
def command(
    orders: int,
    stock: int | None,
    rate: float,
    work_ms: int,
    report: Path | None,
    plot: Path | None,
    leave: bool,
    port: int | None,
    min_workers: int,
    max_workers: int,
    api_processes: int,
    data: Path | None,
) -> None:
    """Show all of it: a burst, drain, audit, report.

    A burst is accepted at once and drained at exactly R, by workers that follow the need; then the data are
    audited.

    Exit 1 if an order was lost, doubled, oversold or refused without reason, or if R was exceeded.
    """
    check_workers(min_workers, max_workers)
    plot = plot or (report.with_suffix(".svg") if report else (data or Path()) / "peakclip-demo.svg")
    report = report or plot.with_suffix(".json")
    stack = StackOptions(
        data=data,
        port=port,
        rate=rate,
        min_workers=min_workers,
        max_workers=max_workers,
        api_processes=api_processes,
        work_ms=work_ms,
        stabilization_seconds=STABILIZATION_SECONDS,
    )
    options = Options(stack, orders, orders if stock is None else stock, rate, report, plot, leave)
    telemetry.configure_logging("demo", json=False)
    # The picture says what goes on; each process of the stack has a log of its own.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        if data is not None:
            data.mkdir(parents=True, exist_ok=True)
        for path in (report, plot):  # better now than after two minutes
            check_writable(path)
        raise SystemExit(uvloop.run(_until_told(_demo(options))))
    except (PeakclipError, OSError) as exc:
        click.echo(f"peakclip demo: {error_words(exc)}", err=True)
        raise SystemExit(2) from exc


async def _until_told(work: Coroutine[Any, Any, int]) -> int:
    """The first SIGINT or SIGTERM cancels the work, so that the stack stops in order; then exit 130."""
    task = asyncio.ensure_future(work)
    told = False

    def stop() -> None:
        nonlocal told
        click.echo("Still stopping …" if told else "Stopping …", err=True)
        if not told:  # a second time would cut the orderly stop short
            told = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        click.echo("Stopped before the end: no report was written.", err=True)
        return 130


async def _demo(options: Options) -> int:
    view = View(
        orders=options.orders, limit=options.rate, phase="Starting nats-server, PostgreSQL and the processes"
    )
    with Display(view) as display:
        display.show()
        async with Stack(options.stack) as stack:
            credentials = stack.credentials
            view.url = f"dashboard {credentials['url']}/"
            display.say(f"Dashboard: {credentials['url']}/")
            async with contextlib.AsyncExitStack() as close:
                js = await close.enter_async_context(
                    await JetStream.connect(credentials["nats_url"], name="demo")
                )
                pool = await store.connect(credentials["database_url"], max_size=2, command_timeout=60)
                close.push_async_callback(pool.close)
                found = await _Run(options, display, credentials, js, pool).run()
            if not options.leave:
                await _stay(display, credentials["url"])
    return 1 if found else 0


async def _stay(display: Display, url: str) -> None:
    display.close()
    display.say(f"\nThe dashboard stays up at {url}/ until Ctrl-C.")
    with contextlib.suppress(asyncio.CancelledError):  # the expected end, not an interruption
        await asyncio.Event().wait()


class _Run:
    """One burst on a stack that is ready, from the sale to the report."""

    def __init__(
        self, options: Options, display: Display, credentials: Credentials, js: JetStream, pool: Any
    ) -> None:
        self._options = options
        self._display = display
        self._view = display.view
        self._credentials = credentials
        self._js = js
        self._pool = pool
        self._watch = Watch(js, pool, self._view, display.show)

    async def run(self) -> list[str]:
        """Returns why the run failed, one sentence each."""
        await self._watch.listen()
        self._phase("Waiting for the first worker")
        if not await self._watch.until_running(self._options.stack.min_workers, _CONTROLLER_SECONDS):
            self._display.say("The controller has not reported its workers yet; going on without.")
        sale_id = await create_sale(
            self._credentials["url"], self._credentials["admin"], stock=self._options.stock
        )
        client, accepted = await self._burst(sale_id)
        self._phase("Draining")
        if not await self._watch.until_drained(sale_id, client["accepted"]):
            self._display.say(
                "Nothing has reached the database for a minute: the audit will say what is missing."
            )
        self._phase("Waiting until the workers are given back")
        if not await self._watch.until_given_back(self._options.stack.min_workers, _GIVE_BACK_SECONDS):
            self._display.say(f"The workers were not given back within {_GIVE_BACK_SECONDS:.0f} s.")
        self._phase("Auditing")
        return await self._finish(sale_id, client, accepted)

    def _phase(self, words: str) -> None:
        self._view.phase = words
        self._display.show()

    async def _burst(self, sale_id: str) -> tuple[dict[str, Any], list[str]]:
        self._phase("Sending the burst")
        client, accepted = await send_burst(
            url=self._credentials["url"],
            key=self._credentials["service"],
            sale_id=sale_id,
            orders=self._options.orders,
            progress=self._on_burst,
        )
        self._view.accepted, self._view.burst_words = client["accepted"], _short(client)
        return client, accepted

    def _on_burst(self, progress: Progress) -> None:
        self._view.burst = progress
        self._display.show()

    async def _finish(self, sale_id: str, client: dict[str, Any], accepted: list[str]) -> list[str]:
        drain = await read_drain(self._pool, sale_id)
        highest = self._watch.highest_limit(since=client["burst"]["started_at"] - 5.0)
        limit = None
        if highest is not None:
            limit = RateLimit(
                *highest, since=min(drain.started, default=0.0), source="the pace during the run"
            )
        audit, _ = await audit_system(
            self._pool, self._js, accepted=set(accepted), wait_seconds=_REST_SECONDS, rate=limit
        )
        report = full_report(
            client,
            drain,
            self._watch.statuses,
            audit=audit,
            durability=await read_durability(self._pool, self._js),
            target=self._options.rate,
            allowed=None if highest is None else highest[0] + highest[1],
            plot=str(self._options.plot),
        )
        statuses = [s for s in self._watch.statuses if s.at >= report["burst"]["started_at"] - 5.0]
        self._options.plot.write_text(draw(figure_of(report, drain, statuses)))
        self._options.report.write_text(json.dumps(report, indent=2) + "\n")
        found = failures(report, stock=self._options.stock)
        self._display.close()
        lines = [burst_words(report), durability_words(report), drain_words(report), worker_words(statuses)]
        lines += [*audit_words(report), f"Report: {self._options.report}  Plot: {self._options.plot}"]
        for words in ["", *lines, *(f"FAILED: {sentence}" for sentence in found)]:
            self._display.say(words)
        return found


def _short(client: dict[str, Any]) -> str:
    words = f"{client['accepted']:,} accepted"
    if client["accept_p99_ms"] is not None:
        words += f" in {client['accept_seconds']:.2f} s, p99 {client['accept_p99_ms']:.0f} ms"
    refused = sum(client["refused"].values())
    return words + (f"; {refused:,} refused" if refused else "")
