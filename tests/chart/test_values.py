"""values.yaml, its schema and the README agree. No helm is needed for it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from chart.rendered import CHART, CI_VALUES, each_values

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
README = (CHART / "README.md").read_text()


def test_the_default_values_are_allowed() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(VALUES)


@each_values
def test_values_of_ci_are_allowed(values: Path) -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(yaml.safe_load(values.read_text()))


def test_there_are_values_for_each_way_to_install() -> None:
    names = {path.name.removesuffix("-values.yaml") for path in CI_VALUES}
    assert names >= {"default", "minimal", "external", "ha", "ingress", "httproute", "everything"}


def _closed(schema: Any, path: str = "") -> Iterator[str]:
    """Objects with properties that take others, too."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("additionalProperties") is not False:
            yield path
        for key, value in schema.items():
            yield from _closed(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from _closed(value, f"{path}/{number}")


def test_the_schema_is_closed() -> None:
    assert list(_closed(SCHEMA)) == []


def _default_schema(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    """Values that no property describes."""
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict) and "properties" in schema:
        for key, one in value.items():
            if key in schema["properties"]:
                yield from _default_schema(one, schema["properties"][key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"


def _unset(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Properties at the upper levels that values.yaml does not name, and so does not explain."""
    for key, one in schema.get("properties", {}).items():
        name = f"{path}{key}"
        if not isinstance(value, dict) or key not in value:
            yield name
        elif isinstance(value[key], dict) and value[key] and "$ref" not in one:
            yield from _unset(one, value[key], f"{name}.")


def test_every_property_has_a_default() -> None:
    assert list(_default_schema(VALUES, SCHEMA, "")) == []
    allowed = {"global"}  # Helm's own
    missing = set(_unset(SCHEMA, VALUES, "")) - allowed
    assert missing == set()


def _commented() -> Iterator[tuple[str, str]]:
    """(path, its `# --` comment) in values.yaml."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in (CHART / "values.yaml").read_text().splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#"):
            if comment and not stripped.startswith("# @"):
                comment.append(stripped.removeprefix("# "))
        elif found := re.match(r"( *)([A-Za-z]+):", line):
            depth = len(found[1])
            path = [one for one in path if one[0] < depth] + [(depth, found[2])]
            if comment:
                yield ".".join(name for _, name in path), " ".join(comment)
            comment = []


def test_the_readme_is_fresh() -> None:
    """`make chart-docs` writes it. The table is held against the values here, so that no tool is needed."""
    rows = {
        cells[1].strip(): (cells[3].strip(), cells[4].strip())
        for line in README.splitlines()
        if line.startswith("| ") and len(cells := re.split(r"(?<!\\)\|", line)) == 6
    }
    commented = dict(_commented())
    assert len(commented) > 150
    assert set(rows) - {"Key"} == set(commented)
    for path, comment in commented.items():
        default, description = rows[path]
        assert description.replace("\\|", "|") == comment, path
        value: Any = VALUES
        for key in path.split("."):
            value = value[key]
        if path != "pools":
            assert json.loads(default.strip("`")) == value, path
    template = (CHART / "README.md.gotmpl").read_text()
    for line in template.splitlines():
        if "{{" not in line:
            assert line in README, f"not in README.md, run `make chart-docs`: {line}"


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == project["version"]
    images = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    ours = [one["image"] for one in images if "/peakclip/" in one["image"]]
    assert ours == [
        f"docker.io/peakclip/{name}:{project['version']}" for name in ("api", "worker", "operator")
    ]
    servers = {f"docker.io/{VALUES[name]['image']['repository']}:{VALUES[name]['image']['tag']}"
               for name in ("nats", "postgresql")}  # fmt: skip
    assert servers <= {one["image"] for one in images}


@pytest.mark.parametrize("component", ["api", "worker", "relay", "operator", "migrate"])
def test_a_variable_of_the_docs_can_be_set(component: str) -> None:
    jsonschema.Draft7Validator(SCHEMA).validate({component: {"env": {"PEAKCLIP_LOG_JSON": False}}})
