"""`peakclip load` refuses with one sentence what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from peakclip.cli.load import command
from peakclip.load.access import AccessError, read_access


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sale", "s"], "Say where"),
        (["--url", "http://127.0.0.1:1", "--sale", "s"], "with which key"),
        (["--url", "http://127.0.0.1:1", "--key", "k"], "Name a sale"),
        (["--url", "http://127.0.0.1:1", "--key", "k", "--sale", "s", "--stock", "1"], "not both"),
        (["--url", "http://127.0.0.1:1", "--key", "k", "--stock", "1"], "PEAKCLIP_ADMIN_KEY"),
        (["--url", "ftp://127.0.0.1", "--key", "k", "--sale", "s"], "not an http"),
        (["--data", "/nowhere", "--sale", "s"], "credentials.json"),
    ],
)
def test_refusals(arguments: list[str], sentence: str) -> None:
    result = CliRunner(env={"PEAKCLIP_KEY": None, "PEAKCLIP_ADMIN_KEY": None}).invoke(command, arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_credentials_come_from_the_folder_unless_given(tmp_path: Path) -> None:
    everything = {"url": "http://h:1/", "admin": "a", "service": "s", "nats_url": "n", "database_url": "d"}
    (tmp_path / "credentials.json").write_text(json.dumps(everything))
    found = read_access(tmp_path, url=None, key=None, admin=None)
    assert (found.url, found.service, found.admin) == ("http://h:1", "s", "a")
    given = read_access(tmp_path, url="http://other", key="k", admin=None)
    assert (given.url, given.service, given.admin) == ("http://other", "k", "a")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(AccessError, match=r"credentials\.json"):
        read_access(tmp_path, url=None, key=None, admin=None)
