"""`peakclip keys`: make API keys, list them, take them back."""

from __future__ import annotations

import asyncio
import functools
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import click
import msgspec

from peakclip import store
from peakclip.cli.common import error_words, read_credentials, where
from peakclip.credentials import FRESH_SECONDS, MAX_NAME_LENGTH, ROLES, is_name, key_id, new_key, store_key
from peakclip.errors import SettingsError
from peakclip.store import query

_PATIENCE_SECONDS: Final = 5.0


class KeyView(msgspec.Struct, frozen=True):
    """What is shown of a key. Never the key, which nobody has but its owner; times are UTC."""

    key_id: str
    role: str
    subject: str
    tenant: str
    created_at: datetime
    revoked_at: datetime | None


def _check_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not is_name(value):
        raise click.BadParameter(f"1 to {MAX_NAME_LENGTH} printable characters are needed.")
    return value


def _check_key_id(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value.startswith("pk_"):  # somebody has found a leaked key, and knows nothing else of it
        raise click.BadParameter(f"this is a key itself; its id is {key_id(value)}.")
    if not re.fullmatch("[0-9a-f]{16}", value):
        raise click.BadParameter("an id has 16 hexadecimal digits; `peakclip keys list` shows them.")
    return value


def _address(data: Path | None, database_url: str | None) -> str:
    """--database-url wins over --data, and both over the environment."""
    url = database_url
    if not url and data is not None:
        try:
            url = read_credentials(data).get("database_url")
        except SettingsError as exc:
            raise click.UsageError(str(exc)) from exc
    elif not url:
        url = os.environ.get("PEAKCLIP_DATABASE_URL")
    if not url:  # no guess: a key in another database than was meant opens nothing, and stays there
        raise click.UsageError("Say where PostgreSQL is: --data DIR, or PEAKCLIP_DATABASE_URL.")
    return url


def _database(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say where PostgreSQL is, and passes it the address as `url`."""

    @functools.wraps(function)
    def wrapped(data: Path | None, database_url: str | None, **rest: Any) -> None:
        function(url=_address(data, database_url), **rest)

    folder = click.option(
        "--data", type=click.Path(path_type=Path), help="Folder of `peakclip up`: it names the server."
    )
    address = click.option(
        "--database-url", help="Better by PEAKCLIP_DATABASE_URL: `ps` shows options, and it holds a password."
    )
    return folder(address(wrapped))


_json = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of words.")


@click.group()
def command() -> None:
    """Make API keys for clients, list them, and take them back.

    Only a key's hash is stored; everywhere else a key goes by its id.
    """


@command.command("create")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the key's owner may do.")
@click.option(
    "--subject",
    required=True,
    callback=_check_name,
    help="Whose key it is: the customer's or provider's id, or a name for a service or an administrator.",
)
@click.option(
    "--tenant", default="default", show_default=True, callback=_check_name, help="Whose data it reaches."
)
@_database
@_json
def create_command(role: str, subject: str, tenant: str, url: str, as_json: bool) -> None:
    """Make a key. It is printed once, and nobody can read it again."""
    key = new_key()
    _run(url, lambda connection: store_key(connection, key, tenant, subject, role))
    if as_json:
        made = {"key": key, "key_id": key_id(key), "role": role, "subject": subject, "tenant": tenant}
        click.echo(msgspec.json.encode(made))
        return
    click.echo(key)
    click.echo(
        f"Keep it now: it is shown this once, and stored as a hash only. Its id is {key_id(key)}: "
        f"{role} {subject} of tenant {tenant}.",
        err=True,  # so that a shell can take the key alone
    )


@command.command("list")
@click.option("--tenant", help="Only the keys of this one.")
@_database
@_json
def list_command(tenant: str | None, url: str, as_json: bool) -> None:
    """List all keys, revoked ones too, oldest first."""
    rows = _run(url, lambda connection: connection.fetch(query("list_api_keys"), tenant))
    keys = [KeyView(**row) for row in rows]
    click.echo(msgspec.json.encode({"keys": keys}) if as_json else as_table(keys))


@command.command("revoke")
@click.argument("key_id", callback=_check_key_id, metavar="ID")
@_database
@_json
def revoke_command(key_id: str, url: str, as_json: bool) -> None:
    """Take the key with this ID back, for good."""
    row = _run(url, lambda connection: connection.fetchrow(query("revoke_api_key"), key_id))
    if row is None:
        raise click.ClickException(f"There is no key {key_id}; `peakclip keys list` shows what there is.")
    *values, just_now = row.values()
    key = KeyView(*values)
    if as_json:
        stops = {"just_now": just_now, "stops_within_seconds": FRESH_SECONDS}
        click.echo(msgspec.json.encode({**msgspec.structs.asdict(key), **stops}))
    elif just_now:
        click.echo(
            f"Revoked {key.key_id} ({key.role} {key.subject} of tenant {key.tenant}): "
            f"no process takes it after {FRESH_SECONDS:g} s."
        )
    else:
        click.echo(f"{key.key_id} was revoked before, at {_time(key.revoked_at)}.")


def as_table(keys: Sequence[KeyView]) -> str:
    """For people: one line per key under a head, columns as wide as their widest word."""
    if not keys:
        return "There are no keys."
    rows = [("ID", "ROLE", "SUBJECT", "TENANT", "CREATED", "REVOKED")]
    rows += [
        (key.key_id, key.role, key.subject, key.tenant, _time(key.created_at), _time(key.revoked_at))
        for key in keys
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _time(at: datetime | None) -> str:
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _run(url: str, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    """Connects, asks, and turns what goes wrong into one sentence: exit 2 for a wrong address, 1 otherwise."""

    async def main() -> Any:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            connection = await asyncpg.connect(url)
            try:
                return await ask(connection)
            finally:
                await connection.close()

    try:
        return asyncio.run(main())
    except TimeoutError:
        raise click.ClickException(
            f"PostgreSQL at {where(url)} did not answer within {_PATIENCE_SECONDS:g} s. Does it run?"
        ) from None
    except asyncpg.UndefinedTableError:
        raise click.ClickException(
            f"The database at {where(url)} has no tables yet: `peakclip migrate` makes them."
        ) from None
    except (ValueError, OverflowError) as exc:  # asyncpg's, too: this is no address of a PostgreSQL
        raise click.UsageError(f"The address of PostgreSQL is wrong: {exc}") from None
    except OSError as exc:
        raise click.ClickException(
            f"PostgreSQL at {where(url)} cannot be reached: {error_words(exc)}. Does it run?"
        ) from None
    except (asyncpg.PostgresError, *store.DATABASE_AWAY) as exc:
        raise click.ClickException(f"PostgreSQL at {where(url)} refused: {error_words(exc)}") from None
