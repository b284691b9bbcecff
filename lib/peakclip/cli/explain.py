"""`peakclip explain`: the next decision for a pool, with everything that it rests on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import click
import msgspec
from nats.aio.msg import Msg

from peakclip import topology
from peakclip.cli.asking import ask, nats_options, pool_argument
from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus, encode

_WAIT_SECONDS: Final = 5.0  # ten ticks of a healthy operator
_YES_OR_NO: Final = ("per_worker_is_prior",)

_decode = msgspec.json.Decoder(PoolStatus).decode


@click.command()
@pool_argument
@nats_options
@click.option("--json", "as_json", is_flag=True, help="The whole status as a JSON object.")
def command(pool: str, nats_url: str | None, as_json: bool) -> None:
    """Say why POOL has as many workers as it has.

    Shows the next decision with its formula, every bound, what is unknown, and every number that it rests on.
    """
    status = ask(nats_url, lambda js: _next_status(js, pool), more_seconds=_WAIT_SECONDS)
    if status is None:
        raise click.ClickException(
            f"Nobody decided for {pool} within {_WAIT_SECONDS:g} s: does its operator run, and is it the leader? "
            f"Peakclip's own pools are {', '.join(topology.POOLS)}."
        )
    click.echo(encode(status).decode() if as_json else as_text(status))


async def _next_status(js: JetStream, pool: str) -> PoolStatus | None:
    """None: there was none in time."""
    heard: asyncio.Future[PoolStatus] = asyncio.get_running_loop().create_future()

    async def received(msg: Msg) -> None:
        if heard.done():
            return
        try:
            heard.set_result(_decode(msg.data))
        except msgspec.MsgspecError as exc:
            text = f"The status of {pool} cannot be read, so its operator is of another version: {exc}"
            heard.set_exception(click.ClickException(text))

    await js.subscribe_core(f"{topology.POOL_STATUS}.{pool}", received)
    await js.round_trip()
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            return await heard
    except TimeoutError:
        return None


def as_text(status: PoolStatus) -> str:
    """For people. Pure: the times are the operator's."""
    parts = [_summary(status), _formula(status.formula), _bounds(status), _unknown(status)]
    rows = [(name, _value(name, value)) for name, value in status.inputs.items()]
    return "\n\n".join(filter(None, [*parts, _table(("input", "value"), rows)]))


def _summary(status: PoolStatus) -> str:
    running = "unknown" if status.workers_current is None else f"{status.workers_current:,}"
    wanted = "unknown" if status.workers_desired is None else f"{status.workers_desired:,}"
    why = f" ({status.rate_reason})" if status.rate_reason else ""
    return "\n".join(
        [
            f"{status.pool} at {_clock(status.at)}",
            f"workers   {wanted} wanted, {running} running: {status.reason}, by {status.binding_constraint}",
            f"rate      {_short(status.effective_per_second)}/s in force of"
            f" {_short(status.limit_per_second)}/s{why}",
        ]
    )


def _formula(formula: str) -> str:
    """A step on each line."""
    return "\n".join(step.strip() for step in formula.split(";")) if formula else ""


def _bounds(status: PoolStatus) -> str:
    """The last one that bears the name of what binds is the one that binds."""
    numbers = [number for number, (name, _) in enumerate(status.bounds) if name == status.binding_constraint]
    binds = numbers[-1] if numbers else None
    rows = [
        (name, f"{workers:,}" + "  binds" * (number == binds))
        for number, (name, workers) in enumerate(status.bounds)
    ]
    return _table(("bound", "workers after it"), rows)


def _unknown(status: PoolStatus) -> str:
    rows = [
        (name, f"{_clock(since)}, for {max(0.0, status.at - since):,.0f} s")
        for name, since in status.unknown.items()
    ]
    return _table(("unknown", "since"), rows)


def _table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    width = max(len(name) for name, _ in (head, *rows))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in (head, *rows))


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "unknown"
    if name in _YES_OR_NO:
        return "yes" if value else "no"
    return _clock(value) if name.endswith("_until") else _short(value)


def _short(value: float) -> str:
    """1,234,567; 12.3; 0.0456."""
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:.3g}"


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC).astimezone():%H:%M:%S}"
