"""Mistakes that people make at a terminal get one clear sentence and exit 2, before anything is started."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from peakclip.cli import audit, demo, dlq, explain, keys, load, pace, shop, up
from peakclip.cli.common import check_writable, error_words, read_credentials, where
from peakclip.cli.main import main
from peakclip.credentials import key_id
from peakclip.errors import SettingsError


def _refused(command: click.Command, *arguments: str) -> str:
    result = CliRunner(env={"PEAKCLIP_NATS_URL": None, "PEAKCLIP_DATABASE_URL": None}).invoke(
        command, arguments
    )
    assert result.exit_code == 2, result.output
    assert "[Errno" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("command", [demo.command, up.command])
@pytest.mark.parametrize("rate", ["nan", "inf", "1e6"])
def test_a_rate_that_no_limiter_can_hold_starts_nothing(command: click.Command, rate: str) -> None:
    words = _refused(command, "--rate", rate)
    assert "A rate is 0.001 to 100,000 per second" in words
    assert "Starting" not in words


@pytest.mark.parametrize("command", [demo.command, up.command])
def test_more_workers_at_least_than_at_most_start_nothing(command: click.Command) -> None:
    assert "--min may not be larger than --max" in _refused(command, "--min", "5", "--max", "2")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (pace.command, ["get", "orders"]),
        (explain.command, ["orders"]),
        (audit.command, []),
        (load.command, ["--stock", "1"]),
        (keys.command, ["list"]),
    ],
)
def test_a_folder_without_a_stack_is_named(
    command: click.Command, arguments: list[str], tmp_path: Path
) -> None:
    words = _refused(command, *arguments, "--data", str(tmp_path))
    assert f"credentials.json does not exist: is {tmp_path} the --data folder of `peakclip up`?" in words


@pytest.mark.parametrize("option", ["--report", "--accepted"])
def test_a_load_that_could_not_write_its_figures_is_not_sent(option: str, tmp_path: Path) -> None:
    file = tmp_path / "no" / "file"
    words = _refused(
        load.command, "--url", "http://127.0.0.1:1", "--key", "k", "--sale", "s", option, str(file)
    )
    assert words == f"peakclip load: {file}: No such file or directory\n"


_CREATE = ("create", "--role", "customer", "--subject")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "Say where PostgreSQL is: --data DIR, or PEAKCLIP_DATABASE_URL."),
        (
            ["create", "--role", "root", "--subject", "s"],
            "'root' is not one of 'customer', 'provider', 'admin', ",
        ),
        (["create", "--subject", "s"], "Missing option '--role'"),
        (["create", "--role", "admin"], "Missing option '--subject'"),
        ([*_CREATE, ""], "'--subject': 1 to 128 printable characters are needed."),
        ([*_CREATE, "a\nb"], "'--subject': 1 to 128 printable characters are needed."),
        ([*_CREATE, "s" * 129], "'--subject': 1 to 128 printable characters are needed."),
        ([*_CREATE, "s", "--tenant", ""], "'--tenant': 1 to 128 printable characters are needed."),
        (["revoke"], "Missing argument 'ID'"),
        (["revoke", "ABC"], "an id has 16 hexadecimal digits; `peakclip keys list` shows them."),
        (["revoke", "pk_leaked"], f"this is a key itself; its id is {key_id('pk_leaked')}."),
        (
            ["list", "--database-url", "mysql://x/y"],
            "The address of PostgreSQL is wrong: invalid DSN: scheme",
        ),
        (["list", "--database-url", "postgres://127.0.0.1:99999/y"], "The address of PostgreSQL is wrong: "),
    ],
)
def test_a_wrong_question_about_keys_asks_nobody(arguments: list[str], said: str) -> None:
    assert said in _refused(keys.command, *arguments)


@pytest.mark.parametrize("arguments", [["list"], ["redrive", "--all"], ["drop", "--all"]])
def test_dead_letters_at_no_address_are_asked_of_nobody(arguments: list[str]) -> None:
    words = _refused(dlq.command, *arguments, "--database-url", "mysql://me:s3cret@x/y")
    assert "PEAKCLIP_DATABASE_URL: Value error, an address of PostgreSQL begins with postgresql://" in words
    assert "s3cret" not in words
    words = _refused(dlq.command, "list", "--database-url", "postgresql://x:port/y")
    assert "The address of PostgreSQL is wrong: " in words


@pytest.mark.parametrize("name", ["", "ada lovelace", "李", "a" * 51])
def test_a_shop_is_not_opened_for_a_customer_that_can_be_no_id(name: str, tmp_path: Path) -> None:
    words = _refused(shop.command, "--data", str(tmp_path), "--customer", name)
    assert "'--customer': 1 to 50 letters, digits, - and _ are needed." in words


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "does not say: admin, database_url, service, url."), ("[]", "is not what `peakclip up` writes")],
)
def test_a_shop_needs_whole_credentials(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text(text)
    assert said in _refused(shop.command, "--data", str(tmp_path))


def test_looking_whether_a_file_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text("kept")
    for path in (new, old, None):
        check_writable(path)
    assert not new.exists()
    assert old.read_text() == "kept"


def test_broken_credentials_are_an_error_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(SettingsError, match="holds no JSON"):
        read_credentials(tmp_path)


def test_words_for_errors_of_the_system() -> None:
    assert error_words(PermissionError(13, "Permission denied", "/x")) == "/x: Permission denied"
    assert error_words(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert error_words(TimeoutError()) == "TimeoutError"
    assert error_words(ValueError("so")) == "so"


def test_an_address_is_shown_without_its_password() -> None:
    assert where("nats://me:s3cret@127.0.0.1:4222/x") == "127.0.0.1:4222"


def test_the_list_of_commands_cuts_no_sentence_off() -> None:
    listed = CliRunner().invoke(main, ["--help"]).stdout.split("Commands:")[1]
    ours = ("audit", "demo", "explain", "keys", "load", "migrate", "pace", "up")
    cut = [
        line for line in listed.splitlines() if line.split()[:1] and line.split()[0] in ours and "..." in line
    ]
    assert cut == []
