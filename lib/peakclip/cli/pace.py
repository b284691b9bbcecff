"""`peakclip pace`: see and change the live rates of the pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from peakclip import topology
from peakclip.cli.asking import ask, check_pool, nats_options, pool_argument
from peakclip.errors import RefusedError, SettingsError
from peakclip.jetstream import STREAM_NOT_FOUND, JetStream
from peakclip.limiter.pace import Change, Pace, Share, rate_at, read_pace, set_pace

_POOLS: Final = tuple(topology.POOLS)


@dataclass(frozen=True, slots=True)
class View:
    """What is shown: the pace before and after the command, and the server's time (epoch seconds)."""

    pool: str
    before: Pace | None
    after: Pace | None
    now: float


_json = click.option("--json", "as_json", is_flag=True, help="A JSON object instead of a sentence.")


@click.group()
def command() -> None:
    """See and change the live rates: orders, effects, reaper.

    A change is in force for all workers 1.3 s later.
    """


@command.command("get")
@click.argument("pool", callback=check_pool, required=False)
@nats_options
@_json
def get_command(pool: str | None, nats_url: str | None, as_json: bool) -> None:
    """Show the rate of POOL, for example: orders: 100/s (burst 5). Without POOL: a line for each of them."""
    for view in ask(nats_url, lambda js: _look_at(js, _POOLS if pool is None else (pool,))):
        click.echo(as_object(view) if as_json else as_sentence(view))


@command.command("set")
@pool_argument
@click.argument("rate", type=float, metavar="R")
@click.option(
    "--burst", type=int, help="Starts above R that one second may hold; R/20, at least 5, otherwise."
)
@nats_options
@_json
def set_command(pool: str, rate: float, burst: int | None, nats_url: str | None, as_json: bool) -> None:
    """Let POOL start R messages per second over all its workers. Fractions such as 0.5 are exact."""
    try:
        Change(limit_per_second=rate, burst=burst)  # nonsense is refused whether NATS is up or not
        view = ask(nats_url, lambda js: _change(js, pool, limit_per_second=rate, burst=burst))
    except SettingsError as exc:
        raise click.UsageError(str(exc)) from exc  # exit 2
    click.echo(as_object(view) if as_json else as_sentence(view))
    if pool not in _POOLS and view.before is None:
        click.echo(f"Nothing works for a pool {pool} yet; there is: {', '.join(_POOLS)}.", err=True)


@command.command("pause")
@pool_argument
@nats_options
@_json
def pause_command(pool: str, nats_url: str | None, as_json: bool) -> None:
    """Let POOL start nothing until `resume`. What comes is still accepted, and waits."""
    _switch(pool, nats_url, as_json, paused=True)


@command.command("resume")
@pool_argument
@nats_options
@_json
def resume_command(pool: str, nats_url: str | None, as_json: bool) -> None:
    """Let POOL start messages again, at its rate."""
    _switch(pool, nats_url, as_json, paused=False)


def _switch(pool: str, nats_url: str | None, as_json: bool, *, paused: bool) -> None:
    try:
        view = ask(nats_url, lambda js: _change(js, pool, paused=paused))
    except SettingsError as exc:
        raise click.ClickException(f"{pool} has no rate yet: `peakclip pace set {pool} R` sets one.") from exc
    click.echo(as_object(view) if as_json else as_sentence(view))


async def _look(js: JetStream, pool: str) -> View:
    try:
        found = await read_pace(js, pool)
        now = (await js.stream_state(topology.TICKETS)).server_time
    except RefusedError as exc:
        if exc.code != STREAM_NOT_FOUND:
            raise
        return View(pool, None, None, 0.0)  # a server on which nothing has run yet
    pace = found[0] if found else None
    return View(pool, pace, pace, now)


async def _look_at(js: JetStream, pools: Sequence[str]) -> list[View]:
    return [await _look(js, pool) for pool in pools]


async def _change(js: JetStream, pool: str, **change: Any) -> View:
    before = (await _look(js, pool)).after
    after = await set_pace(js, pool, **change)
    return View(pool, before, after, (await js.stream_state(topology.TICKETS)).server_time)


def as_sentence(view: View) -> str:
    """For people: `orders: 100/s -> 400/s (burst 20), in force at 12:00:01.300 (in 1.3 s)`."""
    after, now = view.after, view.now
    if after is None:
        return f"{view.pool}: no rate is set, so nothing starts. `peakclip pace set {view.pool} R` sets one."
    text = _said(after)
    if view.before is None or view.before == after:
        text = f"{view.pool}: {text}"
    else:
        text = f"{view.pool}: {_short(view.before)} -> {text}"
    from_time = after.steps[-1].from_time if after.steps else now
    if from_time <= now:
        return text
    clock = datetime.fromtimestamp(from_time, UTC).astimezone()
    text += f", in force at {clock:%H:%M:%S}.{clock.microsecond // 1000:03d} (in {from_time - now:.1f} s)"
    in_force = rate_at(after, now)
    return text if view.before != after or in_force is None else f"{text}; until then {in_force:g}/s"


def _short(pace: Pace) -> str:
    return "paused" if pace.paused else f"{pace.limit_per_second:g}/s"


def _said(pace: Pace) -> str:
    if pace.paused:
        return f"paused (limit {pace.limit_per_second:g}/s)"
    text = f"{pace.limit_per_second:g}/s (burst {pace.burst})"
    if pace.share is not None and pace.effective_per_second == pace.most_per_second < pace.limit_per_second:
        return f"{text}, {pace.effective_per_second:g}/s of it by its share of {_group(pace.share)}"
    if pace.effective_per_second < pace.limit_per_second:
        text += f", lowered to {pace.effective_per_second:g}/s by the controller"
    return text


def _group(share: Share) -> str:
    """As people named it: the namespace is in front."""
    return share.group.rpartition(".")[2]


def as_object(view: View) -> str:
    """For machines. Everything is null when no rate is set."""
    pace = view.after
    from_time = pace.steps[-1].from_time if pace is not None and pace.steps else None
    answer = {
        "pool": view.pool,
        "limit_per_second": pace and pace.limit_per_second,
        "effective_per_second": pace and pace.effective_per_second,
        "in_force_per_second": pace and rate_at(pace, view.now),
        "burst": pace and pace.burst,
        "paused": pace and pace.paused,
        "share_per_second": pace.share.per_second if pace and pace.share else None,
        "share_of": pace.share.group if pace and pace.share else None,
        "in_force_at": None if from_time is None else datetime.fromtimestamp(from_time, UTC).isoformat(),
        "in_force_in_seconds": None if from_time is None else round(max(0.0, from_time - view.now), 3),
    }
    return msgspec.json.encode(answer).decode()
