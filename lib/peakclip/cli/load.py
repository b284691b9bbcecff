"""`peakclip load`: a burst or a steady load of flash-sale orders against any URL."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from peakclip.cli.common import check_writable, error_words
from peakclip.errors import PeakclipError
from peakclip.load import LoadOptions, LoadResult, Progress, run_load
from peakclip.load.access import Access, AccessError, create_sale, read_access
from peakclip.report.report import client_report
from peakclip.report.words import burst_words

# Answers that are the sale's rules at work; any other refusal means that the load itself was wrong.
_EXPECTED: Final = frozenset({"sold-out", "limit-reached", "sale-closed", "sale-not-open"})

_Show = Callable[[Progress], None]


@click.command("load")
@click.option("--url", help="Where the API is, for example http://127.0.0.1:8080.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of a running stack: address and keys are read there.",
)
@click.option(
    "--key",
    envvar="PEAKCLIP_KEY",
    help="Key with the role service. Better as PEAKCLIP_KEY: `ps` shows flags.",
)
@click.option("--admin-key", envvar="PEAKCLIP_ADMIN_KEY", help="Key with the role admin, for --stock.")
@click.option("--sale", help="The sale to order from.")
@click.option(
    "--stock",
    type=click.IntRange(min=0),
    help="Create a sale of N units, open for an hour, and order from it.",
)
@click.option("--orders", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option(
    "--connections",
    type=click.IntRange(1, 20_000),
    default=256,
    show_default=True,
    help="Connections, opened before the clock starts; one request under way on each.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Orders per second, each sent when due. Default: a burst, as fast as answers come.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds after the last order is due; what has no answer then is an error.",
)
@click.option("--report", type=click.Path(path_type=Path), help="Write the figures there as JSON.")
@click.option(
    "--accepted", type=click.Path(path_type=Path), help="Write the accepted order ids there, one a line."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "lines", "json", "none"]),
    default="auto",
    show_default=True,
)
def command(
    url: str | None,
    data: Path | None,
    key: str | None,
    admin_key: str | None,
    report: Path | None,
    accepted: Path | None,
    as_json: bool,
    progress: str,
    **load: Any,
) -> None:
    """Send orders and say what became of them.

    The figures: how many were accepted, how fast, and why the others were not.

    An answer that is lost, late, 429 or 503 is asked for again with the same Idempotency-Key, so no order is
    placed twice. Exit 1 if an order had no final answer or was refused for a reason that is not the sale's.
    """
    try:
        for path in (report, accepted):  # better now than after the load
            check_writable(path)
        access = read_access(data, url=url, key=key, admin=admin_key)
        result = uvloop.run(_load(access, progress, **load))
    except (PeakclipError, OSError) as exc:
        click.echo(f"peakclip load: {error_words(exc)}", err=True)
        raise SystemExit(2) from exc
    if accepted is not None:
        accepted.write_text("".join(f"{order_id}\n" for order_id in result.accepted_ids))
    figures = client_report(result)
    if report is not None:
        report.write_text(json.dumps(figures, indent=2) + "\n")
    click.echo(json.dumps(figures) if as_json else burst_words(figures))
    raise SystemExit(1 if result.errors or set(result.refused) - _EXPECTED else 0)


async def _load(
    access: Access,
    progress: str,
    *,
    sale: str | None,
    stock: int | None,
    orders: int,
    connections: int,
    rate: float | None,
    deadline: float,
) -> LoadResult:
    if access.service is None:
        raise AccessError(
            "Say with which key to order: PEAKCLIP_KEY, --key, or --data DIR of a running stack."
        )
    if (sale is None) == (stock is None):
        raise AccessError("Name a sale with --sale, or have one created with --stock; not both.")
    if stock is not None:
        if access.admin is None:
            raise AccessError("Creating a sale needs PEAKCLIP_ADMIN_KEY, --admin-key, or --data DIR.")
        sale = await create_sale(access.url, access.admin, stock=stock)
    options = LoadOptions(
        url=access.url,
        sale=sale or "",
        key=access.service,
        orders=orders,
        connections=connections,
        rate=rate,
        deadline=deadline,
    )
    with _shown(progress, orders) as show:
        return await run_load(options, progress=show)


@contextlib.contextmanager
def _shown(progress: str, orders: int) -> Iterator[_Show | None]:
    """All progress goes to stderr; stdout has the figures and nothing else."""
    if progress == "auto":
        progress = "bar" if sys.stderr.isatty() else "lines"
    if progress == "none":
        yield None
    elif progress == "json":
        yield lambda now: click.echo(json.dumps(now._asdict()), err=True)
    elif progress == "bar" and (bar := _bar()) is not None:
        with bar:
            task = bar.add_task("orders", total=orders, rate="")
            yield lambda now: bar.update(
                task,
                completed=now.accepted + now.refused,
                rate=f"{(now.accepted + now.refused) / max(now.seconds, 1e-3):,.0f}/s",
                refresh=True,
            )
    else:
        yield _Lines()


class _Lines:
    """A line every two seconds, for logs."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 2

    def __call__(self, now: Progress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 2
        done = now.accepted + now.refused
        rate = done / max(now.seconds, 1e-3)
        eta = f"{(now.orders - done) / rate:,.0f} s left" if rate else "waiting for the first answer"
        click.echo(f"{done:,} of {now.orders:,} answered, {rate:,.0f}/s, {eta}", err=True)


def _bar() -> Any:
    """Rich's progress bar, drawn only when told to: a timer thread would take CPU from what is measured."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:  # the extra `local` is not installed
        return None
    return Bar(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
    )
