from __future__ import annotations

from typing import Any

from peakclip_operator.kubernetes.claims import Claims
from peakclip_operator.kubernetes.pools import Resource
from peakclip_operator.resource.model import read_spec


def resource(name: str, created: str, namespace: str = "ns") -> Resource:
    return Resource(namespace, name, f"uid-{namespace}-{name}", "1", 1, {}, {}, created)


def spec(workload: str, consumer: str = "orders", stream: str = "S") -> Any:
    return read_spec(
        {
            "workload": {"name": workload},
            "source": {"stream": stream, "consumer": consumer},
            "throughput": {"limitPerSecond": 1},
        }
    )


OLD, NEW = resource("old", "2026-01-01T00:00:00Z"), resource("new", "2026-02-01T00:00:00Z")


def test_the_oldest_has_it_whoever_comes_first() -> None:
    claims = Claims()
    assert claims.rival(NEW, spec("a")) is None
    assert claims.rival(OLD, spec("b")) is None
    assert claims.rival(NEW, spec("a")) == "ns/old"


def test_one_workload_for_two_is_a_conflict_too_but_not_in_two_namespaces() -> None:
    claims = Claims()
    assert claims.rival(OLD, spec("w", "a")) is None
    assert claims.rival(NEW, spec("w", "b")) == "ns/old"
    assert claims.rival(resource("new", "2026-02-01T00:00:00Z", "other"), spec("w", "c")) is None


def test_who_goes_or_changes_makes_room() -> None:
    claims = Claims()
    claims.rival(OLD, spec("w"))
    assert claims.rival(NEW, spec("x")) == "ns/old"
    claims.rival(OLD, spec("w", "another"))
    assert claims.rival(NEW, spec("x")) is None
    claims.rival(OLD, spec("w"))
    assert claims.rival(NEW, spec("x")) == "ns/old"
    claims.release(OLD.uid)
    assert claims.rival(NEW, spec("x")) is None


def test_consumers_of_one_name_are_one_pool_with_one_rate_whatever_their_streams() -> None:
    claims = Claims()
    claims.rival(OLD, spec("a", stream="S"))
    assert claims.rival(NEW, spec("b", stream="T")) == "ns/old"
