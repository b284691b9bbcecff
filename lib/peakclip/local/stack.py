"""The whole of Peakclip on one machine: servers, schema, streams, keys and processes, from nothing to ready.

    async with Stack(StackOptions(data=Path("data"), rate=100)) as stack:
        print(stack.credentials["url"])

PEAKCLIP_NATS_URL and PEAKCLIP_DATABASE_URL in the environment name servers that exist: then the embedded ones
are not started, each on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict

import structlog

from peakclip import roles, store, topology
from peakclip.credentials import new_key, store_key
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.local import ports
from peakclip.local.files import read_json, write_json
from peakclip.local.folder import STACK_VARIABLE, DataFolder
from peakclip.local.management import management
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.local.process import Adapt, ProcessError, ProcessSpec
from peakclip.local.server import Server
from peakclip.local.supervisor import Supervisor, run_all, run_to_end

log = structlog.get_logger()

TENANT: Final = "default"
_USUAL_PORT: Final = 8080
_IMPATIENT_SECONDS: Final = 10.0
_BEHIND_ACCEPTING: Final = 5  # niceness of relay and workers: what is accepted can wait, who asks cannot
_WORKERS_STOP_SECONDS: Final = 40.0  # the operator lets its workers finish what they have in hand


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What `peakclip up` and `peakclip demo` let people choose."""

    data: Path | None = None  # None: a temporary folder, removed at the end
    port: int | None = None  # of the API; None: the last one, 8080, or any free one
    rate: float | None = None  # orders per second; None: the rate in force, or the operator's default
    min_workers: int = 1
    max_workers: int = 20
    api_processes: int = 2
    work_ms: int = 0  # stand-in for a third party's time per order
    stabilization_seconds: float | None = None  # for spare workers; None: the operator's default
    effects_rate: float | None = None  # of the pool `effects`, per second; None: as for `rate`
    reaper_rate: float | None = None
    shared_rate: float | None = None  # of all pools together; None: each has its own


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    name: str  # nats, postgres, relay, operator, api-1 …
    pid: int
    management_url: str | None  # None for the servers


class Credentials(TypedDict):
    """What DIR/credentials.json holds (the contract, 7.2)."""

    url: str
    management_url: str
    nats_url: str
    database_url: str
    admin: str
    service: str


class Stack:
    """Entered: everything is ready. Left: everything has stopped. `adapt` may change what is kept running."""

    def __init__(
        self, options: StackOptions, environ: Mapping[str, str] = os.environ, adapt: Adapt = lambda spec: spec
    ) -> None:
        self._options = options
        self._environ = environ
        self._adapt = adapt
        self._supervisor = Supervisor(self._changed)
        self._exit = contextlib.AsyncExitStack()
        self._folder: DataFolder | None = None
        self._credentials: Credentials | None = None
        self._given_ports: set[int] = set()
        self._nats_urls: dict[str, str] = {}  # by role
        self.durable: bool | None = None  # read back from the servers; None: NATS does not tell

    @property
    def directory(self) -> Path:
        if self._folder is None:
            raise ProcessError("The stack was not started.")
        return self._folder.path

    @property
    def credentials(self) -> Credentials:
        if self._credentials is None:
            raise ProcessError("The stack was not started.")
        return self._credentials

    def processes(self) -> list[ProcessInfo]:
        """What runs now; a process that is between crash and restart is not in the list."""
        return [ProcessInfo(one.name, one.pid, one.management_url) for one in self._supervisor.running()]

    async def missing(self) -> dict[str, list[str]]:
        """Processes that are not ready, with the reasons."""
        return await self._supervisor.missing()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as undo:
            self._folder = await asyncio.to_thread(DataFolder, self._options.data)
            undo.callback(self._folder.close)
            await self._start(self._folder, undo)
            self._exit = undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    async def _start(self, folder: DataFolder, undo: contextlib.AsyncExitStack) -> None:
        port = self._choose_port(folder, undo)
        management_port = self._free_port(folder.settings().get("management_port"))
        database_url = await self._servers(folder, undo)
        base = self._base_env(folder, database_url)
        async with self._impatience("the servers and the migrations (logs/migrate.log)"):
            # The migration waits for the server by itself; meanwhile it has done its imports.
            await run_all(
                self._supervisor.wait_ready(), run_to_end(self._process("migrate", "migrate", base))
            )
            keys = await self._prepare(folder, database_url)
        serving = management(self._supervisor, folder.metrics, management_port)
        management_url = await undo.enter_async_context(serving)
        self._credentials = Credentials(
            url=f"http://{ports.LOOPBACK}:{port}",
            management_url=management_url,
            nats_url=self._nats_urls[roles.ADMIN],
            database_url=database_url,
            **keys,
        )
        write_json(folder.credentials, self._credentials)
        write_json(folder.path / "settings.json", {"port": port, "management_port": management_port})
        for spec in self._specs(base, port):
            self._supervisor.start(self._adapt(spec))
        async with self._impatience("the processes"):
            await self._supervisor.wait_ready()

    @contextlib.asynccontextmanager
    async def _impatience(self, what: str) -> AsyncIterator[None]:
        """Says every ten seconds what is waited for: servers that were given may stay away for ever."""

        async def say() -> None:
            while True:
                await asyncio.sleep(_IMPATIENT_SECONDS)
                log.warning("still_starting", waiting_for=what, not_ready=await self._supervisor.missing())

        task = asyncio.create_task(say(), name="impatience")
        try:
            yield
        finally:
            task.cancel()

    # -- servers -------------------------------------------------------------------------------------------

    async def _servers(self, folder: DataFolder, undo: contextlib.AsyncExitStack) -> str:
        """Starts what is not given, and returns PostgreSQL's address; does not wait until they answer."""
        nats_url = self._environ.get("PEAKCLIP_NATS_URL")
        database_url = self._environ.get("PEAKCLIP_DATABASE_URL")
        nats = NatsServer(folder.path / "nats", folder.logs / "nats.log")
        postgres = PostgresServer(folder.path / "postgres", folder.logs / "postgres.log")
        if not folder.kept:
            undo.callback(postgres.discard)
        undo.push_async_callback(self._supervisor.stop)  # runs first: before the data go
        wanted: list[Server] = [one for one, url in ((nats, nats_url), (postgres, database_url)) if not url]
        # A thread cannot be cancelled: both come to an end before the first failure is raised.
        preparing = [asyncio.to_thread(server.prepare) for server in wanted]
        for done in await asyncio.gather(*preparing, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
        for server in wanted:
            env = {**server.spec.env, STACK_VARIABLE: str(folder.path)}
            self._supervisor.start(self._adapt(dataclasses.replace(server.spec, env=env)))
        # On a server that was given everybody is the user that was given.
        self._nats_urls = {role: nats_url or nats.url_of(role) for role in roles.ROLES}
        return database_url or postgres.url

    async def _prepare(self, folder: DataFolder, database_url: str) -> _Keys:
        """Development keys, the same again on kept data; and whether the servers sync every write."""
        async with await JetStream.connect(self._nats_urls[roles.SETUP], name="peakclip up") as js:
            with contextlib.suppress(PeakclipError):
                self.durable = await js.is_durable([topology.INTAKE, topology.SECKILL, topology.STOCK])
        kept = read_json(folder.credentials) or {}
        keys = _Keys(admin=kept.get("admin") or new_key(), service=kept.get("service") or new_key())
        pool = await store.connect(database_url, max_size=1)
        try:
            await store_key(pool, keys["admin"], TENANT, "admin", "admin")
            await store_key(pool, keys["service"], TENANT, "storefront", "service")
            if self.durable:
                committed = await pool.fetchval("show synchronous_commit") in ("on", "remote_apply")
                self.durable = committed and await pool.fetchval("show fsync") == "on"
        finally:
            await pool.close()
        return keys

    # -- processes -----------------------------------------------------------------------------------------

    def _specs(self, base: Mapping[str, str], port: int) -> list[ProcessSpec]:
        options = self._options
        operator = {
            **base,
            "PEAKCLIP_WORKER_NATS_URL": self._nats_urls[roles.WORKER],
            "PEAKCLIP_MIN_WORKERS": str(options.min_workers),
            "PEAKCLIP_MAX_WORKERS": str(options.max_workers),
            "PEAKCLIP_WORK_MS": str(options.work_ms),
        }
        wishes = {
            "PEAKCLIP_STABILIZATION_SECONDS": options.stabilization_seconds,
            "PEAKCLIP_RATE": options.rate,
            "PEAKCLIP_EFFECTS_RATE": options.effects_rate,
            "PEAKCLIP_REAPER_RATE": options.reaper_rate,
            "PEAKCLIP_SHARED_RATE": options.shared_rate,
        }
        operator |= {name: f"{value:g}" for name, value in wishes.items() if value is not None}
        api = {**base, "PEAKCLIP_HOST": ports.LOOPBACK, "PEAKCLIP_PORT": str(port)}
        return [
            dataclasses.replace(self._process("relay", "relay", base), nice=_BEHIND_ACCEPTING),
            dataclasses.replace(
                self._process("operator", "operator", operator),
                nice=_BEHIND_ACCEPTING,
                stop_seconds=_WORKERS_STOP_SECONDS,
                death_signal=signal.SIGTERM,  # so that it still ends its workers
            ),
            *(self._process(f"api-{number}", "api", api) for number in range(1, options.api_processes + 1)),
        ]

    def _process(self, name: str, command: str, env: Mapping[str, str]) -> ProcessSpec:
        port = self._free_port()
        nats_url = self._nats_urls[roles.SETUP if command == "migrate" else command]
        return ProcessSpec(
            name=name,
            # -P: a folder of the user's named like one of our modules must not be imported instead.
            argv=[sys.executable, "-P", "-m", "peakclip", command],
            env={**env, "PEAKCLIP_NATS_URL": nats_url, "PEAKCLIP_MANAGEMENT_PORT": str(port)},
            log=self.directory / "logs" / f"{name}.log",
            management_url=f"http://{ports.LOOPBACK}:{port}",
        )

    def _base_env(self, folder: DataFolder, database_url: str) -> dict[str, str]:
        """Addresses hold passwords: they go by the environment, which `ps` shows to nobody else."""
        return {
            **self._environ,
            "PEAKCLIP_DATABASE_URL": database_url,
            "PEAKCLIP_MANAGEMENT_HOST": ports.LOOPBACK,
            "PEAKCLIP_LOG_JSON": "true",
            "PROMETHEUS_MULTIPROC_DIR": str(folder.metrics),
            "PYTHONUNBUFFERED": "1",
            STACK_VARIABLE: str(folder.path),
        }

    def _choose_port(self, folder: DataFolder, undo: contextlib.AsyncExitStack) -> int:
        """Held until the stack has stopped, since the API processes only share it."""
        wanted = self._options.port
        port = wanted or self._free_port(folder.settings().get("port") or _USUAL_PORT)
        try:
            undo.callback(ports.reserve(port).close)
        except OSError as exc:
            raise ProcessError(f"Port {port} is taken: choose another with --port.") from exc
        return port

    def _free_port(self, preferred: int | None = None) -> int:
        """None of this stack twice: whoever gets it may not have bound it when the next one is looked for."""
        while (port := ports.free_port(preferred)) in self._given_ports:
            preferred = None
        self._given_ports.add(port)
        return port

    def _changed(self) -> None:
        if self._folder is not None:
            self._folder.write_processes(self._supervisor.running())


class _Keys(TypedDict):
    admin: str
    service: str


__all__ = ["Credentials", "ProcessInfo", "Stack", "StackOptions"]
