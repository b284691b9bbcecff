"""What the commands share that ask a running system over NATS: where it is, and errors as one sentence and exit 1."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import structlog

from peakclip.cli.common import read_credentials, where
from peakclip.errors import PeakclipError, SettingsError
from peakclip.jetstream import JetStream
from peakclip.settings import Settings

_T = TypeVar("_T")

_PATIENCE_SECONDS: Final = 5.0


def check_pool(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A callback."""
    if value is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise click.BadParameter(f"{value!r} is not the name of a pool: letters, digits, - and _ only.")
    return value


pool_argument = click.argument("pool", callback=check_pool)


def _address(data: Path | None, nats_url: str | None) -> str | None:
    """--nats-url wins over --data, and both over the environment (None)."""
    return nats_url if nats_url or data is None else read_credentials(data).get("nats_url")


def nats_options(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say where NATS is, and passes it the address as `nats_url`."""

    @functools.wraps(function)
    def wrapped(data: Path | None, nats_url: str | None, **rest: Any) -> None:
        try:
            address = _address(data, nats_url)
        except SettingsError as exc:
            raise click.UsageError(str(exc)) from exc
        function(nats_url=address, **rest)

    folder = click.option(
        "--data", type=click.Path(path_type=Path), help="Folder of `peakclip up`: it names the server."
    )
    return folder(click.option("--nats-url", help="Where NATS is; otherwise PEAKCLIP_NATS_URL.")(wrapped))


def ask(
    nats_url: str | None, question: Callable[[JetStream], Awaitable[_T]], *, more_seconds: float = 0.0
) -> _T:
    """Connects and asks. `more_seconds`: how long the answer itself may take.

    Raises SettingsError, for the caller to say whose setting it is, and click.ClickException for the rest.
    """
    # A command that answers or says why not: the connection's own log lines would only be in the way.
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    url = Settings.load(nats_url=nats_url).nats_url

    async def main() -> _T:
        async with (
            asyncio.timeout(_PATIENCE_SECONDS + more_seconds),
            await JetStream.connect(url, name="peakclip-ask") as js,
        ):
            return await question(js)

    try:
        return asyncio.run(main())
    except TimeoutError as exc:
        raise click.ClickException(
            f"NATS at {where(url)} did not answer within {_PATIENCE_SECONDS:g} s, or did not let us in. "
            + ("Does it run?" if nats_url else "--data DIR finds the one of `peakclip up`.")
        ) from exc
    except SettingsError:
        raise
    except PeakclipError as exc:
        raise click.ClickException(str(exc)) from exc
