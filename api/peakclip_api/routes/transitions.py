"""What happens to an order after it was placed: accept, start, complete, cancel, pay."""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from peakclip.store import query
from peakclip.tracing import current_traceparent
from peakclip_api import fields as f
from peakclip_api import keys
from peakclip_api.auth import Credential, credential_of, require_role
from peakclip_api.body import decode_body, optional_key
from peakclip_api.ownership import named_customer, order_not_found, sees
from peakclip_api.problems import Problem, invalid
from peakclip_api.routes.orders import answer_order, order_id_of

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "accept": ("provider", "admin", "service"),
    "start": ("provider", "admin", "service"),
    "complete": ("provider", "admin", "service"),
    "cancel": ("customer", "admin", "service"),
    "pay": ("customer", "admin", "service"),
}
_PAYMENTS: Final = uuid.UUID("6f1c3d6e-3f3e-4c0a-9d51-1f3f5b0f8f0a")  # namespace of payment ids


class AcceptRequest(msgspec.Struct, forbid_unknown_fields=True):
    provider_id: f.Id | UnsetType = UNSET


_accept_decoder: Final = msgspec.json.Decoder(AcceptRequest)


def add_routes(app: web.Application) -> None:
    for action in ROLES:
        app.router.add_post(f"/v1/orders/{{order_id}}/{action}", _route(action))


def _route(action: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def transition(request: web.Request) -> web.Response:
        credential = await credential_of(request, request.app[keys.KEYS])
        require_role(credential, *ROLES[action])
        order_id = order_id_of(request)
        act = _pay if action == "pay" else _move
        for _ in range(2):  # an order may come out of the line between the first try and the look at the line
            row = await act(request, credential, action, order_id)
            if row["outcome"] != "not-found":
                return _answer(action, row)
            await _check_queued(request, credential, order_id)
        raise order_not_found()

    return transition


async def _move(request: web.Request, credential: Credential, action: str, order_id: str) -> Any:
    """The outcome and the order."""
    key = optional_key(request.headers)
    provider_id = credential.subject if credential.role == "provider" else None
    if action == "accept":
        provider_id = await _accepting_provider(request, credential)
    return await request.app[keys.POOL].fetchrow(
        query("transition_order"),
        credential.tenant,
        order_id,
        action,
        named_customer(request.headers, credential),
        provider_id,
        "cancelled-by-admin" if credential.role == "admin" else "cancelled-by-customer",
        key,
        current_traceparent(),
    )


async def _accepting_provider(request: web.Request, credential: Credential) -> str:
    wanted = decode_body(await request.read() or b"{}", _accept_decoder).provider_id
    if credential.role == "provider":
        if wanted not in (UNSET, credential.subject):
            raise Problem(403, "forbidden", "A provider accepts for itself only.")
        return credential.subject
    if wanted is UNSET:
        raise invalid("provider_id", "an admin and a service name the provider")
    return wanted


async def _pay(request: web.Request, credential: Credential, _action: str, order_id: str) -> Any:
    """One payment is one key, or without a key one order."""
    key = optional_key(request.headers)
    name = f"{credential.tenant}\0{order_id}" + ("" if key is None else f"\0{key}")
    return await request.app[keys.POOL].fetchrow(
        query("pay_order"),
        credential.tenant,
        order_id,
        named_customer(request.headers, credential),
        uuid.uuid5(_PAYMENTS, name),
        current_traceparent(),
    )


async def _check_queued(request: web.Request, credential: Credential, order_id: str) -> None:
    """For an order that the database does not have, or not for the caller. Returns if it has it by now."""
    order = await request.app[keys.LOOKUP].order(order_id)
    if order is None or not sees(order, request.headers, credential):
        raise order_not_found()
    if order["status"] == "queued":
        raise still_queued(order)


def still_queued(order: Mapping[str, Any]) -> Problem:
    wait = str(max(1, math.ceil(order["eta_seconds"] or 1)))
    return Problem(
        409,
        "illegal-transition",
        "The order still waits in line and has no status yet.",
        headers={"Retry-After": wait},
    )


def _answer(action: str, row: Any) -> web.Response:
    outcome, status = row["outcome"], row["status"]
    if outcome in ("done", "repeated"):
        return answer_order(row)
    if outcome == "lost":
        raise Problem(
            409,
            "illegal-transition",
            f"{_lost_because(row)} This payment is refunded.",
            more={"refunded": True},
        )
    if outcome == "unknown-provider":
        raise Problem(404, "provider-not-found", "There is no such provider, or it is not active.")
    raise Problem(409, "illegal-transition", f"The order is {status}: {action} is not possible.")


def _lost_because(row: Any) -> str:
    if row["status"] == "pending_payment":
        return "The time to pay is over."
    if row["paid_at"] is not None:
        return "The order is paid by another payment."
    return f"The order is {row['status']}."
