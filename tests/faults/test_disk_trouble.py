"""A disk that is full, and one that cannot sync, under NATS and under PostgreSQL while customers buy.

Customers are told to come again, and nothing is lost. PostgreSQL goes on when there is room again. NATS takes a
stream whose write failed out of service until it is started anew, which the supervisor does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import re
from collections import Counter
from pathlib import Path

import aiohttp
import asyncpg
import pytest
import structlog
from faults.buyers import Buyers
from faults.disk.disk import Disk
from faults.judge import holds, queued_once
from faults.machine import Machines, on_disks, running_on
from faults.system import System
from support import new_name, until

from peakclip.errors import OutcomeUnknownError, PeakclipError
from peakclip.jetstream import JetStream
from peakclip.load.access import create_sale
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.local.supervisor import Supervisor

RATE = 400.0
# For so long there is trouble. An API process waits 5 s for the acknowledgement of a frame before it says 503.
SECONDS = {"nats": 8.0, "postgres": 3.0}
ASKERS = 4

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
    pytest.mark.power,
]


@pytest.mark.parametrize("trouble", ["full", "fsync"])
async def test_the_supervisor_starts_nats_anew_which_stays_out_of_service(
    scratch: Path, trouble: str
) -> None:
    with Disk(scratch / "machine") as disk:
        nats = NatsServer(disk.path / "nats", scratch / "nats.log", owner=True).prepare()
        supervisor = Supervisor()
        try:
            with structlog.testing.capture_logs() as lines:
                supervisor.start(nats.spec)
                await supervisor.wait_ready()
                async with await JetStream.connect(nats.url, name="test", timeout_seconds=0.3) as js:
                    await js.create_stream({"name": "KEPT", "subjects": ["kept"]})
                    await js.publish("kept", b"1")
                    begin_trouble(disk, trouble)
                    with pytest.raises(OutcomeUnknownError):
                        await js.publish("kept", b"2")
                    end_trouble(disk)
                    # What the chart's probes ask, and why the first one is none for a server that is alone.
                    assert (await nats.health(**{"js-enabled-only": True}))["status"] == "ok"
                    assert "write error" in (await nats.health())["error"]

                    async def works() -> bool:
                        with contextlib.suppress(PeakclipError):
                            await js.publish("kept", b"3")
                            return True
                        return False

                    await until(works, 30, pause=0.1)
                    assert (await js.stream_state("KEPT")).messages >= 2
        finally:
            await supervisor.stop()
    sick = [one for one in lines if one["event"] == "process_sick"]
    assert len(sick) == 1, lines
    assert "'APP > KEPT' write error" in sick[0]["why"]


async def test_the_supervisor_starts_postgresql_anew_whose_recovery_has_failed(scratch: Path) -> None:
    with Disk(scratch / "machine") as disk:
        postgres = PostgresServer(disk.path / "postgres", scratch / "postgres.log").prepare()
        disk.sync()
        supervisor = Supervisor()
        try:
            supervisor.start(dataclasses.replace(postgres.spec, sick_seconds=1.0, stop_seconds=1.0))
            await supervisor.wait_ready()
            connection = await asyncpg.connect(postgres.url_of("postgres"))
            await connection.execute("create table kept (number int)")
            begin_trouble(disk, "fsync")
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await connection.execute("insert into kept values (1)")
            await asyncio.sleep(3)
            end_trouble(disk)
            assert postgres.spec.readiness is not None
            await until(postgres.spec.readiness, 30, pause=0.2)
            connection = await asyncpg.connect(postgres.url_of("postgres"))
            await connection.execute("insert into kept values (2)")
            await connection.close()
        finally:
            await supervisor.stop()


@pytest.mark.long
@pytest.mark.parametrize("whose", ["nats", "postgres"])
async def test_a_full_disk_and_one_that_cannot_sync(
    scratch: Path, data: Path, chance: random.Random, whose: str
) -> None:
    async with (
        on_disks(scratch) as machines,
        machines.supervised("postgres"),
        running_on(machines, data, RATE) as system,
    ):
        buyers = Buyers(system.credentials["url"], system.credentials["service"], chance)
        sale = await create_sale(system.credentials["url"], system.credentials["admin"], stock=1_000_000)
        accepted: dict[str, int] = {}
        for trouble in ("full", "fsync"):
            async with asyncio.TaskGroup() as group:
                group.create_task(buyers.wave(sale, 500, rate=100, again=0.0))
                await asyncio.sleep(0.5)
                told = group.create_task(ask(system, sale, accepted, SECONDS[whose]))
                await while_in_trouble(machines, whose, trouble)
                await told
            print(f"{whose} {trouble}: {dict(told.result())}, {dict(buyers.causes)}")
            refused = {answer for answer in told.result() if answer != "202"}
            assert all(
                re.fullmatch(r"503 \S+-unavailable, come again in \d+ s", answer) for answer in refused
            )
            assert refused or whose == "postgres", "it was in trouble"
            assert set(buyers.causes) <= {"queue-unavailable", "timeout"}
            await system.until_ready()
            buyers.causes.clear()
        holds(await system.audit(buyers.accepted | accepted, RATE))
        assert not buyers.wrong, (len(buyers.wrong), buyers.wrong[:5])
        await queued_once(system)


async def while_in_trouble(machines: Machines, whose: str, trouble: str) -> None:
    disk = machines.disks[whose]
    begin_trouble(disk, trouble)
    await asyncio.sleep(SECONDS[whose])
    end_trouble(disk)
    ran = machines.runs(whose)
    print(f"{whose} {'still runs' if ran else 'has ended'}")
    if whose == "nats":
        assert "write error" in (await machines.heal("nats") or "")


def begin_trouble(disk: Disk, trouble: str) -> None:
    if trouble == "full":
        disk.set_room(0)
    else:
        disk.fail("fsync")


def end_trouble(disk: Disk) -> None:
    disk.set_room(None)
    disk.fail()


async def ask(system: System, sale: str, accepted: dict[str, int], seconds: float) -> Counter[str]:
    """One order after another, asked for once each, by several at once: how they are answered, in words.

    Who is told to come again and does not, never knows what became of the order.
    """
    answers: Counter[str] = Counter()
    headers = {"Authorization": f"Bearer {system.credentials['service']}"}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds

    async def one_after_another(session: aiohttp.ClientSession) -> None:
        while loop.time() < deadline:
            name = new_name("asker-")
            path, own = f"/v1/sales/{sale}/orders", {"Idempotency-Key": name, "Peakclip-Customer": name}
            async with session.post(path, json={"quantity": 1}, headers=own) as answer:
                body = await answer.json()
                words = str(answer.status)
                if answer.status == 202:
                    accepted[body["order_id"]] = 1
                else:
                    kind = body["type"].rpartition("/")[2]
                    words += f" {kind}, come again in {answer.headers.get('Retry-After')} s"
                answers[words] += 1
            await asyncio.sleep(0.1)

    async with aiohttp.ClientSession(system.credentials["url"], headers=headers) as session:
        await asyncio.gather(*(one_after_another(session) for _ in range(ASKERS)))
    return answers
