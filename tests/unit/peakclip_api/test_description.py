"""openapi.yaml is valid, is about the routes that there are, and knows every kind of problem."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import openapi
import pytest
from multidict import CIMultiDict
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

import peakclip_api
from peakclip.service import Service
from peakclip_api import description, problems
from peakclip_api.app import create_app
from peakclip_api.problems import TYPE_PREFIX
from peakclip_api.settings import ApiSettings

# Problems that belong to no operation: there is no such route, no such method, no HTTP, or a defect.
OF_NO_OPERATION = {"not-found", "method-not-allowed", "malformed-request", "internal-error"}


def registered() -> set[str]:
    app = create_app(ApiSettings(), Service())
    pairs = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    return {f"{method} {path}" for method, path in pairs if method != "HEAD" or ("GET", path) not in pairs}


def described() -> set[str]:
    return {f"{method} {path}" for method, path, _ in openapi.operations()}


def described_kinds() -> set[str]:
    types = openapi.DOCUMENT["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    return {one.removeprefix(TYPE_PREFIX) for one in types}


def test_the_description_is_openapi_3_1() -> None:
    assert openapi.DOCUMENT["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(openapi.DOCUMENT).iter_errors()] == []


def test_what_the_reading_page_gets_is_openapi_3_0_and_has_every_operation() -> None:
    shown = description.for_reading(openapi.DOCUMENT)
    assert [str(error) for error in OpenAPIV30SpecValidator(shown).iter_errors()] == []
    assert shown["paths"].keys() == openapi.DOCUMENT["paths"].keys()
    assert "Roles: admin." in shown["paths"]["/v1/sales"]["post"]["description"]
    assert openapi.DOCUMENT["openapi"].startswith("3.1."), "the source is as it was"


def test_every_route_is_described_and_every_described_route_is_there() -> None:
    assert registered() - described() == set(), "routes that openapi.yaml does not know"
    assert described() - registered() == set(), "described routes that nobody has registered"


def test_operations_are_told_apart_and_can_be_read() -> None:
    everything = list(openapi.operations())
    ids = [operation["operationId"] for _, _, operation in everything]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in openapi.DOCUMENT["tags"]}
    for method, path, operation in everything:
        assert operation["summary"], (method, path)
        assert set(operation["tags"]) <= tags, (method, path)


def test_every_operation_says_who_may_call_it() -> None:
    for method, path, operation in openapi.operations():
        roles, statuses = operation.get("x-roles", []), operation["responses"].keys()
        if operation.get("security") == []:
            assert roles == [], (method, path)
            assert not statuses & {"401", "403"}, (method, path)
            continue
        assert set(roles) <= {"customer", "provider", "admin", "service"}, (method, path)
        assert roles, (method, path)
        assert "401" in statuses, (method, path)
        assert ("403" in statuses) or len(roles) == 4, (method, path)


def test_what_creates_needs_an_idempotency_key() -> None:
    for method, path, operation in openapi.operations():
        keys = [one for one in operation["parameters"] if one["name"] == "Idempotency-Key"]
        creates = method == "POST" and not operation["responses"].keys().isdisjoint(("201", "202"))
        assert bool(keys and keys[0]["required"]) == creates, (method, path)


def test_requests_take_no_unknown_fields() -> None:
    for method, path, operation in openapi.operations():
        if body := operation.get("requestBody"):
            schema = openapi._resolved(body["content"]["application/json"]["schema"])
            assert schema["additionalProperties"] is False, (method, path)


def test_every_kind_of_problem_is_described_and_every_described_kind_exists() -> None:
    used = set(kinds_in_code())
    assert used - described_kinds() == set(), "kinds that openapi.yaml does not know"
    assert described_kinds() - used == set(), "described kinds that no code has"


def test_every_kind_comes_with_some_status_of_some_operation() -> None:
    responses = [
        openapi._resolved(one) for _, _, op in openapi.operations() for one in op["responses"].values()
    ]
    answered = {kind for response in responses for kind in response.get("x-problem-kinds", ())}
    assert answered | OF_NO_OPERATION == described_kinds()
    for response in responses:
        is_problem = "application/problem+json" in response.get("content", {})
        assert is_problem == ("x-problem-kinds" in response), response
        for kind in response.get("x-problem-kinds", ()):
            assert f"`{kind}`" in response["description"], response


def kinds_in_code() -> Iterator[str]:
    """The kinds that the code writes as words, and those that come from aiohttp's own refusals."""
    yield from problems._KINDS.values()
    for status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        yield status.phrase.lower().replace(" ", "-")
    for file in Path(peakclip_api.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (kind := _kind_argument(node)) is None:
                continue
            words = [part.value for part in ast.walk(kind) if isinstance(part, ast.Constant)]
            passed_on = file.name == "problems.py" and not words
            assert words or passed_on, (
                f"{file.name}:{kind.lineno}: write the kind as a word, so that it can be found"
            )
            yield from (word for word in words if isinstance(word, str))


def _kind_argument(node: ast.AST) -> ast.expr | None:
    place = {"Problem": 1, "retry_later": 0, "SlowRequestError": 1}.get(
        getattr(getattr(node, "func", None), "id", "")
    )
    if place is None or not isinstance(node, ast.Call):
        return None
    named: dict[str | None, Any] = {keyword.arg: keyword.value for keyword in node.keywords}
    return node.args[place] if len(node.args) > place else named["kind"]


# What the helper must notice.

JSON = {"Content-Type": "application/json"}
ORDER_ID = "8cf9d1ae-6c25-8d53-8a51-98aa2cb1e9a4"
ACCEPTED = f'{{"order_id":"{ORDER_ID}","position":1,"eta_seconds":null,"status":"queued"}}'
PROBLEM = f'{{"type":"{TYPE_PREFIX}%s","title":"T","status":%d,"detail":"d"}}'


def exchange(**changes: Any) -> openapi.Exchange:
    values: dict[str, Any] = {
        "method": "POST",
        "path": "/v1/sales/s1/orders",
        "request_headers": {"idempotency-key": "k"},
        "sent": b'{"quantity":2}',
        "status": 202,
        "headers": {**JSON, "Location": f"/v1/orders/{ORDER_ID}"},
        "text": ACCEPTED,
        **changes,
    }
    both = {name: CIMultiDict(values[name]) for name in ("request_headers", "headers")}
    return openapi.Exchange(**{**values, **both})


def problem(status: int, kind: str, **headers: str) -> dict[str, Any]:
    answer = {"Content-Type": "application/problem+json", **headers}
    return {"status": status, "headers": answer, "text": PROBLEM % (kind, status)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sent": b""},
        {"sent": None},
        {"method": "GET", "path": "/nothing", **problem(404, "not-found")},
        {"path": "/v1/sales/%7Bid%7D/orders", **problem(404, "not-found")},
        {"method": "DELETE", **problem(405, "method-not-allowed", Allow="POST")},
        {"sent": b"nonsense", **problem(400, "malformed-json")},
        problem(503, "queue-unavailable", **{"Retry-After": "1"}),
    ],
)
def test_what_is_as_described_passes(changes: dict[str, Any]) -> None:
    openapi.check(exchange(**changes))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"path": "/v1/nothing"}, "no such path"),
        ({"path": "/v1/sales/s1/orders?quantity=2"}, "query parameters"),
        ({"path": "/v1/sales/a%00b/orders"}, "sale_id, accepted"),
        ({"method": "DELETE"}, "not described"),
        ({"method": "DELETE", **problem(405, "method-not-allowed")}, "without Allow"),
        ({"status": 200}, "this status is not described"),
        ({"headers": JSON}, "without the header Location"),
        ({"headers": {"Location": "/v1/x", "Content-Type": "text/plain"}}, "content type"),
        ({"text": ACCEPTED.replace('"position":1,', "")}, "position"),
        ({"text": ACCEPTED.replace('"position":1', '"position":1,"secret":2')}, "secret"),
        ({"text": ACCEPTED.replace(ORDER_ID, "7")}, "uuid"),
        ({"request_headers": {}}, "accepted without Idempotency-Key"),
        ({"request_headers": {"Idempotency-Key": "a b"}}, "Idempotency-Key, accepted"),
        ({"sent": b'{"quantity":0}'}, "quantity"),
        ({"sent": b'{"quantity":1,"sale":2}'}, "sale"),
        (problem(409, "forbidden"), "kind of problem"),
        (problem(409, "invented"), "is not one of"),
        (problem(503, "queue-unavailable"), "Retry-After"),
        (problem(503, "queue-unavailable", **{"Retry-After": "soon"}), "Retry-After"),
        ({**problem(409, "sold-out"), "text": PROBLEM % ("sold-out", 410)}, "status and body differ"),
    ],
)
def test_what_is_not_as_described_is_noticed(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        openapi.check(exchange(**changes))
