"""What several commands share: what a rate may be, the folder of a stack, and errors of the system as words."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import click

from peakclip.errors import SettingsError
from peakclip.limiter import grid


def check_rate(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A callback: a rate that the limiter cannot hold is refused before anything is started for it."""
    if value is not None and not grid.LEAST_RATE <= value <= grid.GREATEST_RATE:  # nan is outside, too
        raise click.BadParameter(
            f"A rate is {grid.LEAST_RATE:g} to {grid.GREATEST_RATE:,.0f} per second, not {value:g}."
        )
    return value


def check_workers(least: int, most: int) -> None:
    """Bounds that no pool can keep are refused before anything starts."""
    if least > most:
        raise click.UsageError("--min may not be larger than --max.")


def error_words(exc: BaseException) -> str:
    """`/data/x: Permission denied` instead of `[Errno 13] …`; other errors say it themselves."""
    if isinstance(exc, OSError) and exc.strerror and not isinstance(exc, TimeoutError):
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc) or type(exc).__name__


def read_credentials(data: Path) -> dict[str, str]:
    """What `peakclip up --data DIR` wrote down. Raises SettingsError with a sentence that says what to do."""
    path = data / "credentials.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist: is {data} the --data folder of `peakclip up`?") from None
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}") from None
    except ValueError as exc:
        raise SettingsError(f"{path} cannot be read: it holds no JSON ({exc})") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{path} cannot be used: it is not what `peakclip up` writes.")
    return found


def check_writable(path: Path | None) -> None:
    """Raises OSError if the file could not be written, and leaves no empty file behind. None: nothing to write."""
    if path is None:
        return
    existed = path.exists()
    path.touch()
    if not existed:
        path.unlink()


def where(url: str) -> str:
    """HOST:PORT of an address, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]
