"""`peakclip explain` as people call it, against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
import structlog
from click.testing import CliRunner, Result

from peakclip import topology
from peakclip.cli import explain
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.messages import PoolStatus, encode

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """The command silences its process, which is this one."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def said(**changes: object) -> bytes:
    fields: dict[str, object] = dict.fromkeys(PoolStatus.__struct_fields__)
    fields |= {"pool": "orders", "at": 1.7e9, "limit_per_second": 100.0, "effective_per_second": 70.0}
    fields |= {
        "paused": False,
        "reason": "CatchingUp",
        "binding_constraint": "ceiling",
        "rate_reason": "database",
    }
    fields |= {"processed_total": 1, "failed_total": 0, "formula": "a = 1; b = 2", "inputs": {"lag_ready": 7}}
    fields |= {
        "bounds": [["limit", 9], ["ceiling", 5]],
        "unknown": {"database": 1.7e9 - 3},
        "workers_desired": 5,
    }
    return encode({**fields, **changes})


async def explained(js: JetStream, url: str, body: bytes, *arguments: str) -> Result:
    """The command in a thread of its own, while an operator speaks ten times a second."""
    asked = asyncio.create_task(
        asyncio.to_thread(CliRunner().invoke, explain.command, ["orders", "--nats-url", url, *arguments])
    )
    while not asked.done():
        await js.publish_core(f"{topology.POOL_STATUS}.orders", body)
        await asyncio.sleep(0.1)
    return await asked


async def test_it_shows_the_next_decision_in_words_or_as_json(js: JetStream, nats_server: NatsServer) -> None:
    url = nats_server.url_of("admin")  # who may hear the statuses is enough
    words = await explained(js, url, said())
    assert words.exit_code == 0, words.output
    assert "workers   5 wanted, unknown running: CatchingUp, by ceiling" in words.output
    assert "rate      70/s in force of 100/s (database)" in words.output
    assert "ceiling  5  binds" in words.output
    assert "for 3 s" in words.output
    machine = await explained(js, url, said(), "--json")
    found = json.loads(machine.output)
    assert (found["bounds"], found["workers_current"]) == ([["limit", 9], ["ceiling", 5]], None)


async def test_a_status_of_another_version_is_no_silence(js: JetStream, nats_url: str) -> None:
    answer = await explained(js, nats_url, b'{"pool": "orders"}')
    assert answer.exit_code == 1
    assert "its operator is of another version" in answer.output


async def test_silence_is_said_to_be_the_operators(
    js: JetStream, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "_WAIT_SECONDS", 0.3)
    answer = await asyncio.to_thread(CliRunner().invoke, explain.command, ["nobody", "--nats-url", nats_url])
    assert answer.exit_code == 1
    assert "Nobody decided for nobody within 0.3 s: does its operator run" in answer.output
