"""`POST /v1/sales/{id}/orders` and `GET /v1/orders/{id}`."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from peakclip_api import keys
from peakclip_api.auth import CUSTOMER_HEADER, Credential, credential_of, customer_of
from peakclip_api.body import decode_body, idempotency_key
from peakclip_api.lookup import shown
from peakclip_api.problems import Problem

MAX_QUANTITY: Final = 1_000


class SeckillOrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    quantity: Annotated[int, msgspec.Meta(ge=1, le=MAX_QUANTITY)] = 1


order_decoder: Final = msgspec.json.Decoder(SeckillOrderRequest)


def add_routes(app: web.Application) -> None:
    app.router.add_post("/v1/sales/{sale_id}/orders", create_seckill_order)
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
    accepted = await app[keys.ACCEPTOR].accept(sale, customer_id, key, wanted.quantity)
    return web.Response(
        body=msgspec.json.encode(accepted),
        status=202,
        headers={"Location": accepted.location, "Content-Type": "application/json"},
    )


async def get_order(request: web.Request) -> web.Response:
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    try:
        order_id = str(uuid.UUID(request.match_info["order_id"]))
    except ValueError:
        raise _not_found() from None
    order = await app[keys.LOOKUP].order(order_id)
    if order is None:
        raise _not_found()
    return _answer(order, credential, request)


def _answer(order: dict[str, Any], credential: Credential, request: web.Request) -> web.Response:
    """The order if it is the asker's own: others' orders do not exist for them."""
    named = request.headers.get(CUSTOMER_HEADER)
    mine = order["tenant"] == credential.tenant and (
        credential.role == "admin"
        or (credential.role == "service" and named in (None, order["customer_id"]))
        or (credential.role == "customer" and order["customer_id"] == credential.subject)
    )
    if not mine:
        raise _not_found()
    return web.Response(body=msgspec.json.encode(shown(order)), content_type="application/json")


def _not_found() -> Problem:
    return Problem(404, "order-not-found", "There is no such order.")
