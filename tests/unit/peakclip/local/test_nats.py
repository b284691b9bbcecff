"""Which nats-server may be trusted, and which needs a new start."""

from __future__ import annotations

import pytest

from peakclip.local.nats import check_version, parse_version, sickness
from peakclip.local.process import ProcessError


@pytest.mark.parametrize("text", ["nats-server: v2.15.1", "nats-server: v2.15.10", "v2.16.0-RC.1", "v3.0.0"])
def test_a_new_enough_server_is_taken(text: str) -> None:
    check_version(text)


@pytest.mark.parametrize("text", ["nats-server: v2.15.0", "nats-server: v2.9.25", "v1.99.99"])
def test_an_old_server_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ProcessError, match=r"is too old: 2\.15\.1 or newer keeps what it acknowledges"):
        check_version(text)


def test_a_server_without_a_version_is_refused() -> None:
    with pytest.raises(ProcessError, match="does not tell its version"):
        parse_version("hello")


@pytest.mark.parametrize(
    ("error", "sick"),
    [
        ("JetStream stream 'APP > INTAKE' write error: no space left on device", True),
        ("JetStream not enabled", True),
        ("JetStream stream 'APP > INTAKE' could not be recovered", False),
        ("JetStream account 'APP' could not be resolved", False),
    ],
)
def test_only_what_a_new_start_heals_calls_for_one(error: str, sick: bool) -> None:
    assert sickness({"status": "unavailable", "status_code": 503, "error": error}) == (
        error if sick else None
    )


def test_one_that_is_well_is_left_alone() -> None:
    assert sickness({"status": "ok", "status_code": 200}) is None
