"""`peakclip load` refuses with one sentence what it cannot do."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from peakclip.cli.load import command
from peakclip.load import LoadOptions, run_load
from peakclip.load.access import AccessError, read_access
from peakclip.load.run import TargetError


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


def test_a_name_that_does_not_exist_is_looked_up_once_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def nobody(*place: object, **_: object) -> None:
        asked.append(place)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    options = LoadOptions(url="http://nosuch.invalid:81", sale="s", key="k", orders=10, connections=10)
    with pytest.raises(
        TargetError, match=r"^nosuch\.invalid:81 cannot be reached: Name or service not known$"
    ):
        asyncio.run(run_load(options))
    assert len(asked) == 1
