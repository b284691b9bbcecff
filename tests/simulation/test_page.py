"""The page of the scenarios shows what the command says."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from peakclip_operator.simulation.cli import command

PAGE = Path(__file__).parents[2] / "docs/reference/simulation.md"


def test_the_table_of_the_page_is_that_of_the_command() -> None:
    result = CliRunner().invoke(command, ["--against", "keda,keda-tuned", "--markdown"])
    assert result.exit_code == 0, result.output
    table = result.stdout.strip().splitlines()
    page = PAGE.read_text().splitlines()
    assert page[page.index(table[0]) :] == table
