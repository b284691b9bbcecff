"""One pool's task without NATS: what it says, and that it goes on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fakes import on_virtual_clock
from kubernetes_fakes import FakeApi

from peakclip_operator.kubernetes.api import KubernetesApi, resource_path
from peakclip_operator.kubernetes.link import NatsLink
from peakclip_operator.kubernetes.pools import Resource
from peakclip_operator.kubernetes.runner import PoolRunner, Surroundings

SPEC = {
    "workload": {"name": "w"},
    "source": {"stream": "SECKILL", "consumer": "orders"},
    "throughput": {"limitPerSecond": 100},
}
SCALE = "/apis/apps/v1/namespaces/ns/deployments/w/scale"


class World:
    def __init__(self) -> None:
        self.api = FakeApi()
        self.around = Surroundings(cast(KubernetesApi, self.api), NatsLink("nats://nowhere"), "op", 0.5)
        self.tasks: list[asyncio.Task[None]] = []

    def workload(self, replicas: int = 3) -> None:
        self.api.put(SCALE, {"spec": {"replicas": replicas}, "status": {"selector": "app=w"}})
        self.api.put("/api/v1/namespaces/ns/pods", {"items": []})

    def start(self, name: str, spec: object, created: str = "") -> PoolRunner:
        self.api.put(resource_path("ns", name, "status"), {})
        runner = PoolRunner(self.around, resource(name, spec, created=created))
        self.tasks.append(asyncio.create_task(runner.run()))
        return runner

    def ready(self, name: str) -> str:
        status = self.api.objects[resource_path("ns", name, "status")]["status"]
        (found,) = (one for one in status["conditions"] if one["type"] == "Ready")
        return f"{found['status']}/{found['reason']}"

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def resource(name: str, spec: object, generation: int = 1, created: str = "") -> Resource:
    return Resource("ns", name, f"uid-{name}", str(generation), generation, {}, spec, created)


@on_virtual_clock
async def test_before_nats_answers_it_says_so_and_holds() -> None:
    world = World()
    world.workload()
    world.start("a", SPEC)
    await asyncio.sleep(3)
    assert world.ready("a") == "False/NatsUnavailable"
    assert world.api.objects[SCALE]["spec"]["replicas"] == 3
    await world.end()


@on_virtual_clock
async def test_a_spec_that_cannot_be_read_is_said_and_read_again_when_it_changes() -> None:
    world = World()
    world.workload()
    runner = world.start("a", {"workload": {}})
    await asyncio.sleep(3)
    assert world.ready("a") == "False/InvalidSpec"
    runner.update(resource("a", SPEC, 2))
    await asyncio.sleep(3)
    assert world.ready("a") == "False/NatsUnavailable"
    await world.end()


@on_virtual_clock
async def test_that_a_spec_became_invalid_is_said_at_once() -> None:
    world = World()
    world.workload()
    runner = world.start("a", SPEC)
    await asyncio.sleep(0.1)
    runner.update(resource("a", {"workload": {}}, 2))
    await asyncio.sleep(0.1)
    assert world.ready("a") == "False/InvalidSpec"
    await world.end()


@on_virtual_clock
async def test_two_for_one_consumer_are_told_and_the_older_one_is_looked_after() -> None:
    world = World()
    world.workload()
    world.start("young", SPEC, created="2026-02-02T00:00:00Z")
    world.start("old", SPEC, created="2026-01-01T00:00:00Z")
    await asyncio.sleep(4)
    assert (world.ready("young"), world.ready("old")) == ("False/Conflict", "False/NatsUnavailable")
    world.tasks[1].cancel()
    await asyncio.sleep(4)
    assert world.ready("young") == "False/NatsUnavailable"
    await world.end()


@on_virtual_clock
async def test_the_younger_of_two_does_nothing_even_if_it_is_listed_first() -> None:
    world = World()
    world.workload()
    world.start("young", {**SPEC, "workload": {"name": "v"}}, created="2026-02-02T00:00:00Z")
    world.start("old", SPEC, created="2026-01-01T00:00:00Z")
    await asyncio.sleep(4)
    assert {path for _, resource, path, _ in world.api.calls if resource == "deployments/scale"} == {SCALE}
    await world.end()


@on_virtual_clock
async def test_a_loop_that_breaks_is_said_and_begins_again() -> None:
    world = World()
    world.workload()
    broken = asyncio.Event()

    def connected() -> Any:
        if not broken.is_set():
            raise RuntimeError("broken")
        return None

    world.around.link.connected = connected  # type: ignore[method-assign]
    world.start("a", SPEC)
    await asyncio.sleep(3)
    assert world.ready("a") == "False/Failing"
    broken.set()
    await asyncio.sleep(10)
    assert world.ready("a") == "False/NatsUnavailable"
    await world.end()


@on_virtual_clock
async def test_a_resource_that_is_gone_ends_its_task() -> None:
    world = World()
    world.workload()
    world.start("a", SPEC)
    await asyncio.sleep(2)
    del world.api.objects[resource_path("ns", "a", "status")]
    world.api.put(SCALE, {"spec": {"replicas": 4}, "status": {"selector": "app=w"}})
    await asyncio.sleep(10)
    assert world.tasks[0].done()
    assert world.tasks[0].exception() is None


@on_virtual_clock
async def test_pools_of_one_group_are_told_of_each_other_and_of_limits_that_differ() -> None:
    world = World()
    world.workload()
    world.api.put(SCALE.replace("/w/", "/v/"), {"spec": {"replicas": 1}, "status": {"selector": "app=v"}})
    for name, workload, limit in (("orders", "w", 300), ("reaper", "v", 200)):
        shared = {"group": "database", "limitPerSecond": limit}
        world.start(name, {
            "workload": {"name": workload},
            "source": {"stream": "SECKILL", "consumer": name},
            "throughput": {"limitPerSecond": 100, "shared": shared},
        })  # fmt: skip
    await asyncio.sleep(3)
    status = world.api.objects[resource_path("ns", "orders", "status")]["status"]
    (found,) = (one for one in status["conditions"] if one["type"] == "Shared")
    assert (found["status"], found["reason"]) == ("False", "LimitsDiffer")
    assert "The pools orders, reaper state different" in found["message"]
    facts = world.around.shared.facts("uid-orders")
    assert facts is not None
    assert facts.limit == 200
    world.tasks[1].cancel()
    await asyncio.sleep(1)
    facts = world.around.shared.facts("uid-orders")
    assert facts is not None
    assert (facts.limit, facts.limits_differ, facts.pools) == (300, False, ("orders",))
    await world.end()
    assert world.around.shared.facts("uid-orders") is None
