"""Holds requests and answers against openapi.yaml. What differs from the description fails the test that sees it.

    check(Exchange("POST", "/v1/sales", {…}, b"{…}", 201, {…}, "{…}"))

An answer must be described: its status, content type, headers and body, here without fields that the description does
not know. A request that was answered 2xx must be valid. Validators are made once for each schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

import jsonschema_rs
from multidict import CIMultiDict

from peakclip_api import description
from peakclip_api.problems import TYPE_PREFIX

DOCUMENT = description.load()
METHODS = ("get", "post", "patch", "delete", "put")
_NESTED = ("properties", "patternProperties")
_SIDE_BY_SIDE = ("allOf", "oneOf", "anyOf")


@dataclass(frozen=True)
class Exchange:
    """A request and its answer. `path` may have a query; `sent` is None if unknown."""

    method: str
    path: str
    request_headers: CIMultiDict[str]
    sent: bytes | None
    status: int
    headers: CIMultiDict[str]
    text: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} answered {self.status} {self.text[:500]}"


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path template, operation), with the parameters of the path."""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if operation := item.get(method):
                parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
                yield (
                    method.upper(),
                    path,
                    {**operation, "parameters": [_resolved(one) for one in parameters]},
                )


def check(exchange: Exchange) -> None:
    """Raises AssertionError that names what is not as described, of the answer or of a request that was accepted."""
    operation, in_path, query = _operation_of(exchange)
    if operation is None:
        return
    _check_answer(exchange, operation)
    if 200 <= exchange.status < 300:
        _check_request(exchange, operation, in_path, query)


def check_answer(exchange: Exchange) -> None:
    """The same of the answer alone."""
    operation, _, _ = _operation_of(exchange)
    if operation is not None:
        _check_answer(exchange, operation)


def _operation_of(exchange: Exchange) -> tuple[dict[str, Any] | None, dict[str, str], str]:
    """The operation, its values in the path, and the query; no operation where 404 or 405 is rightly answered."""
    path, _, query = exchange.path.partition("#")[0].partition("?")
    template, in_path = _match(path)
    braces = any(
        brace in value for value in in_path.values() for brace in "{}"
    )  # match no route of aiohttp's
    if template is None or (braces and exchange.status == 404):
        assert (exchange.status, _kind(exchange)) == (404, "not-found"), (
            f"no such path is described: {exchange}"
        )
        return None, {}, query
    method = "GET" if exchange.method.upper() == "HEAD" else exchange.method.upper()
    operation = _table()[template].get(method)
    if operation is None:
        assert (exchange.status, _kind(exchange)) == (405, "method-not-allowed"), f"not described: {exchange}"
        assert "Allow" in exchange.headers, f"405 without Allow: {exchange}"
    return operation, in_path, query


def _check_answer(exchange: Exchange, operation: dict[str, Any]) -> None:
    response = operation["responses"].get(str(exchange.status))
    assert response is not None, f"this status is not described: {exchange}"
    response = _resolved(response)
    for name, header in response.get("headers", {}).items():
        header = _resolved(header)
        value = exchange.headers.get(name)
        assert value is not None or not header.get("required"), f"without the header {name}: {exchange}"
        if value is not None:
            _check_value(value, header["schema"], f"header {name} of {exchange}")
    if exchange.status in (429, 503):
        assert "Retry-After" in exchange.headers, f"without Retry-After: {exchange}"
    content = response.get("content", {})
    if not content or exchange.method.upper() == "HEAD":
        assert not exchange.text, f"a body that is not described: {exchange}"
        return
    kind = exchange.headers.get("Content-Type", "").partition(";")[0]
    assert kind in content, f"the content type {kind!r} is not described: {exchange}"
    if kind.endswith("json"):
        body = json.loads(exchange.text)
        _check_instance(body, content[kind]["schema"], f"the body of {exchange}", closed=True)
    if kinds := response.get("x-problem-kinds"):
        assert _kind(exchange) in kinds, f"this kind of problem is not described: {exchange}"
        assert body["status"] == exchange.status, f"status and body differ: {exchange}"


def _check_request(
    exchange: Exchange, operation: dict[str, Any], in_path: Mapping[str, str], query: str
) -> None:
    in_query = dict(parse_qsl(query, keep_blank_values=True))
    known = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert in_query.keys() <= known, f"query parameters that are not described: {exchange}"
    for parameter in operation["parameters"]:
        name = parameter["name"]
        places = {"path": in_path, "query": in_query, "header": exchange.request_headers}
        value = places[parameter["in"]].get(name)
        assert value is not None or not parameter.get("required"), f"accepted without {name}: {exchange}"
        if value is not None:
            _check_value(value, parameter["schema"], f"{name}, accepted by {exchange}")
    if exchange.sent is None:
        return
    body = operation.get("requestBody", {"content": {}})
    assert exchange.sent or not body.get("required"), f"accepted without a body: {exchange}"
    if exchange.sent and body["content"]:
        schema = body["content"]["application/json"]["schema"]
        _check_instance(
            json.loads(exchange.sent), schema, f"the body {exchange.sent!r}, accepted by {exchange}"
        )


def _check_value(text: str, schema: dict[str, Any], what: str) -> None:
    """A header's or parameter's text."""
    instance = int(text) if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", text) else text
    _check_instance(instance, schema, what)


def _check_instance(instance: Any, schema: dict[str, Any], what: str, *, closed: bool = False) -> None:
    errors = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"
        for error in _validator(json.dumps(schema), closed).iter_errors(instance)
    ]
    assert not errors, f"{what} is not as described: {'; '.join(errors)}"


@cache
def _validator(schema: str, closed: bool) -> jsonschema_rs.Draft202012Validator:
    chosen = json.loads(schema)
    root = {"components": _closed_components(), **_close(chosen)} if closed else {**DOCUMENT, **chosen}
    return jsonschema_rs.Draft202012Validator(root, validate_formats=True)


@cache
def _closed_components() -> dict[str, Any]:
    schemas = DOCUMENT["components"]["schemas"]
    return {"schemas": {name: _close(schema, itself=False) for name, schema in schemas.items()}}


def _close(schema: dict[str, Any], *, itself: bool = True) -> dict[str, Any]:
    """The schema without room for fields that it does not name, at every depth.

    Clients are told to ignore unknown fields, so the description stays open; a test wants to see what is undescribed.
    """
    changed = dict(schema)
    for word in _NESTED:
        if word in schema:
            changed[word] = {name: _close(value) for name, value in schema[word].items()}
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            changed[word] = _close(schema[word])
    for word in _SIDE_BY_SIDE:
        if word in schema:
            changed[word] = [_close(part, itself=False) for part in schema[word]]
    if itself and not schema.keys().isdisjoint(("properties", "$ref", *_SIDE_BY_SIDE)):
        changed["unevaluatedProperties"] = False
    return changed


@cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    """Operations by path template and method."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for method, path, operation in operations():
        table.setdefault(path, {})[method] = operation
    return table


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """The most literal first: /v1/notifications/stream is no notification's id."""
    templates = sorted(_table(), key=lambda template: template.count("{"))
    return [(re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(one))), one) for one in templates]


def _match(path: str) -> tuple[str | None, dict[str, str]]:
    for pattern, template in _patterns():
        if found := pattern.fullmatch(path):
            return template, {name: unquote(value) for name, value in found.groupdict().items()}
    return None, {}


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    found = node
    if "$ref" in node:
        found = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
    return found


def _kind(exchange: Exchange) -> str | None:
    if "problem" not in exchange.headers.get("Content-Type", ""):
        return None
    return str(json.loads(exchange.text)["type"]).removeprefix(TYPE_PREFIX)
