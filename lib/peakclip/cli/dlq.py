"""`peakclip dlq`: dead letters, to see, to send back to work, or to give up."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import click
import structlog

from peakclip import store
from peakclip.cli.common import error_words, read_credentials, where
from peakclip.cli.dlq_words import as_object, listed, one_line, shown, table
from peakclip.dead_letters import Desk, Done, Letter, what_is_lost
from peakclip.errors import PeakclipError, SettingsError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.settings import Settings

_T = TypeVar("_T")

_PATIENCE_SECONDS: Final = 5.0
_SHOWN: Final = 50
_TOLD: Final = 5  # so many letters are described one by one before they are dropped
_PATH: Final = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Servers:
    nats_url: str
    database_url: str
    ours: bool  # found by --data or an option, and not only assumed


@dataclass(slots=True)
class Tally:
    """What became of the letters of one command."""

    done: int = 0
    problems: list[Done] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def note(self, results: Sequence[Done]) -> None:
        self.done += sum(one.problem is None for one in results)
        self.problems += [one for one in results if one.problem is not None]


def _servers(function: Callable[..., None]) -> Callable[..., None]:
    """Options that say where the servers are: an option wins over --data, and both over the environment."""

    @functools.wraps(function)
    def wrapped(data: Path | None, nats_url: str | None, database_url: str | None, **rest: Any) -> None:
        try:
            found = {} if data is None else read_credentials(data)
        except SettingsError as exc:
            raise click.UsageError(str(exc)) from exc
        settings = Settings.load(
            nats_url=nats_url or found.get("nats_url"), database_url=database_url or found.get("database_url")
        )
        ours = bool(found or nats_url or database_url)
        function(servers=Servers(settings.nats_url, settings.database_url, ours), **rest)

    folder = click.option("--data", type=_PATH, help="Folder of `peakclip up`: it names the servers.")
    nats = click.option("--nats-url", help="Where NATS is; otherwise PEAKCLIP_NATS_URL.")
    database = click.option("--database-url", help="Where PostgreSQL is; otherwise PEAKCLIP_DATABASE_URL.")
    return folder(nats(database(wrapped)))


def _chosen(function: Callable[..., None]) -> Callable[..., None]:
    """Which letters: by their ids, all of a pool, or all."""

    @functools.wraps(function)
    def wrapped(ids: tuple[str, ...], pool: str | None, everything: bool, **rest: Any) -> None:
        if bool(ids) == bool(pool or everything):
            raise click.UsageError(
                "Say which: the ids that `peakclip dlq list` shows, or --pool POOL, or --all."
            )
        function(ids=ids, pool=pool, **rest)

    return click.argument("ids", nargs=-1)(
        _pool(click.option("--all", "everything", is_flag=True, help="All there are.")(wrapped))
    )


_pool = click.option("--pool", help="Those of one pool: orders, effects, reaper or relay.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group()
def command() -> None:
    """See dead letters, send them back to work, or give them up.

    A message that has failed three times, or that cannot be read, is a dead letter: kept with its cause, out of
    everybody's way. Nothing becomes of it until somebody decides.
    """


@command.command("list")
@_pool
@click.option("--all", "everything", is_flag=True, help=f"All of them, not only the newest {_SHOWN}.")
@_json
@_servers
def list_command(servers: Servers, pool: str | None, everything: bool, as_json: bool) -> None:
    """List dead letters, the newest first."""

    async def ask(desk: Desk) -> tuple[int, list[Letter], Any]:
        letters = await desk.newest(pool, None if everything else _SHOWN)
        return await desk.count(pool), letters, await desk.now()

    total, letters, now = _run(servers, ask)
    if as_json:
        click.echo(
            json.dumps({"version": 1, "total": total, "dead_letters": [listed(one) for one in letters]})
        )
    elif not letters:
        click.echo("No dead letters." if pool is None else f"No dead letters of {pool}.")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
        click.echo("\n".join(table(letters, now, width)))
        if total > len(letters):
            click.echo(f"and {total - len(letters):,} older ones (--all)")


@command.command("show")
@click.argument("ids", nargs=-1, required=True)
@_json
@_servers
def show_command(servers: Servers, ids: tuple[str, ...], as_json: bool) -> None:
    """Show dead letters with their cause, their headers and their payload, and what dropping them would lose."""

    async def ask(desk: Desk) -> tuple[dict[str, Letter], Any]:
        return await desk.find(ids), await desk.now()

    found, now = _run(servers, ask)
    for number, letter in enumerate(found[one] for one in ids if one in found):
        if as_json:
            click.echo(json.dumps(as_object(letter)))
        else:
            click.echo("\n".join([*([""] if number else []), *shown(letter, now)]))
    _end(Tally(unknown=[one for one in ids if one not in found]))


@command.command("redrive")
@_chosen
@_json
@_servers
def redrive_command(servers: Servers, ids: tuple[str, ...], pool: str | None, as_json: bool) -> None:
    """Send dead letters back to work, with all their attempts. Safe to repeat: what is done is done once."""

    async def work(desk: Desk) -> Tally:
        return await _each(desk, ids, pool, desk.redrive, "Sending back to work")

    tally = _run(servers, work, nats=True)
    _tell(tally, as_json, "redriven", "{:,} sent back to work.")


@command.command("drop")
@_chosen
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
@_servers
def drop_command(servers: Servers, ids: tuple[str, ...], pool: str | None, yes: bool, as_json: bool) -> None:
    """Give dead letters up for good. That they were, and of which orders, stays on record for `peakclip audit`."""
    if not yes:
        question = _run(servers, lambda desk: _what_goes(desk, ids, pool))
        if question is not None:
            click.confirm(question, abort=True, err=True)

    async def work(desk: Desk) -> Tally:
        return await _each(desk, ids, pool, desk.drop, "Dropping")

    _tell(_run(servers, work), as_json, "dropped", "{:,} dropped.")


async def _what_goes(desk: Desk, ids: Sequence[str], pool: str | None) -> str | None:
    """The question before something is given up; None if there is nothing."""
    if not ids:
        number = await desk.count(pool)
        return f"Drop all {number:,} dead letters{f' of {pool}' if pool else ''}?" if number else None
    letters = list((await desk.find(ids)).values())
    lines = [f"{one.message_id}: loses {what_is_lost(one)}" for one in letters[:_TOLD]]
    lines += [f"and {len(letters) - _TOLD:,} more"] if len(letters) > _TOLD else []
    return "\n".join([*map(one_line, lines), f"Drop {len(letters):,}?"]) if letters else None


async def _each(
    desk: Desk,
    ids: Sequence[str],
    pool: str | None,
    act: Callable[[Sequence[Letter]], Awaitable[list[Done]]],
    label: str,
) -> Tally:
    """Page by page, so that a hundred thousand take no memory; those that die meanwhile are left for another time."""
    tally = Tally()
    if ids:
        found = await desk.find(ids)
        tally.unknown = [one for one in dict.fromkeys(ids) if one not in found]
        tally.note(await act(list(found.values())))
        return tally
    total = await desk.count(pool)
    # Without a terminal click shows the label alone.
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True) as bar:
        async for page in desk.all(pool, await desk.now()):
            tally.note(await act(page))
            bar.update(len(page))
    return tally


def _tell(tally: Tally, as_json: bool, name: str, sentence: str) -> None:
    if as_json:
        problems = [{"message_id": one.message_id, "problem": one.problem} for one in tally.problems]
        click.echo(
            json.dumps({"version": 1, name: tally.done, "problems": problems, "unknown": tally.unknown})
        )
    else:
        click.echo(sentence.format(tally.done))
    _end(tally)


def _end(tally: Tally) -> None:
    """Exit 1 with a line for each letter of which not was done what was asked for."""
    for one in tally.problems:
        click.echo(one_line(f"{one.message_id} {one.problem}"), err=True)
    for message_id in tally.unknown:
        click.echo(one_line(f"{message_id}: there is no such dead letter"), err=True)
    if tally.problems or tally.unknown:
        sys.exit(1)


def _run(servers: Servers, ask: Callable[[Desk], Awaitable[_T]], *, nats: bool = False) -> _T:
    """Connects, asks, and turns what goes wrong into one sentence and exit 1."""
    # A command that answers or says why not: the connections' own log lines would only be in the way.
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    async def main() -> _T:
        async with contextlib.AsyncExitStack() as stack:
            database = await stack.enter_async_context(_database(servers))
            js = await stack.enter_async_context(await _nats(servers)) if nats else None
            return await ask(Desk(database, js))

    try:
        return asyncio.run(main())
    except (PeakclipError, *store.DATABASE_AWAY, asyncpg.PostgresError) as exc:
        raise click.ClickException(error_words(exc)) from exc


@contextlib.asynccontextmanager
async def _database(servers: Servers) -> AsyncIterator[Any]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            pool = await store.connect(servers.database_url, max_size=2, command_timeout=60.0)
    except TimeoutError as exc:
        raise _away("PostgreSQL", servers.database_url, servers) from exc
    except ValueError as exc:  # asyncpg's, too: this is no address of a PostgreSQL
        raise click.UsageError(f"The address of PostgreSQL is wrong: {exc}") from None
    try:
        yield pool
    finally:
        await pool.close()


async def _nats(servers: Servers) -> JetStream:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await JetStream.connect(servers.nats_url, name="peakclip-dlq")
    except TimeoutError as exc:
        raise _away("NATS", servers.nats_url, servers) from exc


def _away(server: str, url: str, servers: Servers) -> UnavailableError:
    hint = "Does it run?" if servers.ours else "--data DIR finds the one of `peakclip up`."
    return UnavailableError(
        f"{server} at {where(url)} did not answer within {_PATIENCE_SECONDS:g} s, or did not let us in. {hint}"
    )
