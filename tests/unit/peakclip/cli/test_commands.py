"""What `peakclip` offers where only some of the extras are installed, as in an image."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from peakclip.cli.main import main


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution with two more sub-commands; their modules are the test's to write."""
    about = tmp_path / "more-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[peakclip.commands]\nwhole = whole_command:command\nlacking = lacking_command:command\n"
    )
    (tmp_path / "whole_command.py").write_text(
        "import click\n\n@click.command()\ndef command():\n    click.echo('done')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_help_shows_the_commands_whose_packages_are_here(installed: Path) -> None:
    (installed / "lacking_command.py").write_text("import a_package_of_another_extra.part\n")
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    assert "  whole" in shown.output
    assert "  worker" in shown.output
    assert "lacking" not in shown.output


def test_a_command_without_its_packages_says_which_is_missing(installed: Path) -> None:
    (installed / "lacking_command.py").write_text("import a_package_of_another_extra.part\n")
    ran = CliRunner().invoke(main, ["lacking"])
    assert ran.exit_code == 2
    assert (
        "`peakclip lacking` needs the package `a_package_of_another_extra`, which is not installed here."
        in ran.output
    )
    assert CliRunner().invoke(main, ["whole"]).output == "done\n"


def test_a_module_of_our_own_that_is_missing_is_a_fault(installed: Path) -> None:
    (installed / "lacking_command.py").write_text("import peakclip.not_there\n")
    ran = CliRunner().invoke(main, ["lacking"])
    assert isinstance(ran.exception, ModuleNotFoundError)
