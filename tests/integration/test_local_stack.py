"""The embedded servers and the stack, with real processes that are really killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil
import pytest

from peakclip import topology
from peakclip.cli.migrate import migrate
from peakclip.errors import ForbiddenError
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import read_pace, set_pace
from peakclip.local.folder import STACK_VARIABLE, temporary
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.local.process import Child, ProcessError, ProcessSpec
from peakclip.local.stack import Stack, StackOptions

pytestmark = pytest.mark.integration


async def test_the_server_says_that_it_syncs_every_write(js: JetStream) -> None:
    assert await js.is_durable([topology.INTAKE, topology.SECKILL, topology.STOCK])


async def test_a_message_survives_kill_minus_nine(nats_server: NatsServer, js: JetStream) -> None:
    await js.publish(topology.stock_subject("s"), b"", headers={"Nats-Incr": "+5"})
    pid = nats_server.pid
    await nats_server.kill()
    await nats_server.start()
    assert nats_server.pid != pid
    async with await JetStream.connect(nats_server.url, name="after") as again:
        assert (await again.increment(topology.stock_subject("s"), 1)).value == 6


async def test_the_database_survives_kill_minus_nine(
    postgres_server: PostgresServer, fresh_database_url: str, database: Any
) -> None:
    await database.execute("create table kept (n int)")
    await database.execute("insert into kept values (7)")
    await postgres_server.kill()
    await postgres_server.start()
    assert await database.fetchval("select n from kept") == 7
    assert await database.fetchval("show synchronous_commit") == "on"
    assert await database.fetchval("show fsync") == "on"
    assert await database.fetchval("show unix_socket_directories") == ""


async def test_a_pid_file_that_names_a_stranger_of_the_same_account_is_no_obstacle(data: Path) -> None:
    """After a reboot the number of the dead server may belong to anybody; PostgreSQL alone would not start."""
    server = PostgresServer(data.parent / "postgres").prepare()
    await server.start()
    cluster = Path(server.spec.argv[2])
    pid_file = cluster / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    await server.kill()
    sleep = ["/bin/sleep", "60"]
    stranger = Child(
        ProcessSpec("stranger", sleep, {}, data.parent / "stranger.log", account=server.spec.account)
    )
    try:
        while psutil.Process(stranger.pid).name() != "sleep":  # noqa: ASYNC110 - until it has changed its account
            await asyncio.sleep(0.01)
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        await server.start()
        assert server.running
        assert stranger.running
    finally:
        await stranger.stop()
        await server.stop()


async def test_migrations_started_at_once_do_not_meet(postgres_server: PostgresServer) -> None:
    url = postgres_server.url_of("migrated_twice")
    await asyncio.gather(*(asyncio.to_thread(asyncio.run, migrate(url)) for _ in range(2)))
    connection = await asyncpg.connect(url)
    folder = resources.files("peakclip.store").joinpath("migrations")
    expected = sum(entry.name.endswith(".sql") for entry in folder.iterdir())
    assert await connection.fetchval("select count(*) from schema_migrations") == expected
    await connection.close()


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="peakclip-stack-", dir=temporary()) as name:
        if os.geteuid() == 0:
            Path(name).chmod(0o711)
        yield Path(name) / "data"


def environ(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PEAKCLIP_")} | more


def belonging_to(folder: Path) -> list[psutil.Process]:
    """Living processes of the stack on this folder, workers and servers included."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(STACK_VARIABLE) == str(folder) or str(folder) in " ".join(
                process.cmdline()
            )
            if ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


async def until_ready(stack: Stack, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while missing := await stack.missing():
        assert time.monotonic() < deadline, missing
        await asyncio.sleep(0.1)


async def until_restarted(stack: Stack, name: str, old_pid: int, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while {one.name: one.pid for one in stack.processes()}.get(name) in (None, old_pid):
        assert time.monotonic() < deadline, f"{name} was not restarted"
        await asyncio.sleep(0.02)


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_a_stack_survives_the_kill_of_each_of_its_processes(data: Path) -> None:
    options = StackOptions(data=data, rate=100, min_workers=1, max_workers=1)
    async with Stack(options, environ()) as stack:
        names = [one.name for one in stack.processes()]
        assert sorted(names) == ["api-1", "api-2", "nats", "operator", "postgres", "relay"]
        assert stack.durable is True
        for name in names:
            before = {one.name: one.pid for one in stack.processes()}
            os.kill(before[name], signal.SIGKILL)
            await until_restarted(stack, name, before[name])
            await until_ready(stack)
            after = {one.name: one.pid for one in stack.processes()}
            assert {key for key in after if after[key] != before[key]} == {name}, "only the killed one is new"
            listed = {row["name"]: row["pid"] for row in json.loads((data / "processes.json").read_text())}
            assert listed == after
        management = stack.credentials["management_url"]
        assert (await get(f"{management}/readyz"))[0] == 200
        assert "peakclip_accept_seconds_count" in (await get(f"{management}/metrics"))[1]
    assert belonging_to(data) == []
    logs = {path.name: path.read_text() for path in (data / "logs").iterdir()}
    assert [name for name, text in logs.items() if "nats_forbidden" in text] == []


async def test_data_keys_and_ports_are_kept_and_a_second_stack_is_refused(data: Path) -> None:
    options = StackOptions(data=data, rate=100, api_processes=1)
    async with Stack(options, environ()) as stack:
        first = dict(stack.credentials)
        connection = await asyncpg.connect(first["database_url"])
        await connection.execute("create table kept as select 7 as n")
        await connection.close()
        async with await JetStream.connect(first["nats_url"], name="test") as js:
            await set_pace(js, topology.REAPER_POOL, limit_per_second=77)
        with pytest.raises(ProcessError, match=rf"Another Peakclip \(pid {os.getpid()}\) runs on"):
            async with Stack(options, environ()):
                pass
        assert stat.S_IMODE((data / "credentials.json").stat().st_mode) == 0o600
        assert json.loads((data / "credentials.json").read_text()) == first
        command_lines = " ".join(" ".join(one.cmdline()) for one in belonging_to(data))
        for name in ("admin", "service"):
            assert first[name] not in command_lines
        assert first["nats_url"].split(":")[2].split("@")[0] not in command_lines
    async with Stack(options, environ()) as stack:
        assert dict(stack.credentials) == first
        connection = await asyncpg.connect(stack.credentials["database_url"])
        assert await connection.fetchval("select n from kept") == 7
        assert await connection.fetchval("select count(*) from api_keys") == 2
        await connection.close()
        async with await JetStream.connect(stack.credentials["nats_url"], name="test") as js:
            found = await read_pace(js, topology.REAPER_POOL)
            assert found is not None
            assert found[0].limit_per_second == 77
            with pytest.raises(ForbiddenError, match=r"does not allow admin to publish to stock\.kept$"):
                await js.increment(topology.stock_subject("kept"), 1)


async def test_servers_that_exist_are_used(
    data: Path, fresh_database_url: str, js: JetStream, nats_url: str
) -> None:
    given = environ(PEAKCLIP_NATS_URL=nats_url, PEAKCLIP_DATABASE_URL=fresh_database_url)
    async with Stack(StackOptions(data=data, rate=100, api_processes=1), given) as stack:
        assert [one.name for one in stack.processes()] == ["relay", "operator", "api-1"]
        assert stack.credentials["nats_url"] == nats_url
        assert stack.credentials["database_url"] == fresh_database_url
    assert not (data / "postgres").exists()


async def test_a_taken_port_is_said_before_anything_starts(data: Path) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ProcessError, match=f"Port {port} is taken"):
        async with Stack(StackOptions(data=data, port=port), environ()):
            pass
    server.close()
    await server.wait_closed()
    assert not (data / "nats").exists()


def start_up(data: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "peakclip", "up", "--data", str(data), "--rate", "100"]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environ())
    deadline = time.monotonic() + 60
    while "Peakclip is up." not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.1)
    return process


def test_up_stops_cleanly_on_sigterm_and_leaves_nothing_when_killed(data: Path, tmp_path: Path) -> None:
    process = start_up(data, tmp_path / "first")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, (tmp_path / "first").read_text()
    assert belonging_to(data) == []

    process = start_up(data, tmp_path / "second")
    process.kill()
    process.wait(10)
    deadline = time.monotonic() + 30
    while left := belonging_to(data):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)

    process = start_up(data, tmp_path / "third")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
