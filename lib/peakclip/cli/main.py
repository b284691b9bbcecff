"""`peakclip`: one command, its sub-commands found by entry points (group `peakclip.commands`)."""

from __future__ import annotations

import gc
import signal
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

GROUP: Final = "peakclip.commands"


class _Commands(click.Group):
    """Loads a sub-command when it is used, so that `peakclip worker` never imports what the API needs.

    An installation with some of the extras, such as an image, has some of the commands: help shows those.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(one.name for one in entry_points(group=GROUP) if _package_missing(one) is None)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        for one in entry_points(group=GROUP, name=name):
            if missing := _package_missing(one):
                raise click.UsageError(
                    f"`peakclip {name}` needs the package `{missing}`, which is not installed here."
                )
            command: click.Command = one.load()
            return command
        return None


def _package_missing(command: EntryPoint) -> str | None:
    """Which package of somebody else is not there, if one is not; a module of our own that is missing is a fault."""
    gc.disable()  # imports make nothing but what stays: looking for garbage was a tenth of a worker's start
    try:
        command.load()
    except ModuleNotFoundError as exc:
        name = (exc.name or "").partition(".")[0]
        if not name or name.startswith("peakclip"):
            raise
        return name
    finally:
        gc.freeze()  # before it goes on: its first round would look through all of them after all
        gc.enable()
    return None


@click.command(name="peakclip", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="peakclip")
def main() -> None:
    """Peak clipping for order systems: accept bursts durably, drain them at exactly the configured rate."""


def run() -> None:
    """The entry point. As the first process of a container it ends on SIGTERM from its first moment on.

    The kernel does not deliver a signal to such a process unless it has a handler, and Python has none of its own:
    a pod that was told to stop before its service had begun, or during a migration, took its whole grace period.
    """
    signal.signal(signal.SIGTERM, _end)
    main(prog_name="peakclip")


def _end(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)
