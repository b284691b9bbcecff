"""The operator as a process beside the cluster, with the rights of its Role and with nothing but them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from e2e.shell import Kubectl

ACCOUNT: Final = "peakclip-operator"
RULES: Final[list[dict[str, list[str]]]] = [
    {"apiGroups": ["peakclip.dev"], "resources": ["workerpools"], "verbs": ["list", "watch"]},
    {"apiGroups": ["peakclip.dev"], "resources": ["workerpools/status"], "verbs": ["patch"]},
    {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "patch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["peakclip-operator"],
        "verbs": ["get", "update"],
    },
]


def role(namespace: str, rules: list[dict[str, list[str]]] | None = None) -> dict[str, Any]:
    metadata = {"name": ACCOUNT, "namespace": namespace}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": RULES if rules is None else rules,
    }


async def account(kubectl: Kubectl) -> None:
    """The ServiceAccount with its Role."""
    metadata = {"name": ACCOUNT, "namespace": kubectl.namespace}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    items = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}, role(kubectl.namespace)]
    await kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items, binding]}))


async def kubeconfig(kubectl: Kubectl, folder: Path, port: int | None = None) -> Path:
    """Of the account. With `port`, the API server is asked through it: a Gate of the test."""
    raw = await kubectl.get_raw_config()
    token = (await kubectl("create", "token", ACCOUNT, "--duration=1h")).strip()
    cluster = raw["clusters"][0]["cluster"]
    if port is not None:
        cluster = {**cluster, "server": f"https://{urlsplit(cluster['server']).hostname}:{port}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / f"kubeconfig-{port or 'direct'}.json"
    path.write_text(json.dumps(config))
    return path


class Operator:
    """A running `peakclip operator --kubernetes`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.log = log

    async def get(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def metric(self, line: str) -> float:
        """The value of a line that begins so."""
        _, text = await self.get("/metrics")
        return float(next(one.rpartition(" ")[2] for one in text.splitlines() if one.startswith(line)))

    async def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(15):
            return await self.process.wait()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextlib.asynccontextmanager
async def operator(
    name: str, config: Path, nats_url: str, namespace: str, folder: Path, **settings: str
) -> AsyncIterator[Operator]:
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PEAKCLIP_")},
        "KUBECONFIG": str(config),
        "PEAKCLIP_NATS_URL": nats_url,
        "POD_NAME": name,
        "POD_NAMESPACE": namespace,
        "PEAKCLIP_LEASE_SECONDS": "5",
        **settings,
    }
    log = folder / f"{name}.log"
    with log.open("w") as sink:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("peakclip"),
            "operator",
            "--kubernetes",
            env=env,
            stdout=sink,
            stderr=sink,
        )
    one = Operator(name, process, 0, log)
    try:
        async with asyncio.timeout(30):
            while not (ready := [line for line in one.lines() if line["event"] == "ready"]):
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.1)
        one.port = ready[0]["management_port"]
        yield one
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Gate:
    """A port that leads to the API server, until it is shut."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        self._open |= {writer, back}
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
