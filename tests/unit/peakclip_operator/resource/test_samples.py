"""The samples are resources that the API server takes, without a field that it would drop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from peakclip import topology
from peakclip_operator.resource.definition import definition
from peakclip_operator.resource.model import GROUP, KIND, VERSION, read_spec
from peakclip_operator.resource.wish import burst_of, to_pool_spec

SAMPLES = sorted((Path(__file__).parents[4] / "k8s" / "samples").glob("*.yaml"))
SCHEMA = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def known(schema: dict[str, Any], given: object) -> bool:
    if isinstance(given, list):
        return all(known(schema.get("items", {}), one) for one in given)
    if not isinstance(given, dict):
        return True
    inside = schema.get("properties", {})
    return all(name in inside and known(inside[name], value) for name, value in given.items())


def test_there_are_samples_of_every_kind() -> None:
    assert [sample.stem for sample in SAMPLES] == ["advise", "foreign", "orders", "reaper", "shared"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_is_a_valid_resource(sample: Path) -> None:
    for resource in yaml.safe_load_all(sample.read_text()):
        assert (resource["apiVersion"], resource["kind"]) == (f"{GROUP}/{VERSION}", KIND)
        assert known(SCHEMA, resource["spec"])
        spec = read_spec(resource["spec"])
        assert to_pool_spec(spec, {}).limit_per_second == spec.throughput.limit_per_second
        assert burst_of(spec) >= 2


@pytest.mark.parametrize("name", ["orders", "reaper", "advise"])
def test_a_sample_of_our_own_pool_names_its_stream(name: str) -> None:
    (sample,) = [one for one in SAMPLES if one.stem == name]
    source = read_spec(yaml.safe_load(sample.read_text())["spec"]).source
    assert topology.POOLS[source.consumer].stream == source.stream


def test_a_misspelt_field_is_noticed() -> None:
    assert not known(SCHEMA, {"throughput": {"limitPerSeconds": 1}})
    assert not known(SCHEMA, {"behavior": {"excludedPeriods": [{"until": "03:00"}]}})
