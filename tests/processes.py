"""Processes of Peakclip one by one, for tests that choose what starts when."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from support import ADMIN_KEY, new_name, sale_request

from peakclip.local import ports
from peakclip.local.probe import not_ready
from peakclip.local.process import Child, ProcessSpec

COMMANDS = {
    "api": ["api"],
    "worker": ["worker", "--pool", "orders"],
    "relay": ["relay"],
    "operator": ["operator"],
}


class Processes:
    """The four kinds, each as its role on NATS, beside the servers of the test; the operator forks its workers."""

    def __init__(self, folder: Path, nats_url_of: Callable[[str], str], database_url: str) -> None:
        self._folder, self._nats_url_of, self.database_url = folder, nats_url_of, database_url
        self.port = ports.free_port()
        self.running: dict[str, Child] = {}

    def start(self, name: str, arguments: list[str] | None = None) -> Child:
        port = ports.free_port()
        ours = {
            "PEAKCLIP_NATS_URL": self._nats_url_of("setup" if name == "migrate" else name),
            "PEAKCLIP_WORKER_NATS_URL": self._nats_url_of("worker"),
            "PEAKCLIP_DATABASE_URL": self.database_url,
            "PEAKCLIP_MANAGEMENT_PORT": str(port),
            "PEAKCLIP_PORT": str(self.port),
            "PEAKCLIP_RECONCILE_AFTER_SECONDS": "6",  # an API process gives up a group after 5
        }
        child = Child(
            ProcessSpec(
                name,
                [sys.executable, "-P", "-m", "peakclip", *(arguments or COMMANDS[name])],
                {key: value for key, value in os.environ.items() if not key.startswith("PEAKCLIP_")} | ours,
                self._folder / f"{name}.log",
                management_url=f"http://{ports.LOOPBACK}:{port}",
            )
        )
        self.running[name] = child
        return child

    async def open_sale(self, stock: int) -> str:
        """By the API."""
        headers = {"Idempotency-Key": new_name("sale-"), "Authorization": f"Bearer {ADMIN_KEY}"}
        async with (
            aiohttp.ClientSession(f"http://{ports.LOOPBACK}:{self.port}", headers=headers) as client,
            client.post("/v1/sales", json=sale_request(stock)) as answer,
        ):
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["sale_id"])

    def words(self, name: str) -> list[dict[str, Any]]:
        """Its log, parsed."""
        path = self._folder / f"{name}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def said(self, name: str, event: str) -> list[dict[str, Any]]:
        return [word for word in self.words(name) if word["event"] == event]

    async def all_ready(self) -> bool:
        urls = [child.spec.management_url for child in self.running.values()]
        assert all(child.running for child in self.running.values())
        return not any([await not_ready(url) for url in urls if url])
