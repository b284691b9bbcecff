"""The API's own description, `openapi.yaml`: as it is, and as the reading page can show it.

Swagger UI 4, the newest that can be had as a Python package, reads OpenAPI 3.0 only. So the page gets the description
in words of 3.0, made here. Nothing but the page reads that; machines get the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any, Final

import yaml

from peakclip_api.problems import TYPE_PREFIX

_DROPPED: Final = ("contentMediaType", "contentSchema", "dependentRequired", "x-problem-kinds", "x-roles")


def load() -> dict[str, Any]:
    """openapi.yaml, parsed."""
    source = resources.files("peakclip_api") / "openapi.yaml"
    document: dict[str, Any] = yaml.safe_load(source.read_bytes())
    return document


def for_reading(document: dict[str, Any]) -> dict[str, Any]:
    """The same in words of OpenAPI 3.0; who may call an operation is put into its description."""
    shown: dict[str, Any] = _older(document)
    shown["openapi"] = "3.0.3"
    del shown["jsonSchemaDialect"]
    del shown["info"]["summary"], shown["info"]["license"]
    shown["info"]["description"] += "\nFor machines: [openapi.json](openapi.json)."
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if roles := isinstance(operation, dict) and operation.get("x-roles"):
                said = operation.get("description", "").rstrip()
                shown["paths"][path][method]["description"] = f"{said}\n\nRoles: {', '.join(roles)}."
    for name, status in _statuses(document):
        source, response = document["components"]["responses"][name], shown["components"]["responses"][name]
        if kinds := source.get("x-problem-kinds"):
            response["content"]["application/problem+json"]["examples"] = {
                kind: {"value": _problem(kind, status)} for kind in kinds
            }
    return shown


def _statuses(document: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The shared responses with the status that each has wherever it is used."""
    operations = (
        operation
        for item in document["paths"].values()
        for operation in item.values()
        if "responses" in operation
    )
    for operation in operations:
        for status, response in operation["responses"].items():
            if "$ref" in response:
                yield response["$ref"].rpartition("/")[2], int(status)


def _problem(kind: str, status: int) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": TYPE_PREFIX + kind,
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": "What is wrong, in words.",
    }
    if kind == "invalid-request":
        example["errors"] = [{"field": "quantity", "message": "Expected `int` >= 1"}]
    return example


def _older(node: Any) -> Any:
    """What 3.1 says with JSON Schema's words, said with those of 3.0."""
    if isinstance(node, list):
        return [_older(value) for value in node]
    if not isinstance(node, dict):
        return node
    changed = {key: _older(value) for key, value in node.items() if key not in _DROPPED}
    if isinstance(node.get("type"), list):
        changed["type"] = next(kind for kind in node["type"] if kind != "null")
        changed["nullable"] = True
    if "const" in node:
        changed["enum"] = [changed.pop("const")]
        changed.setdefault("type", "string")
    if isinstance(node.get("examples"), list):
        changed["example"] = changed.pop("examples")[0]
    if {"type": "null"} in node.get("oneOf", ()):
        changed["allOf"] = [option for option in changed.pop("oneOf") if option != {"type": "null"}]
        changed["nullable"] = True
    if "$ref" in node and len(node) > 1:  # 3.0 does not read what stands beside a reference
        changed["allOf"] = [{"$ref": changed.pop("$ref")}]
    return changed
