"""On a virtual clock: nobody sleeps, and the lease's time is the loop's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest
from fakes import on_virtual_clock
from kubernetes_fakes import FakeApi

from peakclip_operator.kubernetes.api import KubernetesApi
from peakclip_operator.kubernetes.lease import Lease
from peakclip_operator.resource.trouble import KubernetesUnavailableError

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/peakclip-operator"


def lease(api: FakeApi, identity: str) -> Lease:
    return Lease(
        cast(KubernetesApi, api),
        namespace="ns",
        name="peakclip-operator",
        identity=identity,
        seconds=10,
        clock=lambda: asyncio.get_running_loop().time(),
    )


class Leader:
    def __init__(self) -> None:
        self.leads = False
        self.times = 0

    async def lead(self) -> None:
        self.leads, self.times = True, self.times + 1
        try:
            await asyncio.Event().wait()
        finally:
            self.leads = False


@contextlib.asynccontextmanager
async def running(one: Lease, leader: Leader) -> AsyncIterator[asyncio.Event]:
    stopping = asyncio.Event()
    task = asyncio.create_task(one.run(stopping, leader.lead))
    try:
        yield stopping
    finally:
        stopping.set()
        await task


def holder(api: FakeApi) -> str:
    return str(api.objects[PATH]["spec"]["holderIdentity"])


@on_virtual_clock
async def test_the_first_one_takes_it_and_the_second_stands_by() -> None:
    api, first, second = FakeApi(), Leader(), Leader()
    async with running(lease(api, "a"), first):
        await asyncio.sleep(1)
        async with running(lease(api, "b"), second):
            await asyncio.sleep(100)
            assert (first.leads, second.leads) == (True, False)
            assert holder(api) == "a"
    assert first.times == 1
    assert holder(api) == ""


@on_virtual_clock
async def test_one_that_stops_gives_it_back_so_that_the_next_need_not_wait() -> None:
    api, first, second = FakeApi(), Leader(), Leader()
    async with running(lease(api, "b"), second) as second_stops:
        await asyncio.sleep(1)
        async with running(lease(api, "a"), first):
            await asyncio.sleep(30)
            second_stops.set()
            await asyncio.sleep(2.5)
            assert first.leads
            assert api.objects[PATH]["spec"]["leaseTransitions"] == 1


@on_virtual_clock
async def test_the_lease_of_one_that_died_is_taken_when_its_time_is_over() -> None:
    api, second = FakeApi(), Leader()
    assert await lease(api, "dead").take()
    async with running(lease(api, "b"), second):
        await asyncio.sleep(9)
        assert not second.leads
        await asyncio.sleep(4)
        assert second.leads


@on_virtual_clock
async def test_a_foreign_clock_does_not_count() -> None:
    api, second = FakeApi(), Leader()
    assert await lease(api, "dead").take()
    api.objects[PATH]["spec"]["renewTime"] = "2001-01-01T00:00:00.000000Z"
    async with running(lease(api, "b"), second):
        await asyncio.sleep(9)
        assert not second.leads


@on_virtual_clock
async def test_one_that_cannot_renew_stops_acting_before_another_may_begin() -> None:
    api, first = FakeApi(), Leader()
    one = lease(api, "a")
    async with running(one, first):
        await asyncio.sleep(5)
        api.fails = lambda verb, resource: KubernetesUnavailableError()
        await asyncio.sleep(5)
        assert first.leads
        await asyncio.sleep(2)
        assert not first.leads
        assert not one.held()
        api.fails = lambda verb, resource: None
        await asyncio.sleep(3)
        assert first.leads
    assert first.times == 2


@on_virtual_clock
async def test_one_whose_lease_was_taken_stops_acting() -> None:
    api, first = FakeApi(), Leader()
    async with running(lease(api, "a"), first):
        await asyncio.sleep(5)
        api.put(PATH, {"metadata": {}, "spec": {"holderIdentity": "b", "leaseDurationSeconds": 10}})
        await asyncio.sleep(7)
        assert not first.leads
        assert holder(api) == "b"


@on_virtual_clock
async def test_a_container_that_starts_again_in_its_pod_goes_on_at_once() -> None:
    api, again = FakeApi(), Leader()
    assert await lease(api, "a").take()
    async with running(lease(api, "a"), again):
        await asyncio.sleep(0.1)
        assert again.leads


@on_virtual_clock
async def test_what_fails_while_leading_is_raised() -> None:
    async def fails() -> None:
        raise RuntimeError("broken")

    api = FakeApi()
    with pytest.raises(RuntimeError, match="broken"):
        await lease(api, "a").run(asyncio.Event(), fails)
    assert holder(api) == ""


@on_virtual_clock
async def test_one_that_somebody_else_made_empty_is_free() -> None:
    api, first = FakeApi(), Leader()
    api.put(PATH, {"metadata": {"name": "peakclip-operator"}})
    async with running(lease(api, "a"), first):
        await asyncio.sleep(0.1)
        assert first.leads
    assert [verb for verb, _, _, _ in api.calls] == ["get", "update", "update"]
