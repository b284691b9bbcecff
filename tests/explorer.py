"""Explores a running API with schemathesis: everything that openapi.yaml describes and that is registered.

Two ways: each operation alone (examples, bounds of every field, wrong and random input), and sequences of operations
along the description's links. The seed is fixed; time and number of requests are bounded.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import openapi
import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER
from support import ADMIN_KEY, CUSTOMER_KEY, FOREIGN_KEY, NOW, PROVIDER_KEY, SERVICE_KEY

SEED = 7
KEYS = {"customer": CUSTOMER_KEY, "provider": PROVIDER_KEY, "admin": ADMIN_KEY, "service": SERVICE_KEY}
OTHER_KEYS = [*KEYS.values(), FOREIGN_KEY, "pk_unknown", None]
CUSTOMER = "own-1"  # the customer of CUSTOMER_KEY; the service acts for it most of the time
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
# Operations with rules between fields, which a schema cannot say.
BETWEEN_FIELDS = {"createSale", "updateSale", "getDailyReport", "acceptOrder", "createCustomer"}
ALONE = ("examples", "coverage", "fuzzing")
IN_SEQUENCE = ("stateful",)


@dataclass
class Findings:
    """What came of it. `answers` is statuses by `METHOD /path`."""

    requests: int = 0
    answers: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    failures: dict[tuple[str, ...], str] = field(default_factory=dict)  # one of a kind


def implemented(app: Any) -> set[str]:
    """`METHOD /path` of every registered route."""
    return {f"{route.method} {route.resource.canonical}" for route in app.router.routes() if route.resource}


def explore(url: str, routes: set[str], phases: tuple[str, ...], seconds: int, examples: int) -> Findings:
    """Blocks for at most about `seconds`; run it in a thread beside the API's loop."""
    schema = schemathesis.openapi.from_dict(_restricted(routes), config=_config(phases, seconds, examples))
    schema.config.update(base_url=url)
    schema.hooks.register_hook_with_name(_depends_on_more_than_the_schema, "filter_failure")
    visit = _Visitor(random.Random(SEED)).before_call
    GLOBAL_HOOK_DISPATCHER.register_hook_with_name(visit, "before_call")
    findings = Findings()
    try:
        for event in from_schema(schema).execute():
            if isinstance(event, events.ScenarioFinished):
                _read(event.recorder, findings)
            elif isinstance(event, events.NonFatalError | events.FatalError):
                findings.failures[(str(event),)] = str(getattr(event, "info", event))
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(visit)
    return findings


def _config(phases: tuple[str, ...], seconds: int, examples: int) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "max-time": seconds,
            "continue-on-failure": True,
            "max-stream-events": 1,
            "request-timeout": 10,
            "checks": {
                "enabled": False,
                **{name: {"enabled": True} for name in CHECKS},
                # 503 must be described where it comes, and carry Retry-After: other checks see to that.
                "not_a_server_error": {"enabled": True, "expected-statuses": ["2xx", "3xx", "4xx", 503]},
            },
            "generation": {
                "deterministic": True,
                "max-examples": examples,
                "no-shrink": True,
                "database": "none",
            },
            "phases": {
                **{name: {"enabled": name in phases} for name in ALONE},
                "stateful": {"enabled": "stateful" in phases, "max-steps": 12},
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


class _Visitor:
    """Gives every request a credential: mostly one that may call the operation, sometimes any other, or none."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._number = 0

    def before_call(self, context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
        roles = case.operation.definition.raw.get("x-roles", ())
        usual = bool(roles) and self._chance.random() < 0.9
        key = KEYS[self._chance.choice(roles)] if usual else self._chance.choice(OTHER_KEYS)
        if key is None:
            case.headers.pop("Authorization", None)
        else:
            case.headers["Authorization"] = f"Bearer {key}"
        if key != SERVICE_KEY:  # whom it names has no effect then, however wrong
            case.headers.pop("Peakclip-Customer", None)
        if case.meta is not None and case.meta.generation.mode.is_positive:
            self._make_likely(case)

    def _make_likely(self, case: Case) -> None:
        """What random data hardly ever is: a new key, the customer that has something, a sale that is open."""
        if "Idempotency-Key" in case.headers and self._chance.random() < 0.8:
            self._number += 1
            case.headers["Idempotency-Key"] = f"explored-{self._number}"
        if case.headers.get("Authorization") == f"Bearer {SERVICE_KEY}" and self._chance.random() < 0.8:
            case.headers["Peakclip-Customer"] = CUSTOMER
        if case.operation.label == "POST /v1/sales" and isinstance(case.body, dict):
            opens, closes = NOW - timedelta(hours=1), NOW + timedelta(days=1)
            case.body |= {"opens_at": opens.isoformat(), "closes_at": closes.isoformat()}


def _depends_on_more_than_the_schema(
    context: HookContext, failure: Failure, case: Case, response: Response
) -> bool:
    """False drops a failure: valid data was refused for a reason that no schema can know."""
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    kind = str(response.json()["type"]).rpartition("/")[2] if response.status_code >= 400 else ""
    operation = case.operation.definition.raw["operationId"]
    between = operation in BETWEEN_FIELDS or "cursor" in (case.query or {})
    return not (kind in DEPENDS or (kind == "invalid-request" and between))


def _read(recorder: ScenarioRecorder, findings: Findings) -> None:
    for case_id, interaction in recorder.interactions.items():
        case = recorder.cases[case_id].value
        response = interaction.response
        if response is None:
            findings.failures[(case.operation.label, "no answer")] = f"{interaction.request}"
            continue
        findings.requests += 1
        findings.answers[f"{case.method.upper()} {case.operation.path}"].add(response.status_code)
        for complaint in _held_against_the_description(interaction):
            findings.failures.setdefault((case.operation.label, complaint[:60]), complaint)
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
        {name: values[0] for name, values in request.headers.items()},
        request.body,
        response.status_code,
        {name.title(): values[0] for name, values in response.headers.items()},
        response.text,
    )
    try:
        openapi.check(exchange)
    except AssertionError as complaint:
        yield str(complaint)
