"""`peakclip`: one command, its sub-commands found by entry points (group `peakclip.commands`)."""

from __future__ import annotations

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
    try:
        command.load()
    except ModuleNotFoundError as exc:
        name = (exc.name or "").partition(".")[0]
        if not name or name.startswith("peakclip"):
            raise
        return name
    return None


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="peakclip")
def main() -> None:
    """Peak clipping for order systems: accept bursts durably, drain them at exactly the configured rate."""
