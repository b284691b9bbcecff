"""Who explores the API: has a credential for every request, and knows what there is.

schemathesis makes up requests; this gives them a role, and ids that name something, before they are sent.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict, deque
from datetime import timedelta
from typing import Any

from schemathesis import Case, HookContext, Response
from support import ADMIN_KEY, CUSTOMER_KEY, FOREIGN_KEY, NOW, PROVIDER_KEY, SERVICE_KEY, TENANT

KEYS = {"customer": CUSTOMER_KEY, "provider": PROVIDER_KEY, "admin": ADMIN_KEY, "service": SERVICE_KEY}
OTHER_KEYS = [*KEYS.values(), FOREIGN_KEY, "pk_unknown", None]
CUSTOMER = "own-1"  # the customer of CUSTOMER_KEY; the service acts for it most of the time
PROVIDER, PET, PACKAGE = (
    "p-1",
    "pet-1",
    "package-1",
)  # there before anything is explored; p-1 has PROVIDER_KEY
ORDER = "00000000-0000-8000-8000-000000000000"  # of which both have been told
FURNISHED = (PROVIDER, PET, PACKAGE, CUSTOMER)  # nothing changes or deletes them
# What makes a body likely to fit the rest of the world.
LIKELY: dict[str, dict[str, Any]] = {
    "POST /v1/sales": {
        "opens_at": (NOW - timedelta(hours=1)).isoformat(),
        "closes_at": (NOW + timedelta(days=1)).isoformat(),
    },
    "POST /v1/orders": {
        "pet_id": PET,
        "service_package_id": PACKAGE,
        "service_date": (NOW + timedelta(days=7)).isoformat(),
        "latitude": 52.5,
        "longitude": 13.4,
    },
    "POST /v1/orders/{order_id}/accept": {"provider_id": PROVIDER},
}
STREAMS = ("/v1/notifications/stream", "/v1/orders/{order_id}/events")
# The status an order has for an operation on it to work.
FROM_STATUS = {
    "POST /v1/orders/{order_id}/accept": "created",
    "POST /v1/orders/{order_id}/start": "accepted",
    "POST /v1/orders/{order_id}/complete": "started",
    "POST /v1/reviews": "completed",
}


async def furnish(database: Any) -> None:
    """A provider, a customer's pet and a package, so that an order can go all the way, and news for both."""
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
    await database.executemany(
        "insert into notifications (tenant, audience, user_id, number, event_id, kind, title, body, data)"
        " values ($1, $2, $3, 1, $4, 'order.paid', 'An order', 'It is paid.', $5)",
        [
            (TENANT, audience, user, f"{ORDER}:2", json.dumps({"order_id": ORDER}))
            for audience, user in (("customer", CUSTOMER), ("provider", PROVIDER))
        ],
    )


class Visitor:
    """Gives every request a credential: mostly one that may call the operation, sometimes any other, or none.

    And makes right requests likely to meet what is there: random data hardly ever names anything that exists.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._number = 0
        self._known: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=4))  # ids by the field's name
        self._orders: dict[str, str] = {}  # the last that was heard of an order's status

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
        elif self._is_right(case) and self._chance.random() < 0.8:
            case.headers["Peakclip-Customer"] = CUSTOMER
        if self._is_right(case):
            self._make_likely(case)

    def after_call(self, context: HookContext, case: Case, response: Response) -> None:
        """Remembers what there is."""
        if (
            not 200 <= response.status_code < 300
            or "json" not in response.headers.get("content-type", [""])[0]
        ):
            return
        body = response.json()
        for name, value in body.items() if isinstance(body, dict) else ():
            if (
                name.endswith("_id")
                and isinstance(value, str)
                and value not in (*FURNISHED, *self._known[name])
            ):
                self._known[name].append(value)
        if isinstance(body, dict) and {"order_id", "status"} <= body.keys():
            self._orders[body["order_id"]] = body["status"]

    @staticmethod
    def _is_right(case: Case) -> bool:
        return case.meta is not None and case.meta.generation.mode.is_positive

    def _make_likely(self, case: Case) -> None:
        if "Idempotency-Key" in case.headers and self._chance.random() < 0.8:
            self._number += 1
            case.headers["Idempotency-Key"] = f"explored-{self._number}"
        if case.operation.path in STREAMS and self._chance.random() < 0.9:
            case.headers["Last-Event-ID"] = "0"  # from the beginning, or it waits for something to happen
        for name in case.path_parameters or {}:
            if self._known[name] and self._chance.random() < 0.8:
                case.path_parameters[name] = self._one_of(name, case)
            if case.method in ("PATCH", "DELETE") and case.path_parameters[name] in FURNISHED:
                case.path_parameters[name] = "another"
        if isinstance(case.body, dict):  # JSON Schema calls 43.0 an integer, Peakclip does not, and says so
            case.body = {name: _whole(value) for name, value in case.body.items()}
            if "order_id" in case.body and self._known["order_id"]:
                case.body["order_id"] = self._one_of("order_id", case)
            if self._chance.random() < 0.8:
                case.body |= LIKELY.get(case.operation.label, {})

    def _one_of(self, name: str, case: Case) -> str:
        """A known id; of an order mostly one with which the operation can work."""
        wanted = FROM_STATUS.get(case.operation.label)
        fit = [order for order, status in self._orders.items() if status == wanted]
        if name == "order_id" and fit and self._chance.random() < 0.7:
            return self._chance.choice(fit)
        return self._chance.choice(self._known[name])


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
