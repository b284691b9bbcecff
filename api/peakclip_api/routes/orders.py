"""Orders: of a flash sale, ordinary ones at once or through the line, one of them, and lists."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from peakclip import messages
from peakclip.messages import Booking, Order
from peakclip.store import query
from peakclip.tracing import current_traceparent
from peakclip_api import fields as f
from peakclip_api import keys
from peakclip_api.accept import Accepted
from peakclip_api.auth import Credential, credential_of, customer_of
from peakclip_api.body import decode_body, idempotency_key
from peakclip_api.bookings import refused
from peakclip_api.lookup import shown
from peakclip_api.ownership import named_customer, order_not_found, sees
from peakclip_api.paging import answer_page, page_of
from peakclip_api.prints import fingerprint
from peakclip_api.problems import Problem, invalid, key_reused

MAX_QUANTITY: Final = 1_000
STATUSES: Final = (
    "created", "pending_payment", "paid", "accepted", "started", "completed", "cancelled", "rejected",
)  # fmt: skip


class SeckillOrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    quantity: Annotated[int, msgspec.Meta(ge=1, le=MAX_QUANTITY)] = 1


class OrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    pet_id: f.Id
    service_package_id: f.Id
    service_date: f.Time
    address: f.OptionalAddress = None
    latitude: f.Latitude | None = None
    longitude: f.Longitude | None = None
    note: f.OptionalText = None


order_decoder: Final = msgspec.json.Decoder(SeckillOrderRequest)
_booking_decoder: Final = msgspec.json.Decoder(OrderRequest)


def add_routes(app: web.Application) -> None:
    app.router.add_post("/v1/sales/{sale_id}/orders", create_seckill_order)
    app.router.add_post("/v1/orders", create_order)
    app.router.add_get("/v1/orders", list_orders)
    app.router.add_get("/v1/orders/{order_id}", get_order)


async def create_seckill_order(request: web.Request) -> web.Response:
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    customer_id = customer_of(request.headers, credential)
    key = idempotency_key(request.headers)
    wanted = decode_body(await request.read() or b"{}", order_decoder)
    sale_id = request.match_info["sale_id"]
    sale = app[keys.SALES].remembered(sale_id) or await app[keys.SALES].get(sale_id)
    if sale is None or sale.tenant != credential.tenant:
        raise Problem(404, "sale-not-found", "There is no such sale.")
    return _queued(await app[keys.ACCEPTOR].accept(sale, customer_id, key, wanted.quantity, credential))


async def create_order(request: web.Request) -> web.Response:
    """A repeat is recognised before anything else is judged: pet or package may have gone since."""
    credential = await credential_of(request, request.app[keys.KEYS])
    order = await _ordered(request, credential)
    if _prefers_async(request):
        return await _create_later(request, order, credential)
    known = await request.app[keys.ACCEPTOR].repeat(order.order_id, order.fingerprint)
    return await _create_now(request, order) if known is None else _queued(known)


async def _create_later(request: web.Request, order: Order, credential: Credential) -> web.Response:
    app = request.app
    try:
        accepted = await app[keys.ACCEPTOR].accept_booking(order, app[keys.BOOKABLE].check, credential)
    except Problem as problem:
        if problem.kind != "invalid-request":
            raise
        # Perhaps it was accepted so long ago that no process remembers.
        found = await app[keys.POOL].fetchrow(query("find_order"), order.order_id)
        if found is None:
            raise
        return _stored(found, order)
    return _queued(accepted, {"Preference-Applied": "respond-async"})


async def _ordered(request: web.Request, credential: Credential) -> Order:
    """What the request asks for. Raises Problem."""
    customer_id = customer_of(request.headers, credential)
    key = idempotency_key(request.headers)
    wanted = decode_body(await request.read(), _booking_decoder)
    f.check_times(wanted, "service_date")
    f.check_place(wanted)
    print_ = fingerprint(key, customer_id.encode() + b"\0" + msgspec.json.encode(wanted))
    return Order(
        order_id=messages.order_id(credential.tenant, key),
        tenant=credential.tenant,
        customer_id=customer_id,
        sale_id="",
        quantity=1,
        fingerprint=print_,
        accepted_at=time.time(),
        traceparent=current_traceparent(),
        booking=Booking(**msgspec.to_builtins(wanted)),
    )


async def _create_now(request: web.Request, order: Order) -> web.Response:
    """One statement, one transaction: the order and its event, or neither."""
    pool = request.app[keys.POOL]
    row = msgspec.to_builtins(order)
    body = msgspec.json.encode([{**row, **row.pop("booking")}]).decode()
    made = await pool.fetchrow(query("create_orders"), body, None, False)
    if made["outcome"] == "refused":
        raise refused(made["reason"])
    return _stored(await pool.fetchrow(query("find_order"), order.order_id), order)


def _stored(found: Any, order: Order) -> web.Response:
    if found["fingerprint"] != order.fingerprint:
        raise key_reused()
    return web.Response(
        body=msgspec.json.encode(shown(found)),
        status=201,
        content_type="application/json",
        headers={"Location": f"/v1/orders/{order.order_id}"},
    )


def _prefers_async(request: web.Request) -> bool:
    """RFC 7240: a list of preferences, each perhaps with parameters."""
    wishes = ",".join(request.headers.getall("Prefer", [])).lower().split(",")
    return any(wish.partition(";")[0].strip() == "respond-async" for wish in wishes)


def _queued(accepted: Accepted, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(accepted),
        status=202,
        headers={"Location": accepted.location, "Content-Type": "application/json", **(headers or {})},
    )


async def list_orders(request: web.Request) -> web.Response:
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    page = page_of(request, by_uuid=True)
    status = request.query.get("status")
    if status is not None and status not in STATUSES:
        raise invalid("status", f"must be one of {', '.join(STATUSES)}")
    name, whose = _listing(request, credential)
    rows = await app[keys.POOL].fetch(query(name), credential.tenant, *page.keys, status, *whose)
    return answer_page(rows, page, at="committed_at", id_field="order_id", show=shown)


def _listing(request: web.Request, credential: Credential) -> tuple[str, tuple[Any, ...]]:
    if credential.role == "provider":
        return "list_provider_orders", (credential.subject,)
    customer_id = named_customer(request.headers, credential)
    return ("list_orders", ()) if customer_id is None else ("list_customer_orders", (customer_id,))


async def get_order(request: web.Request) -> web.Response:
    credential = await credential_of(request, request.app[keys.KEYS])
    return answer_order(await visible_order(request, credential))


async def visible_order(request: web.Request, credential: Credential) -> dict[str, Any]:
    """The order that the path names. Raises Problem 404 if it does not exist for the caller.

    Open orders are customers' names and addresses: a provider that is inactive or removed, and so can accept none,
    sees only those that it has accepted.
    """
    lookup = request.app[keys.LOOKUP]
    order = await lookup.order(order_id_of(request))
    if order is None or not sees(order, request.headers, credential):
        raise order_not_found()
    if credential.role == "provider" and order.get("provider_id") is None:
        provider = await lookup.provider(credential.tenant, credential.subject)
        if provider is None or not provider["active"]:
            raise order_not_found()
    return order


def order_id_of(request: web.Request) -> str:
    """The UUID in the path. Raises Problem 404 for what is none."""
    try:
        return str(uuid.UUID(request.match_info["order_id"]))
    except ValueError:
        raise order_not_found() from None


def answer_order(order: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(shown(order)), content_type="application/json")
