"""`peakclip keys`: what is made opens the API, what is revoked soon does not, and no key is ever shown again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import Api, api_process, new_name, sale_request, until

from peakclip.cli.keys import command
from peakclip.credentials import FRESH_SECONDS, key_id
from peakclip.jetstream import JetStream
from peakclip.local.postgres import PostgresServer
from peakclip_api.keys import KEYS

pytestmark = pytest.mark.integration


@pytest.fixture
async def api(js: JetStream, nats_url: str, fresh_database_url: str) -> AsyncIterator[Api]:
    async with api_process(nats_url, fresh_database_url) as one:
        yield one


async def run(*arguments: str, env: dict[str, str | None] | None = None) -> Result:
    """In a thread: the command runs a loop of its own."""
    runner = CliRunner(env={"PEAKCLIP_DATABASE_URL": None, **(env or {})})
    return await asyncio.to_thread(runner.invoke, command, list(arguments))


async def create(url: str, role: str, subject: str, *more: str) -> str:
    made = await run("create", "--role", role, "--subject", subject, "--database-url", url, *more)
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


async def make_sale(api: Api, key: str) -> Any:
    headers = {"Idempotency-Key": new_name("sale-")}
    return await api.call("POST", "/v1/sales", key=key, json=sale_request(), headers=headers)


async def test_a_key_is_shown_once_used_and_revoked(
    api: Api, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    url = fresh_database_url
    made = await run("create", "--role", "admin", "--subject", "ops", "--database-url", url)
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert key.startswith("pk_")
    assert made.stderr == (
        f"Keep it now: it is shown this once, and stored as a hash only. Its id is {key_id(key)}: "
        "admin ops of tenant default.\n"
    )
    assert (await make_sale(api, key)).status == 201
    stored = await database.fetchval("select string_agg(k::text, '') from api_keys k")
    assert key not in stored
    assert key.encode().hex() not in stored

    revoked = await run("revoke", key_id(key), "--database-url", url)
    at = time.monotonic()
    assert revoked.exit_code == 0, revoked.output
    assert revoked.stdout == (
        f"Revoked {key_id(key)} (admin ops of tenant default): no process takes it after {FRESH_SECONDS:g} s.\n"
    )
    async with api_process(nats_url, url) as other:  # one that has never seen it
        assert (await make_sale(other, key)).status == 401

    async def stopped() -> bool:
        return (await make_sale(api, key)).status == 401

    await until(stopped, FRESH_SECONDS + 5, pause=0.2)
    assert time.monotonic() - at < FRESH_SECONDS + 3

    again = await run("revoke", key_id(key), "--database-url", url)
    assert again.exit_code == 0
    assert again.stdout.startswith(f"{key_id(key)} was revoked before, at 20")


@pytest.mark.parametrize(
    ("role", "kind"), [("customer", "forbidden"), ("provider", "forbidden"), ("admin", None)]
)
async def test_a_key_has_the_role_and_the_tenant_that_it_was_given(
    api: Api, fresh_database_url: str, role: str, kind: str | None
) -> None:
    key = await create(fresh_database_url, role, "someone", "--tenant", "shop-2")
    assert (await make_sale(api, key)).kind == kind
    seen = api.app[KEYS].remembered(f"Bearer {key}")
    assert (seen.tenant, seen.subject, seen.role) == ("shop-2", "someone", role)


async def test_what_is_listed(fresh_database_url: str, database: Any) -> None:
    url = fresh_database_url
    none = await run("list", "--database-url", url)
    assert none.stdout == "There are no keys.\n"
    first = await create(url, "customer", "ada")
    second = await create(url, "provider", "p-1", "--tenant", "shop-2")
    await database.execute("update api_keys set created_at = '2026-01-02T03:04:05Z' where subject = 'ada'")
    await database.execute("update api_keys set created_at = '2026-02-03T04:05:06Z' where subject = 'p-1'")
    await run("revoke", key_id(second), "--database-url", url)
    await database.execute("update api_keys set revoked_at = '2026-03-04T05:06:07Z' where subject = 'p-1'")

    listed = await run("list", "--database-url", url)
    assert listed.stdout.splitlines() == [
        "ID                ROLE      SUBJECT  TENANT   CREATED               REVOKED",
        f"{key_id(first)}  customer  ada      default  2026-01-02T03:04:05Z  -",
        f"{key_id(second)}  provider  p-1      shop-2   2026-02-03T04:05:06Z  2026-03-04T05:06:07Z",
    ]
    assert first not in listed.output
    some = await run("list", "--tenant", "shop-2", "--json", "--database-url", url)
    assert json.loads(some.stdout) == {
        "keys": [
            {
                "key_id": key_id(second), "role": "provider", "subject": "p-1", "tenant": "shop-2",
                "created_at": "2026-02-03T04:05:06Z", "revoked_at": "2026-03-04T05:06:07Z",
            }
        ]
    }  # fmt: skip


async def test_what_machines_read(fresh_database_url: str) -> None:
    env: dict[str, str | None] = {"PEAKCLIP_DATABASE_URL": fresh_database_url}
    made = json.loads(
        (await run("create", "--role", "service", "--subject", "shop", "--json", env=env)).stdout
    )
    assert made == {
        "key": made["key"], "key_id": key_id(made["key"]), "role": "service", "subject": "shop",
        "tenant": "default",
    }  # fmt: skip
    gone = json.loads((await run("revoke", made["key_id"], "--json", env=env)).stdout)
    assert (gone["key_id"], gone["just_now"], gone["stops_within_seconds"]) == (made["key_id"], True, 10.0)
    again = json.loads((await run("revoke", made["key_id"], "--json", env=env)).stdout)
    assert (again["just_now"], again["revoked_at"]) == (False, gone["revoked_at"])


async def test_the_folder_of_a_stack_wins_over_the_environment(
    fresh_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps({"database_url": fresh_database_url}))
    env: dict[str, str | None] = {"PEAKCLIP_DATABASE_URL": "postgresql://127.0.0.1:1/elsewhere"}
    listed = await run("list", "--data", str(tmp_path), env=env)
    assert listed.stdout == "There are no keys.\n"
    elsewhere = await run("list", "--data", str(tmp_path), "--database-url", "postgresql://127.0.0.1:1/x")
    assert elsewhere.exit_code == 1


async def test_an_unknown_id_is_exit_1(fresh_database_url: str) -> None:
    unknown = await run("revoke", "0" * 16, "--database-url", fresh_database_url)
    assert unknown.exit_code == 1
    assert unknown.stderr == (
        "Error: There is no key 0000000000000000; `peakclip keys list` shows what there is.\n"
    )


async def test_a_database_that_cannot_be_used_is_one_sentence_and_exit_1(
    postgres_server: PostgresServer, fresh_database_url: str
) -> None:
    empty = await run("list", "--database-url", postgres_server.url_of("postgres"))
    missing = await run("list", "--database-url", postgres_server.url_of("no_such"))
    address = fresh_database_url.rpartition("@")[2]
    stranger = await run("list", "--database-url", f"postgresql://stranger:s3cret@{address}")
    away = await run("list", "--database-url", "postgresql://app:s3cret@127.0.0.1:1/x")
    for result, said in (
        (empty, "has no tables yet: `peakclip migrate` makes them"),
        (missing, 'refused: database "no_such" does not exist'),
        (stranger, "refused: "),
        (away, "PostgreSQL at 127.0.0.1:1 cannot be reached"),
    ):
        assert result.exit_code == 1, result.output
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
        assert "s3cret" not in result.output
