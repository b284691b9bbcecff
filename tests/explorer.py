"""Explores a running API with schemathesis: everything that openapi.yaml describes and that is registered.

Two ways: each operation alone (examples, bounds of every field, wrong and random input), and sequences of operations
along the description's links. The seed is fixed; time and number of requests are bounded.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openapi
import schemathesis
from multidict import CIMultiDict
from schemathesis import Case, HookContext, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER
from visitor import STREAMS, Visitor

SEED = 7
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
)
# What may be said to a request that its schema allows, beyond 401, 403, 404 and 409: it depends on what went before,
# on the clock, or on the role.
DEPENDS = {"idempotency-key-reused", "sale-closed", "sale-not-open", "customer-required"}
# Operations with rules between fields, or for what a field names, which a schema cannot say.
BETWEEN_FIELDS = {
    "createOrder",
    "createSale",
    "updateSale",
    "getDailyReport",
    "acceptOrder",
    "createCustomer",
    "updateCustomer",
}


@dataclass(frozen=True)
class Way:
    """How to explore: schemathesis's phases, and what bounds them.

    Sequences take several rounds with a seed each, since Hypothesis ends one as soon as the same choices lead
    somewhere else than before; and they do, because the system has a memory.
    """

    phases: tuple[str, ...]
    seconds: float  # no new work after these
    rounds: int
    examples: int  # of each operation alone, or sequences, in a round
    steps: int = 2  # requests in a sequence, at most


ALONE = Way(("examples", "coverage", "fuzzing"), seconds=90, rounds=1, examples=10)
IN_SEQUENCE = Way(("stateful",), seconds=40, rounds=5, examples=12, steps=30)


@dataclass
class Findings:
    """What came of it. `answers` counts statuses by `METHOD /path`."""

    requests: int = 0
    answers: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    failures: dict[tuple[str, ...], str] = field(default_factory=dict)  # one of a kind


def implemented(app: Any) -> set[str]:
    """`METHOD /path` of every registered route."""
    return {f"{route.method} {route.resource.canonical}" for route in app.router.routes() if route.resource}


def explore(url: str, routes: set[str], way: Way) -> Findings:
    """Blocks; run it in a thread beside the API's loop."""
    visitor = Visitor(random.Random(SEED))
    before, after = visitor.before_call, visitor.after_call
    GLOBAL_HOOK_DISPATCHER.register_hook_with_name(before, "before_call")
    GLOBAL_HOOK_DISPATCHER.register_hook_with_name(after, "after_call")
    findings, deadline = Findings(), time.monotonic() + way.seconds
    try:
        for number in range(way.rounds):
            _round(url, routes, way, SEED + number, findings, deadline)
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(before)
        GLOBAL_HOOK_DISPATCHER.unregister(after)
    return findings


def _round(url: str, routes: set[str], way: Way, seed: int, findings: Findings, deadline: float) -> None:
    schema = schemathesis.openapi.from_dict(_restricted(routes), config=_config(way, seed))
    schema.config.update(base_url=url)
    schema.hooks.register_hook_with_name(_depends_on_more_than_the_schema, "filter_failure")
    stream = from_schema(schema).execute()
    for event in stream:
        if time.monotonic() > deadline:
            stream.stop()
        if isinstance(event, events.ScenarioFinished):
            _read(event.recorder, routes, findings)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            findings.failures[(str(event),)] = str(getattr(event, "info", event))


def _config(way: Way, seed: int) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "continue-on-failure": True,
            "max-stream-events": 1,
            "request-timeout": 10,
            "operations": [
                {"include-path": path, "request-timeout": 2} for path in STREAMS
            ],  # then it is cut off
            "output": {"sanitization": {"enabled": False}},  # a failure names a call that can be repeated
            "checks": {
                "enabled": False,
                **{name: {"enabled": True} for name in CHECKS},
                # 503 must be described where it comes, and carry Retry-After: other checks see to that.
                "not_a_server_error": {"enabled": True, "expected-statuses": ["2xx", "3xx", "4xx", 503]},
            },
            "generation": {
                "deterministic": True,
                "max-examples": way.examples,
                "no-shrink": True,
                "database": "none",
            },
            "phases": {
                **{name: {"enabled": name in way.phases} for name in ALONE.phases},
                "stateful": {"enabled": "stateful" in way.phases, "max-steps": way.steps},
            },
        }
    )


def _restricted(routes: set[str]) -> dict[str, Any]:
    """The description of what is registered, with no links to what is not."""
    paths: dict[str, Any] = {}
    for path, item in openapi.DOCUMENT["paths"].items():
        there = {word: node for word, node in item.items() if f"{word.upper()} {path}" in routes}
        if there:
            paths[path] = {"parameters": item.get("parameters", []), **there}
    ids = {node["operationId"] for item in paths.values() for node in item.values() if "operationId" in node}
    return {**_without_links({**openapi.DOCUMENT, "paths": paths}, ids)}


def _without_links(node: Any, ids: set[str]) -> Any:
    if isinstance(node, list):
        return [_without_links(value, ids) for value in node]
    if not isinstance(node, dict):
        return node
    changed = {name: _without_links(value, ids) for name, value in node.items()}
    if "links" in node:
        changed["links"] = {
            name: link for name, link in changed["links"].items() if link["operationId"] in ids
        }
    return changed


def _depends_on_more_than_the_schema(
    context: HookContext, failure: Failure, case: Case, response: Response
) -> bool:
    """False drops a failure: valid data was refused for a reason that no schema can know.

    And what is said of a missing credential, since every request gets one here.
    """
    if type(failure).__name__ == "MissingHeaderNotRejected":
        return "'Authorization'" not in str(failure)
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    kind = str(response.json()["type"]).rpartition("/")[2] if response.status_code >= 400 else ""
    operation = case.operation.definition.raw["operationId"]
    between = operation in BETWEEN_FIELDS or "cursor" in (case.query or {})
    return not (kind in DEPENDS or (kind == "invalid-request" and between))


def _read(recorder: ScenarioRecorder, routes: set[str], findings: Findings) -> None:
    for case_id, interaction in recorder.interactions.items():
        case = recorder.cases[case_id].value
        response = interaction.response
        if response is None:
            findings.failures[(case.operation.label, "no answer")] = f"{interaction.request}"
            continue
        findings.requests += 1
        route = f"{case.method.upper()} {case.operation.path}"
        findings.answers[route][response.status_code] += 1
        if route not in routes:
            continue  # a method that the route does not have yet
        for complaint in _held_against_the_description(interaction):
            findings.failures.setdefault((route, complaint[:30]), complaint)
    for case_id, checks in recorder.checks.items():
        label = recorder.cases[case_id].value.operation.label
        for check in checks:
            if found := check.failure_info:
                said = f"{label}: {found.failure}\n{found.code_sample}"
                findings.failures.setdefault((label, check.name, found.failure.title), said)


def _held_against_the_description(interaction: Any) -> Iterator[str]:
    """The same as for every other test's calls: among others, no answer has a field that is not described."""
    request, response = interaction.request, interaction.response
    url = request.uri.partition("://")[2]
    exchange = openapi.Exchange(
        request.method,
        url[url.index("/") :],
        CIMultiDict((name, values[0]) for name, values in request.headers.items()),
        request.body,
        response.status_code,
        CIMultiDict((name, values[0]) for name, values in response.headers.items()),
        response.text,
    )
    try:
        openapi.check_answer(exchange)
    except AssertionError as complaint:
        yield str(complaint)
