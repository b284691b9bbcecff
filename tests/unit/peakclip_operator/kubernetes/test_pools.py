from __future__ import annotations

import asyncio
from typing import Any

from peakclip_operator.kubernetes.api import EVERYWHERE, resource_path
from peakclip_operator.kubernetes.pools import Pools, Resource


class Runner:
    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.updates: list[Resource] = []
        self.ended = False
        self.gone = asyncio.Event()

    def update(self, resource: Resource) -> None:
        self.updates.append(resource)

    async def run(self) -> None:
        try:
            await self.gone.wait()
        finally:
            self.ended = True


class World:
    def __init__(self) -> None:
        self.runners: list[Runner] = []
        self.pools = Pools(self._runner)

    def _runner(self, resource: Resource) -> Runner:
        self.runners.append(Runner(resource))
        return self.runners[-1]


def body(name: str, version: int = 1, uid: str = "", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "ns",
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "generation": version,
            **metadata,
        },
        "spec": {"version": version},
    }


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_each_resource_has_a_task_and_an_edit_keeps_it() -> None:
    world = World()
    world.pools.seen(body("a"))
    world.pools.seen(body("b"))
    world.pools.seen(body("a", 2))
    assert [one.resource.name for one in world.runners] == ["a", "b"]
    assert [one.generation for one in world.runners[0].updates] == [2]
    await world.pools.close()


async def test_one_that_is_deleted_ends_and_the_others_go_on() -> None:
    world = World()
    world.pools.seen(body("a"))
    world.pools.seen(body("b"))
    await settle()
    world.pools.gone(body("a", 3))
    await settle()
    assert [one.ended for one in world.runners] == [True, False]
    await world.pools.close()
    assert world.runners[1].ended


async def test_one_that_is_being_deleted_is_left_alone() -> None:
    world = World()
    world.pools.seen(body("a"))
    await settle()
    world.pools.seen(body("a", 2, deletionTimestamp="2026-01-01T00:00:00Z"))
    await settle()
    assert world.runners[0].ended


async def test_a_list_tells_of_those_that_went_without_a_word_in_its_namespace_only() -> None:
    world = World()
    world.pools.seen(body("a"))
    world.pools.seen(body("b"))
    elsewhere = body("c")
    elsewhere["metadata"]["namespace"] = "other"
    world.pools.seen(elsewhere)
    await settle()
    world.pools.listed("ns", "9", [body("b")])
    await settle()
    assert [one.ended for one in world.runners] == [True, False, False]
    await world.pools.close()


async def test_a_list_of_all_namespaces_tells_of_all() -> None:
    world = World()
    elsewhere = body("c")
    elsewhere["metadata"]["namespace"] = "other"
    world.pools.seen(body("a"))
    world.pools.seen(elsewhere)
    await settle()
    world.pools.listed(EVERYWHERE, "9", [elsewhere])
    await settle()
    assert [one.ended for one in world.runners] == [True, False]
    assert resource_path(EVERYWHERE) == "/apis/peakclip.dev/v1alpha1/workerpools"
    await world.pools.close()


async def test_an_older_word_changes_nothing() -> None:
    world = World()
    world.pools.seen(body("a", 10))
    world.pools.listed("ns", "9", [body("a", 9)])
    assert world.runners[0].updates == []
    world.pools.gone(body("a", 11))
    world.pools.listed("ns", "10", [body("a", 10)])
    assert len(world.runners) == 1
    await world.pools.close()


async def test_one_of_the_same_name_made_anew_is_another_one() -> None:
    world = World()
    world.pools.seen(body("a", uid="1"))
    await settle()
    world.pools.gone(body("a", uid="1"))
    world.pools.seen(body("a", uid="2"))
    await settle()
    assert [one.ended for one in world.runners] == [True, False]
    await world.pools.close()


async def test_a_task_that_has_ended_begins_again_with_the_next_word() -> None:
    world = World()
    world.pools.seen(body("a"))
    await settle()
    world.runners[0].gone.set()
    await settle()
    world.pools.listed("ns", "9", [body("a")])
    assert len(world.runners) == 2
    await world.pools.close()


async def test_one_that_was_made_while_the_list_was_on_its_way_stays() -> None:
    world = World()
    world.pools.seen(body("a", 11))
    await settle()
    world.pools.listed("ns", "10", [])
    await settle()
    assert not world.runners[0].ended
    world.pools.listed("ns", "12", [])
    await settle()
    assert world.runners[0].ended
    await world.pools.close()


async def test_after_the_end_a_late_word_begins_nothing() -> None:
    world = World()
    await world.pools.close()
    world.pools.seen(body("a"))
    assert world.runners == []
