"""The release under test as its users reach it: the API by its Ingress, the rest by port-forwards."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from e2e.place import Place
from e2e.shell import ROOT, Helm, Kubectl, run
from e2e.story import Api
from e2e.wait import wait_for

from peakclip.load import LoadOptions, run_load
from peakclip.load.access import post

_DAY: Final = 86_400
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass
class Orders:
    """What customers were told."""

    accepted: dict[str, int] = field(default_factory=dict)  # order id -> quantity
    refused: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)  # of attempts that had to be repeated
    errors: int = 0  # no final answer
    sent: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0

    def add(self, figures: Mapping[str, Any]) -> None:
        self.refused += Counter(figures["refused"])
        self.causes += Counter(figures["error_causes"])
        self.errors += figures["errors"]
        self.sent += figures["orders"]
        self.seconds = figures["accept_seconds"]
        self.slowest_ms = max(self.slowest_ms, figures["accept_max_ms"] or 0.0)


@dataclass(frozen=True, slots=True)
class Keys:
    admin: str
    service: str


class System:
    """One release in its namespace."""

    def __init__(self, place: Place, namespace: str, release: str, keys: Keys, api: Api) -> None:
        self.place = place
        self.namespace = namespace
        self.kubectl = Kubectl(place.env, namespace)
        self.helm = Helm(place.env, namespace, release)
        self.fullname = release if "peakclip" in release else f"{release}-peakclip"
        self.keys = keys
        self.api = api

    # -- customers -----------------------------------------------------------------------------------------

    async def sale(self, stock: int, *, pay_within: int = _DAY) -> str:
        """Open for a day. Orders are not to expire in the middle of another test, unless that is the test."""
        now = datetime.now(UTC)
        body = {
            "product": "Night-time grooming, limited edition",
            "stock": stock,
            "price_cents": 4900,
            "opens_at": (now - timedelta(seconds=5)).isoformat(),
            "closes_at": (now + timedelta(days=1)).isoformat(),
            "per_customer_limit": 1,
            "pay_within_seconds": pay_within,
        }
        return str((await post(self.place.entry, "/v1/sales", self.keys.admin, body))["sale_id"])

    async def burst(self, sale: str, orders: int, *, connections: int = 256) -> Orders:
        """By `peakclip load`, as anybody would."""
        with tempfile.TemporaryDirectory(prefix="peakclip-e2e-") as folder:
            report, accepted = Path(folder) / "report.json", Path(folder) / "accepted"
            await run(
                sys.executable, "-P", "-m", "peakclip", "load", "--url", self.place.entry, "--sale", sale,
                "--orders", str(orders), "--connections", str(connections), "--report", report,
                "--accepted", accepted, "--progress", "none",
                env={"PEAKCLIP_KEY": self.keys.service}, seconds=150,
            )  # fmt: skip
            figures = json.loads(report.read_text())["burst"]
            told = Orders(accepted=dict.fromkeys(accepted.read_text().split(), 1))
        told.add(figures)
        return told

    @contextlib.asynccontextmanager
    async def steady(
        self, sale: str, rate: float, told: Orders, *, connections: int = 16
    ) -> AsyncIterator[None]:
        """Customers at an even rate while the block runs; at its end the last of them get their answers."""
        ended = asyncio.Event()

        async def customers() -> None:
            while not ended.is_set():
                options = LoadOptions(
                    url=self.place.entry, sale=sale, key=self.keys.service, orders=int(rate * 5), rate=rate,
                    connections=connections, deadline=60.0, connect_within=60.0,
                )  # fmt: skip
                result = await run_load(options)
                told.accepted |= result.accepted_ids
                told.add(result.to_json())

        task = asyncio.create_task(customers())
        try:
            yield
            ended.set()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- data ----------------------------------------------------------------------------------------------

    async def secret(self, name: str) -> dict[str, str]:
        data = (await self.kubectl.get("secret", f"{self.fullname}-{name}"))["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @contextlib.asynccontextmanager
    async def database_url(self) -> AsyncIterator[str]:
        url = (await self.secret("postgresql"))["url"]
        async with self.kubectl.forward(f"pod/{self.fullname}-postgresql-0", 5432) as port:
            yield _at(url, port)

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        """A connection of the test's own."""
        async with self.database_url() as url:
            connection = await asyncpg.connect(url, timeout=20, command_timeout=60)
            try:
                yield connection
            finally:
                with contextlib.suppress(*_AWAY):
                    await connection.close(timeout=5)

    async def moments(self, sale: str, column: str = "committed_at") -> list[float]:
        """Epoch seconds, ascending: of the rows of the sale that have reached this moment."""
        async with self.database() as connection:
            rows = await connection.fetch(
                f"select extract(epoch from {column})::float8 as at from audit_orders"
                f" where sale_id = $1 and {column} is not null order by 1",
                sale,
            )
        return [row["at"] for row in rows]

    async def started_since(self, begin: float) -> list[float]:
        """When orders of any sale started, epoch seconds, ascending."""
        async with self.database() as connection:
            rows = await connection.fetch(
                "select extract(epoch from started_at)::float8 as at from audit_orders"
                " where started_at >= to_timestamp($1) order by 1",
                begin,
            )
        return [row["at"] for row in rows]

    async def until_rows(self, sale: str, wanted: int, seconds: float, where: str = "true") -> None:
        """Until the sale has so many rows of that kind. One connection, asked twice a second."""

        async def count() -> int:
            query = f"select count(*) from audit_orders where sale_id = $1 and {where}"
            return int(await connection.fetchval(query, sale))

        async with self.database() as connection:
            await wait_for(f"{wanted} rows with {where}", count, lambda seen: seen >= wanted, seconds)

    async def audit(
        self, accepted: Mapping[str, int], rate: float, burst: int, wait_seconds: float = 120.0
    ) -> dict[str, Any]:
        """`peakclip audit` from outside, with what the customers were told. Fails on any violation."""
        nats = (await self.secret("nats"))["admin-url"]
        with tempfile.NamedTemporaryFile("w", prefix="peakclip-e2e-") as file:
            file.writelines(f"{order} {quantity}\n" for order, quantity in accepted.items())
            file.flush()
            async with (
                self.database_url() as database_url,
                self.kubectl.forward(f"pod/{self.fullname}-nats-0", 4222) as port,
            ):
                said = await run(
                    sys.executable, "-P", "-m", "peakclip", "audit", "--json", "--accepted", file.name,
                    "--rate", f"{rate:g}", "--burst", str(burst), "--wait", f"{wait_seconds:g}",
                    env={"PEAKCLIP_NATS_URL": _at(nats, port), "PEAKCLIP_DATABASE_URL": database_url},
                    seconds=wait_seconds + 120, codes=(0, 1, 2),
                )  # fmt: skip
        assert said.startswith("{"), said
        result: dict[str, Any] = json.loads(said)
        for check in result["checks"]:
            print(f"  {check['invariant']} {check['name']}: {check['outcome']} ({check['detail']})")
        violations = [violation for check in result["checks"] for violation in check["violations"]]
        assert not violations, json.dumps(violations)[:3_000]
        assert result["at_rest"], result["under_way"]
        assert (result["lost"], result["duplicated"], result["oversold"], result["undersold"]) == (0, 0, 0, 0)
        return result

    # -- pools ---------------------------------------------------------------------------------------------

    def pool(self, name: str) -> str:
        return f"{self.fullname}-{name}"

    def workers(self, pool: str) -> str:
        """Labels of the pool's pods, for a query."""
        return f"app.kubernetes.io/instance={self.helm.release},peakclip.dev/pool={pool}"

    async def resource(self, pool: str) -> dict[str, Any]:
        return await self.kubectl.get("workerpool", self.pool(pool))

    async def change(self, pool: str, spec: Mapping[str, Any]) -> float:
        """Merges into the spec; returns the time at which kubectl was called, epoch seconds."""
        began = time.time()
        await self.kubectl.patch(f"workerpool/{self.pool(pool)}", {"spec": spec})
        return began

    async def until_workers(self, pool: str, wanted: int, seconds: float) -> None:
        """Until the Deployment has so many, all of them ready."""

        async def seen() -> tuple[int, int]:
            found = await self.kubectl.get("deployment", f"{self.fullname}-worker-{pool}")
            return found["spec"]["replicas"], found["status"].get("readyReplicas", 0)

        await wait_for(
            f"{wanted} workers of {pool}", seen, lambda counts: counts == (wanted, wanted), seconds
        )

    async def condition(self, pool: str, kind: str) -> dict[str, Any]:
        """The condition of that type, or an empty one."""
        conditions = (await self.resource(pool)).get("status", {}).get("conditions", [])
        return next((dict(one) for one in conditions if one["type"] == kind), {})

    async def upgrade(self, *args: str, seconds: float = 240.0) -> None:
        """`helm upgrade --wait` with what was given before and these changes."""
        await self.helm(
            "upgrade", ROOT / "charts/peakclip", "--reuse-values", "--wait", f"--timeout={seconds:g}s", *args,
            seconds=seconds + 30,
        )  # fmt: skip


def _at(url: str, port: int) -> str:
    """The same user and database, by a port-forward."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))


async def make_keys(kubectl: Kubectl, fullname: str) -> Keys:
    """As NOTES say: in a pod that reaches the database."""

    async def create(role: str) -> str:
        said = await kubectl.exec(
            f"deployment/{fullname}-relay", "peakclip", "keys", "create", "--role", role,
            "--subject", f"e2e-{role}", "--json",
        )  # fmt: skip
        return str(json.loads(said)["key"])

    return Keys(admin=await create("admin"), service=await create("service"))
