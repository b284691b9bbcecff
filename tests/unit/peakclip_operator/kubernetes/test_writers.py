"""Status and Events as they are written."""

from __future__ import annotations

from typing import cast

import pytest
from kubernetes_fakes import FakeApi

from peakclip_operator.kubernetes.api import KubernetesApi, resource_path
from peakclip_operator.kubernetes.events import EventWriter
from peakclip_operator.kubernetes.status_writer import StatusWriter
from peakclip_operator.resource.trouble import KubernetesUnavailableError

STATUS = resource_path("ns", "wp", "status")
EVENTS = "/api/v1/namespaces/ns/events"
INVOLVED = {
    "apiVersion": "peakclip.dev/v1alpha1",
    "kind": "WorkerPool",
    "name": "wp",
    "namespace": "ns",
    "uid": "u",
}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def status_writer(api: FakeApi, clock: Clock) -> StatusWriter:
    api.put(STATUS, {"status": {"old": 1}})
    return StatusWriter(cast(KubernetesApi, api), "ns", "wp", clock=clock)


async def test_a_status_is_written_on_change_and_at_most_once_a_second() -> None:
    api, clock = FakeApi(), Clock()
    writer = status_writer(api, clock)
    assert await writer.write({"lag": {"ready": 1}})
    assert not await writer.write({"lag": {"ready": 2}})
    clock.now += 1
    assert await writer.write({"lag": {"ready": 2}})
    clock.now += 10
    assert not await writer.write({"lag": {"ready": 2}})
    assert [body for _, body in api.asked("patch")] == [
        {"status": {"lag": {"ready": 1}}},
        {"status": {"lag": {"ready": 2}}},
    ]


async def test_what_is_no_longer_known_is_taken_away() -> None:
    api, clock = FakeApi(), Clock()
    writer = status_writer(api, clock)
    await writer.write({"a": 1, "b": 2})
    clock.now += 1
    await writer.write({"a": None})
    assert api.objects[STATUS]["status"] == {"old": 1}


async def test_a_status_that_failed_is_written_again() -> None:
    api, clock = FakeApi(), Clock()
    writer = status_writer(api, clock)
    api.fails = lambda verb, resource: KubernetesUnavailableError()
    with pytest.raises(KubernetesUnavailableError):
        await writer.write({"a": 1})
    api.fails = lambda verb, resource: None
    assert not await writer.write({"a": 1})  # not a second later yet
    clock.now += 1
    assert await writer.write({"a": 1})


async def test_a_status_that_may_have_been_written_is_written_over() -> None:
    api, clock = FakeApi(), Clock()
    writer = status_writer(api, clock)
    await writer.write({"a": 1})
    clock.now += 1
    api.fails = lambda verb, resource: KubernetesUnavailableError()
    with pytest.raises(KubernetesUnavailableError):
        await writer.write({"a": 2})  # the answer was lost, maybe not the request
    api.fails = lambda verb, resource: None
    clock.now += 1
    assert await writer.write({"a": 1})


async def test_a_resource_that_is_gone_ends_it() -> None:
    api = FakeApi()
    writer = StatusWriter(cast(KubernetesApi, api), "ns", "wp", clock=Clock())
    assert not await writer.write({"a": 1})
    assert writer.gone


async def test_an_event_is_made_once_and_then_counted_up() -> None:
    api = FakeApi()
    writer = EventWriter(cast(KubernetesApi, api), INVOLVED, "op-1")
    for message in ("3 -> 4", "3 -> 4", "3 -> 4"):
        await writer.write("key", warning=False, reason="Scaled", message=message)
    (event,) = (one for path, one in api.objects.items() if path.startswith(EVENTS))
    assert (event["count"], event["reason"], event["type"], event["message"]) == (
        3,
        "Scaled",
        "Normal",
        "3 -> 4",
    )
    assert event["involvedObject"] == INVOLVED
    assert event["reportingInstance"] == "op-1"


async def test_an_event_that_has_expired_is_made_again() -> None:
    api = FakeApi()
    writer = EventWriter(cast(KubernetesApi, api), INVOLVED, "op-1")
    await writer.write("key", warning=True, reason="Forbidden", message="m")
    api.objects.clear()
    await writer.write("key", warning=True, reason="Forbidden", message="m")
    (event,) = api.objects.values()
    assert (event["count"], event["type"]) == (1, "Warning")


async def test_an_event_that_cannot_be_written_is_no_trouble() -> None:
    api = FakeApi()
    api.fails = lambda verb, resource: KubernetesUnavailableError()
    await EventWriter(cast(KubernetesApi, api), INVOLVED, "op-1").write(
        "key", warning=True, reason="Forbidden", message="m"
    )
    assert api.objects == {}
