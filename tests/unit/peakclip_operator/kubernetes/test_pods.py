from __future__ import annotations

import msgspec
import pytest

from peakclip_operator.kubernetes import pods
from peakclip_operator.kubernetes.pods import DELETION_COST, Pod, count, marks, pod_of, read_pods
from peakclip_operator.ports import Workers, WorkerSample


def pod(name: str, *, ready: bool = True, terminating: bool = False, goes_first: bool = False) -> Pod:
    return Pod(name, ready, terminating, goes_first)


def word(worker: str, in_flight: int) -> WorkerSample:
    return WorkerSample(worker=worker, pid=1, at=0.0, in_flight=in_flight, draining=False)


def stored(
    name: str, *, phase: str = "Running", ready: str = "True", **metadata: object
) -> dict[str, object]:
    conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}]
    return {"metadata": {"name": name, **metadata}, "status": {"phase": phase, "conditions": conditions}}


def test_pods_are_read_from_the_servers_list() -> None:
    listed = {
        "kind": "PodList",
        "items": [
            stored("a"),
            stored("b", phase="Pending", ready="False"),
            stored("c", deletionTimestamp="2026-01-01T00:00:00Z"),
            stored("d", annotations={DELETION_COST: "-1", "other": "x"}),
            stored("e", phase="Failed", ready="False"),
            stored("f", phase="Succeeded", ready="False"),
            {"metadata": {"name": "g"}, "status": {}},
        ],
    }
    assert read_pods(msgspec.json.encode(listed)) == [
        pod("a"),
        pod("b", ready=False),
        pod("c", terminating=True),
        pod("d", goes_first=True),
        pod("g", ready=False),
    ]


def test_what_is_no_list_of_pods_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_pods(b'{"kind": "Status"}')


def test_running_is_ready_and_starting_is_what_is_missing_of_what_was_asked_for() -> None:
    some = [pod("a"), pod("b"), pod("c", ready=False), pod("d", terminating=True)]
    assert count(some, asked=5) == Workers(running=2, starting=3, draining=1)
    assert count([], asked=0) == Workers(running=0, starting=0)


def test_pods_above_what_was_asked_for_are_on_their_way_out() -> None:
    some = [pod("a"), pod("b"), pod("c", ready=False), pod("d", terminating=True)]
    assert count(some, asked=1) == Workers(running=1, starting=0, draining=2)
    assert count(some, asked=0) == Workers(running=0, starting=0, draining=3)


def test_idle_pods_go_first() -> None:
    some = [pod("a-1"), pod("a-2"), pod("a-3")]
    idle_first = [word("a-2-17", 0), word("a-3-17", 0), word("a-1-17", 4)]
    assert marks(some, idle_first, 1) == {"a-2": "-1"}
    assert marks(some, idle_first, 2) == {"a-2": "-1", "a-3": "-1"}


def test_a_mark_is_written_once_and_taken_from_those_that_stay() -> None:
    some = [pod("a", goes_first=True), pod("b", goes_first=True), pod("c")]
    assert marks(some, [word("a-1", 0), word("c-1", 0), word("b-1", 9)], 2) == {"b": None, "c": "-1"}
    assert marks(some[:1], [word("a-1", 0)], 1) == {}


def test_pods_that_are_not_ready_go_before_idle_ones_without_a_mark() -> None:
    some = [pod("a"), pod("b", ready=False)]
    assert marks(some, [word("a-1", 0)], 1) == {}
    assert marks(some, [word("a-1", 0)], 2) == {"a": "-1"}


def test_pods_that_end_and_strangers_are_left_alone() -> None:
    some = [pod("a", terminating=True), pod("b")]
    assert marks(some, [word("a-1", 0), word("elsewhere-1", 0)], 1) == {}


def test_the_pod_of_a_worker() -> None:
    assert pod_of("peakclip-worker-orders-5d8f-x2x7k-4711") == "peakclip-worker-orders-5d8f-x2x7k"
    assert pods.pod_of("nonsense") == ""
