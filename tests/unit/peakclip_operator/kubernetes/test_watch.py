"""The list beside the watch; kopf itself is tried in tests/e2e."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import kopf
from fakes import on_virtual_clock
from kubernetes.aio.client import Configuration
from kubernetes_fakes import FakeApi
from structlog.testing import capture_logs

from peakclip_operator.kubernetes.api import KubernetesApi, resource_path
from peakclip_operator.kubernetes.watch import Watch, connection, kopf_settings
from peakclip_operator.resource.trouble import ForbiddenError, KubernetesUnavailableError


class ListOnly(Watch):
    """Without kopf, which may be said to live."""

    lives = False

    def _start_kopf(self) -> None:
        self.lives = True

    def _watched(self) -> bool:
        return self.lives


class World:
    def __init__(self) -> None:
        self.api = FakeApi()
        self.lists: list[tuple[str, str, int]] = []
        self.watch = ListOnly(
            cast(KubernetesApi, self.api), ["ns"], seen=self._one, gone=self._one, listed=self._listed
        )

    def _one(self, body: Mapping[str, Any]) -> None:
        raise AssertionError("nobody watches")

    def _listed(self, namespace: str, version: str, bodies: Sequence[Mapping[str, Any]]) -> None:
        self.lists.append((namespace, version, len(bodies)))

    def install(self) -> None:
        self.api.put(resource_path("ns"), {"items": [{}, {}]})


@on_virtual_clock
async def test_a_missing_definition_is_said_once_and_waited_for() -> None:
    world = World()
    with capture_logs() as logs:
        task = asyncio.create_task(world.watch.run())
        await asyncio.sleep(60)
        assert (world.lists, world.watch.lives) == ([], False)
        world.install()
        await asyncio.sleep(3)
        assert (world.lists, world.watch.lives) == ([("ns", "1", 2)], True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [line["event"] for line in logs] == ["worker_pools_unknown", "worker_pools_listed"]
    assert "crds.install" in logs[0]["error"]


@on_virtual_clock
async def test_another_trouble_is_another_line() -> None:
    world = World()
    world.install()
    with capture_logs() as logs:
        task = asyncio.create_task(world.watch.run())
        for failure in (KubernetesUnavailableError(), ForbiddenError("list", "workerpools")):
            world.api.fails = lambda verb, resource, failure=failure: failure  # type: ignore[misc]
            world.watch.lives = False
            await asyncio.sleep(10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [line["event"] for line in logs] == ["worker_pools_unknown"] * 2


@on_virtual_clock
async def test_it_is_listed_now_and_then_beside_the_watch_and_often_without_one() -> None:
    world = World()
    world.install()
    task = asyncio.create_task(world.watch.run())
    await asyncio.sleep(95)
    assert len(world.lists) == 4
    world.watch.lives = False
    await asyncio.sleep(3)
    assert len(world.lists) == 5
    assert world.watch.lives
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_kopf_writes_nothing_and_looks_at_nothing_else() -> None:
    settings = kopf_settings()
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.watching.server_timeout is not None
    assert settings.watching.client_timeout is not None
    assert settings.watching.client_timeout > settings.watching.server_timeout


async def test_kopf_gets_the_clients_own_token_and_asks_again_for_it() -> None:
    configuration = Configuration()
    configuration.host = "https://example"
    configuration.api_key["BearerToken"] = "bearer t1"
    info = await connection(configuration)
    assert isinstance(info, kopf.ConnectionInfo)
    assert (info.server, info.scheme, info.token) == ("https://example", "Bearer", "t1")
    assert info.expiration is not None
