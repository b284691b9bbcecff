"""`peakclip`: one command, its sub-commands found by entry points (group `peakclip.commands`)."""

from __future__ import annotations

from importlib.metadata import entry_points

import click


class _Commands(click.Group):
    """Loads a sub-command when it is used, so that `peakclip worker` never imports what the API needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry_points(group="peakclip.commands").names)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        found = entry_points(group="peakclip.commands", name=name)
        for entry_point in found:
            command: click.Command = entry_point.load()
            return command
        return None


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="peakclip")
def main() -> None:
    """Peak clipping for order systems: accept bursts durably, drain them at exactly the configured rate."""
