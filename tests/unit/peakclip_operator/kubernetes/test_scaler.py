from __future__ import annotations

from typing import Any, cast

import pytest
from kubernetes_fakes import FakeApi

from peakclip_operator.kubernetes.api import ApiRefusedError, KubernetesApi
from peakclip_operator.kubernetes.pods import DELETION_COST
from peakclip_operator.kubernetes.scaler import WorkloadScaler
from peakclip_operator.ports import Workers, WorkerSample
from peakclip_operator.resource.trouble import ForbiddenError, WorkloadMissingError

SCALE = "/apis/apps/v1/namespaces/ns/deployments/w/scale"
PODS = "/api/v1/namespaces/ns/pods"


def cluster(asked: int, *names: str) -> FakeApi:
    api = FakeApi()
    api.put(SCALE, {"spec": {"replicas": asked}, "status": {"replicas": asked, "selector": "app=w"}})
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    pods = [{"metadata": {"name": name}, "status": ready} for name in names]
    api.put(PODS, {"items": pods})
    for pod in pods:
        api.put(f"{PODS}/{cast(Any, pod['metadata'])['name']}", pod)
    return api


def scaler(api: FakeApi) -> WorkloadScaler:
    return WorkloadScaler(cast(KubernetesApi, api), "ns", "Deployment", "w")


def idle(*pods: str) -> list[WorkerSample]:
    return [WorkerSample(worker=f"{pod}-7", pid=7, at=0.0, in_flight=0, draining=False) for pod in pods]


async def test_the_pods_are_those_of_the_scales_own_selector() -> None:
    api = cluster(3, "a", "b")
    assert await scaler(api).current() == Workers(running=2, starting=1)
    assert ("list", "pods", PODS, None) in api.calls


async def test_a_look_is_two_requests() -> None:
    api = cluster(2, "a", "b")
    one = scaler(api)
    await one.current()
    api.calls.clear()
    await one.current()
    assert sorted((verb, resource) for verb, resource, _, _ in api.calls) == [
        ("get", "deployments/scale"),
        ("list", "pods"),
    ]


async def test_scaling_is_one_patch_of_the_scale_and_only_on_change() -> None:
    api = cluster(2, "a", "b")
    one = scaler(api)
    await one.current()
    await one.scale_to(2, [])
    assert api.asked("patch") == []
    await one.scale_to(5, [])
    await one.scale_to(5, [])
    assert api.asked("patch") == [("deployments/scale", {"spec": {"replicas": 5}})]


async def test_on_the_way_down_idle_pods_are_marked_before_the_scale_changes() -> None:
    api = cluster(3, "a", "b", "c")
    one = scaler(api)
    await one.current()
    await one.scale_to(2, idle("b", "a", "c"))
    assert api.asked("patch") == [
        ("pods", {"metadata": {"annotations": {DELETION_COST: "-1"}}}),
        ("deployments/scale", {"spec": {"replicas": 2}}),
    ]
    assert api.objects[f"{PODS}/b"]["metadata"]["annotations"] == {DELETION_COST: "-1"}


async def test_a_pod_that_cannot_be_marked_holds_nothing_up() -> None:
    api = cluster(2, "a", "b")
    one = scaler(api)
    await one.current()
    api.fails = lambda verb, resource: ForbiddenError(verb, resource) if resource == "pods" else None
    await one.scale_to(1, idle("a"))
    assert api.objects[SCALE]["spec"]["replicas"] == 1


async def test_a_workload_that_is_missing_has_a_name_of_its_own() -> None:
    with pytest.raises(WorkloadMissingError):
        await scaler(FakeApi()).current()


async def test_one_that_is_made_anew_is_found_with_its_new_selector() -> None:
    api = cluster(2, "a", "b")
    one = scaler(api)
    await one.current()
    before = api.objects.pop(SCALE)
    with pytest.raises(WorkloadMissingError):
        await one.current()
    api.put(SCALE, {**before, "spec": {"replicas": 1}})
    assert await one.current() == Workers(running=1, starting=0, draining=1)


async def test_other_answers_are_passed_on() -> None:
    api = cluster(1)
    api.fails = lambda verb, resource: ApiRefusedError(500, verb, resource, "broken")
    with pytest.raises(ApiRefusedError, match="broken"):
        await scaler(api).current()
