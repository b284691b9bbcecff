"""`peakclip audit`: checks the invariants on a running system, or a stopped one whose servers still run."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from peakclip import store, telemetry
from peakclip.audit import AuditResult, Outcome, RateLimit, Violation, audit_system
from peakclip.cli.common import read_credentials, where
from peakclip.errors import PeakclipError, SettingsError, UnavailableError
from peakclip.jetstream import JetStream

ROWS_SHOWN: Final = 20
_CONNECT_SECONDS: Final = 10.0
_PATH: Final = click.Path(path_type=Path)
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_EXIT_VIOLATED, _EXIT_NOT_CHECKED = 1, 2


@dataclass(frozen=True, slots=True)
class Options:
    nats_url: str
    database_url: str
    accepted: dict[str, int | None] | None
    rate: RateLimit | None
    wait_seconds: float


@click.command()
@click.option("--data", type=_PATH, help="Folder of `peakclip up`: its credentials.json names the servers.")
@click.option(
    "--nats-url", envvar="PEAKCLIP_NATS_URL", help="Better by PEAKCLIP_NATS_URL: it holds a password."
)
@click.option("--database-url", envvar="PEAKCLIP_DATABASE_URL", help="Better by PEAKCLIP_DATABASE_URL.")
@click.option("--accepted", type=_FILE, help="Orders that clients know as accepted: `id [quantity]` a line.")
@click.option("--rate", type=click.FloatRange(min=0), help="Highest R that was in force [the pace of now].")
@click.option(
    "--burst", type=click.IntRange(min=0), default=0, show_default=True, help="Allowed above --rate."
)
@click.option(
    "--wait", "wait_seconds", type=click.FloatRange(min=0), default=0.0, help="Wait for rest so long."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def command(
    data: Path | None,
    nats_url: str | None,
    database_url: str | None,
    accepted: Path | None,
    rate: float | None,
    burst: int,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Check every promise by the data alone.

    The admission counters can be checked only when nothing is under way: --wait SECONDS waits for that.

    Exit 0: nothing is violated; 1: something is, each violation named with its rows; 2: it could not be
    checked.
    """
    telemetry.configure_logging("audit", json=False)
    options = Options(
        *_servers(data, nats_url, database_url),
        accepted=None if accepted is None else read_accepted(accepted),
        rate=None if rate is None else RateLimit(rate, burst),
        wait_seconds=wait_seconds,
    )
    if wait_seconds:
        click.echo(f"Waiting until nothing is under way, at most {wait_seconds:g} s", err=True)
    try:
        result, reasons = asyncio.run(_audit(options))
    except (PeakclipError, *store.DATABASE_AWAY) as exc:
        _not_checked(f"{exc or type(exc).__name__}")
    click.echo(json.dumps(as_dict(result, reasons)) if as_json else "\n".join(as_lines(result, reasons)))
    if result.violations:
        sys.exit(_EXIT_VIOLATED)
    if wait_seconds and reasons:
        _not_checked(f"the system did not come to rest within {wait_seconds:g} s")


async def _audit(options: Options) -> tuple[AuditResult, list[str]]:
    js, pool = await _connect(options)
    async with js, pool:
        return await audit_system(
            pool, js, accepted=options.accepted, wait_seconds=options.wait_seconds, rate=options.rate
        )


async def _connect(options: Options) -> tuple[JetStream, Any]:
    """An audit does not wait for servers for as long as it takes, as the processes do."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            js = await JetStream.connect(options.nats_url, name="audit", timeout_seconds=10.0)
    except TimeoutError:
        raise _away("NATS", options.nats_url) from None
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return js, await store.connect(options.database_url, max_size=2, command_timeout=120.0)
    except TimeoutError:
        await js.close()
        raise _away("PostgreSQL", options.database_url) from None


def _away(server: str, url: str) -> UnavailableError:
    return UnavailableError(
        f"{server} at {where(url)} has not answered for {_CONNECT_SECONDS:g} s: does it run?"
    )


def _servers(data: Path | None, nats_url: str | None, database_url: str | None) -> tuple[str, str]:
    """An address given by option or environment wins over the one in the folder."""
    found: dict[str, str] = {}
    if data is not None:
        try:
            found = read_credentials(data)
        except SettingsError as exc:
            _not_checked(str(exc))
    nats_url = nats_url or found.get("nats_url")
    database_url = database_url or found.get("database_url")
    if not nats_url or not database_url:
        _not_checked("say where the servers are: --data DIR, or PEAKCLIP_NATS_URL and PEAKCLIP_DATABASE_URL")
    return nats_url, database_url


def read_accepted(path: Path) -> dict[str, int | None]:
    """`id` or `id quantity` a line; empty lines are skipped. Ends with exit 2 at a line that is neither."""
    accepted: dict[str, int | None] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        try:
            if words:
                order_id, *quantity = words
                accepted[str(uuid.UUID(order_id))] = int(quantity[0]) if quantity else None
        except ValueError:
            _not_checked(f"{path}, line {number}: not an order id with an optional quantity: {line!r}")
    return accepted


def as_lines(result: AuditResult, reasons: Sequence[str]) -> list[str]:
    """For people: one line per check, then each violation under its check."""
    lines = []
    for check in result.checks:
        about = check.not_checked if check.outcome is Outcome.NOT_CHECKED else check.detail
        lines.append(f"{check.invariant}  {check.name:<22} {check.outcome:<12} {about}")
        for violation in check.violations:
            harm = f" ({violation.harm}: {violation.units:,})" if violation.harm else ""
            lines.append(f"     {violation.message}{harm}: {len(violation.rows):,} rows")
            lines += [f"       {json.dumps(row)}" for row in violation.rows[:ROWS_SHOWN]]
            if len(violation.rows) > ROWS_SHOWN:
                lines.append(f"       and {len(violation.rows) - ROWS_SHOWN:,} more (all with --json)")
    lines.append(
        f"lost {result.lost:,}, duplicated {result.duplicated:,}, "
        f"oversold {result.oversold:,}, undersold {result.undersold:,}"
    )
    if not result.at_rest:
        lines.append(f"not at rest: {'; '.join(reasons) or 'unknown'}")
    return lines


def as_dict(result: AuditResult, reasons: Sequence[str]) -> dict[str, Any]:
    """For machines, all rows included."""
    return {
        "version": 1,
        "at_rest": result.at_rest,
        "under_way": list(reasons),
        "lost": result.lost,
        "duplicated": result.duplicated,
        "oversold": result.oversold,
        "undersold": result.undersold,
        "checks": [
            {
                "invariant": check.invariant,
                "name": check.name,
                "outcome": check.outcome.value.lower(),
                "detail": check.not_checked or check.detail,
                "violations": [_violation(violation) for violation in check.violations],
            }
            for check in result.checks
        ],
    }


def _violation(violation: Violation) -> dict[str, Any]:
    return {
        "message": violation.message,
        "harm": violation.harm,
        "units": violation.units,
        "rows": list(violation.rows),
    }


def _not_checked(why: str) -> NoReturn:
    click.echo(f"could not check: {why}", err=True)
    sys.exit(_EXIT_NOT_CHECKED)
