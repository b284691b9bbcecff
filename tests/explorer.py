"""Explores a running API with schemathesis: everything that openapi.yaml describes and that is registered.

Two ways: each operation alone (examples, bounds of every field, wrong and random input), and sequences of operations
along the description's links. The seed is fixed; time and number of requests are bounded.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
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
from support import ADMIN_KEY, CUSTOMER_KEY, FOREIGN_KEY, NOW, PROVIDER_KEY, SERVICE_KEY, TENANT

SEED = 7
KEYS = {"customer": CUSTOMER_KEY, "provider": PROVIDER_KEY, "admin": ADMIN_KEY, "service": SERVICE_KEY}
OTHER_KEYS = [*KEYS.values(), FOREIGN_KEY, "pk_unknown", None]
CUSTOMER = "own-1"  # the customer of CUSTOMER_KEY; the service acts for it most of the time
PROVIDER, PET, PACKAGE = (
    "p-1",
    "pet-1",
    "package-1",
)  # there before anything is explored; p-1 has PROVIDER_KEY
# What makes a body likely to fit the rest of the world.
LIKELY: dict[str, dict[str, Any]] = {
    "POST /v1/sales": {
        "opens_at": (NOW - timedelta(hours=1)).isoformat(),
        "closes_at": (NOW + timedelta(days=1)).isoformat(),
    },
    "POST /v1/orders": {"pet_id": PET, "service_package_id": PACKAGE},
    "POST /v1/orders/{order_id}/accept": {"provider_id": PROVIDER},
}
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


async def furnish(database: Any) -> None:
    """A provider, a customer's pet and a package, so that an order can go all the way."""
    await database.execute(
        "insert into providers (provider_id, tenant, name, latitude, longitude, radius_m, fingerprint)"
        " values ($1, $2, 'A provider', 52.5, 13.4, 5000, 'f')",
        PROVIDER, TENANT,
    )  # fmt: skip
    await database.execute(
        "insert into pets (pet_id, tenant, customer_id, name, species, fingerprint)"
        " values ($1, $2, $3, 'Momo', 'dog', 'f')",
        PET, TENANT, CUSTOMER,
    )  # fmt: skip
    await database.execute(
        "insert into service_packages (service_package_id, tenant, name, price_cents, duration_minutes, fingerprint)"
        " values ($1, $2, 'A bath', 1999, 30, 'f')",
        PACKAGE, TENANT,
    )  # fmt: skip


def explore(url: str, routes: set[str], phases: tuple[str, ...], seconds: int, examples: int) -> Findings:
    """Blocks for at most about `seconds`; run it in a thread beside the API's loop."""
    schema = schemathesis.openapi.from_dict(_restricted(routes), config=_config(phases, examples))
    schema.config.update(base_url=url)
    schema.hooks.register_hook_with_name(_depends_on_more_than_the_schema, "filter_failure")
    visit = _Visitor(random.Random(SEED)).before_call
    GLOBAL_HOOK_DISPATCHER.register_hook_with_name(visit, "before_call")
    findings, deadline = Findings(), time.monotonic() + seconds
    try:
        stream = from_schema(schema).execute()
        for event in stream:
            if time.monotonic() > deadline:
                stream.stop()
            if isinstance(event, events.ScenarioFinished):
                _read(event.recorder, routes, findings)
            elif isinstance(event, events.NonFatalError | events.FatalError):
                findings.failures[(str(event),)] = str(getattr(event, "info", event))
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(visit)
    return findings


def _config(phases: tuple[str, ...], examples: int) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "continue-on-failure": True,
            "max-stream-events": 1,
            "request-timeout": 10,
            "output": {"sanitization": {"enabled": False}},  # a failure names a call that can be repeated
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
        """What random data hardly ever has: a new key, the customer that has something, an open sale, what is there."""
        if "Idempotency-Key" in case.headers and self._chance.random() < 0.8:
            self._number += 1
            case.headers["Idempotency-Key"] = f"explored-{self._number}"
        if case.headers.get("Authorization") == f"Bearer {SERVICE_KEY}" and self._chance.random() < 0.8:
            case.headers["Peakclip-Customer"] = CUSTOMER
        if isinstance(case.body, dict):  # JSON Schema calls 43.0 an integer, Peakclip does not, and says so
            case.body = {name: _whole(value) for name, value in case.body.items()}
            case.body |= LIKELY.get(case.operation.label, {})


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
        findings.answers[route].add(response.status_code)
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
        openapi.check(exchange)
    except AssertionError as complaint:
        yield str(complaint)
