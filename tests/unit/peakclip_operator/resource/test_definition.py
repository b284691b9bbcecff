"""Model, definition and file agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from peakclip.limiter import grid
from peakclip_operator.plan import PoolSpec
from peakclip_operator.resource import model
from peakclip_operator.resource.__main__ import FILE, main, text
from peakclip_operator.resource.definition import definition
from peakclip_operator.resource.model import MOST_UTILIZATION, InvalidSpecError, WorkerPoolSpec, read_spec
from peakclip_operator.resource.rules import Part
from peakclip_operator.resource.wish import to_pool_spec

ROOT = Path(__file__).parents[4]
SCHEMA = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
LEAST: dict[str, Any] = {
    "workload": {"name": "w"},
    "source": {"stream": "SECKILL", "consumer": "orders"},
    "throughput": {"limitPerSecond": 100},
}


def spec(**parts: Any) -> dict[str, Any]:
    return {**LEAST, **parts}


def shared(**parts: Any) -> dict[str, Any]:
    return spec(
        throughput={"limitPerSecond": 100, "shared": {"group": "database", "limitPerSecond": 300, **parts}}
    )


def excluded(**parts: Any) -> dict[str, Any]:
    return spec(behavior={"excludedPeriods": [{"from": "01:00", "to": "03:00", **parts}]})


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inside in schema.get("properties", {}).items():
        yield from fields(inside, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def defaulted(schema: dict[str, Any], given: Any) -> Any:
    """As the API server fills in defaults."""
    if schema.get("type") != "object" or "properties" not in schema:
        return given
    filled = dict(given)
    for name, inside in schema["properties"].items():
        if name not in filled and "default" in inside:
            filled[name] = inside["default"]
        if name in filled:
            filled[name] = defaulted(inside, filled[name])
    return filled


def test_the_file_in_the_chart_is_fresh() -> None:
    assert (ROOT / FILE).read_text() == text(), "The model has changed: run `make crd` and commit the file."


def test_the_command_writes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["crd"])
    main()
    assert yaml.safe_load((tmp_path / FILE).read_text()) == definition()


@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_is_described_in_one_piece(part: str) -> None:
    for path, schema in fields(SCHEMA[part], part):
        if not path.endswith("[]"):
            assert schema.get("description", "").endswith("."), path
            assert "\n" not in schema["description"], path


@pytest.mark.parametrize("part", ["spec", "status"])
def test_the_schema_is_structural(part: str) -> None:
    for path, schema in fields(SCHEMA[part], part):
        assert "type" in schema, path
        assert not {"$ref", "anyOf", "oneOf", "title", "const", "$defs"} & set(schema), path


def test_every_text_and_list_of_the_spec_has_an_end() -> None:
    """Or the API server cannot estimate what a rule costs."""
    for path, schema in fields(SCHEMA["spec"], "spec"):
        if schema["type"] == "string":
            assert "enum" in schema or "maxLength" in schema, path


def test_what_the_api_server_fills_in_is_what_the_model_takes_for_granted() -> None:
    filled = defaulted(SCHEMA["spec"], LEAST)
    assert read_spec(filled) == read_spec(LEAST)
    assert filled["replicas"] == {"min": 1, "max": 20, "activation": 1}
    assert filled["fallback"] == {"after": "30s", "policy": "Hold"}
    assert filled["behavior"] == {
        "scaleUp": {"reverseIneffective": True},
        "scaleDown": {"stabilization": "1m"},
    }
    assert filled["throughput"] == {
        "limitPerSecond": 100,
        "catchUp": "2m",
        "utilization": 0.7,
        "databaseHealth": {"enabled": True, "maxErrorPercent": 5.0, "maxWait": "0.25s", "maxP95": "1s"},
    }
    assert (filled["mode"], filled["paused"]) == ("Enforce", False)


def test_what_is_read_is_written_the_same() -> None:
    filled = defaulted(SCHEMA["spec"], LEAST)
    assert read_spec(filled).model_dump(by_alias=True, exclude_none=True) == filled


def test_the_defaults_are_those_of_the_plan() -> None:
    ours, plan = WorkerPoolSpec.model_validate(LEAST), PoolSpec()
    assert (ours.throughput.catch_up, ours.throughput.utilization) == (
        plan.catch_up_seconds,
        plan.utilization,
    )
    assert (ours.replicas.min, ours.replicas.max) == (plan.min_replicas, plan.max_replicas)
    assert ours.behavior.scale_down.stabilization == plan.stabilization_seconds
    assert (ours.fallback.after, ours.fallback.policy) == (plan.fallback.after_seconds, plan.fallback.policy)
    wished = to_pool_spec(ours, {})
    assert (wished.health, wished.effect) == (plan.health, plan.effect)
    assert wished.activation_replicas == plan.activation_replicas


def test_the_greatest_utilization_is_one_that_the_plan_takes() -> None:
    PoolSpec(utilization=MOST_UTILIZATION)
    with pytest.raises(ValueError, match="spare"):
        PoolSpec(utilization=MOST_UTILIZATION + 0.01)


@pytest.mark.parametrize("limit", [0.001, 0.5, 1, 7, 100, 333.333, 1_000, 1_001, 9_999.9, 33_333, 100_000])
def test_the_least_burst_is_the_limiters(limit: float) -> None:
    least = grid.least_burst(limit)
    read_spec(spec(throughput={"limitPerSecond": limit, "burst": least}))
    read_spec(spec(throughput={"limitPerSecond": limit, "burst": grid.default_burst(limit)}))
    with pytest.raises(InvalidSpecError, match="burst is too small"):
        read_spec(spec(throughput={"limitPerSecond": limit, "burst": least - 1}))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (spec(throughput={"limitPerSecond": 0}), "limitPerSecond must be between 0.001 and 100000"),
        (spec(throughput={"limitPerSecond": 1e6}), "limitPerSecond must be between"),
        (
            spec(throughput={"limitPerSecond": 1, "utilization": 0}),
            "utilization must be between 0.1 and 0.83",
        ),
        (
            spec(throughput={"limitPerSecond": 1, "catchUp": "0s"}),
            "a duration such as 30s, 2m or 1h30m, between",
        ),
        (spec(throughput={"limitPerSecond": 1, "catchUp": "soon"}), "must be a duration"),
        (  # no worker waits so long for the database, so nothing could ever be slower
            spec(throughput={"limitPerSecond": 1, "databaseHealth": {"maxP95": "12s"}}),
            "a duration such as 30s, 2m or 1h30m, between 0s and 10s",
        ),
        (spec(replicas={"min": 3, "max": 2}), "min may not exceed max"),
        (spec(replicas={"min": 21}), "min may not exceed max"),
        (spec(behavior={"scaleUp": {"pods": 3}}), "pods and period belong together"),
        (spec(behavior={"scaleDown": {"period": "3s"}}), "pods and period belong together"),
        (spec(fallback={"policy": "Fixed"}), "replicas is required with the policies"),
        (spec(fallback={"replicas": 3}), "has no meaning with Hold"),
        (spec(fallback={"policy": "Floor", "replicas": 21}), "must be within replicas.min and replicas.max"),
        (spec(workload={"name": "Bad_Name"}), "name is small letters"),
        (spec(source={"stream": "a b", "consumer": "c"}), "stream is letters"),
        (spec(source={"stream": "A", "consumer": "a.b"}), "consumer is letters"),
        (spec(mode="Dream"), "spec.mode"),
        (shared(group="Data Base"), "group is small letters, digits and hyphens"),
        (shared(limitPerSecond=0), "limitPerSecond must be between 0.1 and 100000"),
        (shared(guaranteedPerSecond=301), "must be between 0 and the limitPerSecond of the group"),
        (shared(guaranteedPerSecond=101), "shared.guaranteedPerSecond may not exceed limitPerSecond"),
        (shared(weight=0), "spec.throughput.shared.weight"),
        (excluded(to="24:00"), "from and to are times of the day such as 01:00 or 22:30"),
        (excluded(**{"from": "1:00"}), "from and to are times of the day"),
        (excluded(timeZone="Asia/Shangai"), "timeZone must be a name of the time zone database"),
        (excluded(timeZone="+08:00"), "timeZone must be a name of the time zone database"),
        (excluded(days=["Monday"]), "spec.behavior.excludedPeriods.0.days.0"),
        (excluded(days=[]), "spec.behavior.excludedPeriods.0.days"),
        ({}, "spec.workload: Field required. spec.source: Field required."),
        (None, "spec"),
    ],
)
def test_a_mistake_is_said_in_a_sentence_that_names_it(wrong: Any, sentence: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read_spec(wrong)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")


def test_every_rule_is_in_the_definition_with_its_sentence() -> None:
    told = {
        rule["message"]
        for _, schema in fields(SCHEMA["spec"], "spec")
        for rule in schema.get("x-kubernetes-validations", ())
    }
    parts = [one for one in vars(model).values() if isinstance(one, type) and issubclass(one, Part)]
    rules = {rule.message for part in parts for rule in part.rules}
    assert len(rules) >= 14
    assert rules <= told


def test_a_field_of_a_newer_version_stops_nobody() -> None:
    assert read_spec(spec(colour="blue")) == read_spec(LEAST)
