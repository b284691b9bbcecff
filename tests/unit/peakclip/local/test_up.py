"""What `peakclip up` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.text import Text

from peakclip.cli.up import command, summary
from peakclip.durability import FileSystem
from peakclip.local.stack import Credentials, StackOptions


class _Running:
    def __init__(self, directory: Path, durable: bool | None) -> None:
        self.directory = directory
        self.durable = durable
        self.credentials = Credentials(
            url="http://127.0.0.1:8080",
            management_url="http://127.0.0.1:1",
            nats_url="nats://peakclip:s3cret@127.0.0.1:2",
            database_url="postgresql://peakclip:s3cret@127.0.0.1:3/peakclip",
            admin="pk_admin",
            service="pk_service",
        )


def _text(
    durable: bool | None = True, rate: float | None = 100.0, disks: Sequence[FileSystem | None] = ()
) -> str:
    running = _Running(Path("/data/with space"), durable)
    return Text.from_markup(summary(running, StackOptions(), rate, disks)).plain


def test_the_summary_shows_the_way_and_no_secret() -> None:
    text = _text()
    assert "http://127.0.0.1:8080/" in text
    assert "100 orders per second, 1 to 20 workers" in text
    assert "load --data '/data/with space' --stock 10000 --orders 10000" in text
    assert "s3cret" not in text
    assert "pk_" not in text


@pytest.mark.parametrize(
    ("durable", "words"), [(True, "yes:"), (False, "no: a power loss"), (None, "unknown:")]
)
def test_durability_is_said_as_it_was_read_back(durable: bool | None, words: str) -> None:
    assert words in _text(durable)


EXT4, TMPFS, OVERLAY = FileSystem("ext4", True), FileSystem("tmpfs", False), FileSystem("overlay", None)


@pytest.mark.parametrize(
    ("disks", "words"),
    [
        ([EXT4, EXT4], "yes: the servers report that every write is synced, on ext4\n"),
        ([FileSystem("xfs", True), EXT4], "is synced, on xfs and ext4\n"),
        ([], "yes: the servers report that every write is synced\n"),
        ([OVERLAY, TMPFS], "no: every write is synced, but tmpfs is memory"),
        ([EXT4, OVERLAY], "unknown: every write is synced, but nobody knows whether overlay keeps it"),
        ([EXT4, None], "nobody knows whether the disk here keeps it"),
    ],
)
def test_what_is_under_the_servers_is_told(disks: Sequence[FileSystem | None], words: str) -> None:
    assert words in _text(disks=disks)


def test_a_good_disk_helps_no_server_that_does_not_sync() -> None:
    assert "no: a power loss" in _text(durable=False, disks=[EXT4])


def test_an_unknown_rate_is_not_a_zero() -> None:
    assert "not set" in _text(rate=None)


def test_more_workers_at_least_than_at_most_is_refused() -> None:
    result = CliRunner().invoke(command, ["--min", "5", "--max", "3"])
    assert result.exit_code == 2
    assert "--min may not be larger than --max" in result.output
