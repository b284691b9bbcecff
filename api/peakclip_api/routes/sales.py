"""`POST /v1/sales` (admin) and `GET /v1/sales/{id}`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any

import msgspec
import structlog
from aiohttp import web

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.store import query
from peakclip_api import keys
from peakclip_api.auth import credential_of, require_role
from peakclip_api.body import decode_body, idempotency_key
from peakclip_api.problems import Problem
from peakclip_api.sales import Sale

log = structlog.get_logger()

_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_AtLeastOne = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class SaleRequest(msgspec.Struct, forbid_unknown_fields=True):
    product: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    stock: _Count
    price_cents: _Count
    opens_at: _Time
    closes_at: _Time
    per_customer_limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    pay_within_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 600


_decoder = msgspec.json.Decoder(SaleRequest)


def add_routes(app: web.Application) -> None:
    app.router.add_post("/v1/sales", create_sale)
    app.router.add_get("/v1/sales/{sale_id}", get_sale)


async def create_sale(request: web.Request) -> web.Response:
    """The row and the stock's way to the admission counter are one transaction; the answer waits for both."""
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    require_role(credential, "admin")
    key = idempotency_key(request.headers)
    wanted = decode_body(await request.read(), _decoder)
    _check_times(wanted)
    sale_id = "s" + hashlib.blake2b(f"{credential.tenant}\0{key}".encode(), digest_size=10).hexdigest()
    fingerprint = hashlib.blake2b(msgspec.json.encode(wanted), digest_size=8).hexdigest()
    await app[keys.POOL].execute(
        query("create_sale"), sale_id, credential.tenant, wanted.product, wanted.price_cents, wanted.stock,
        wanted.opens_at, wanted.closes_at, wanted.per_customer_limit, wanted.pay_within_seconds, fingerprint,
    )  # fmt: skip
    sale = await app[keys.SALES].fresh(sale_id)
    if sale is None or sale.fingerprint != fingerprint:
        raise Problem(422, "idempotency-key-reused", "This Idempotency-Key was used with another request.")
    await _offer(app, sale)
    return web.json_response(_shown(sale), status=201, headers={"Location": f"/v1/sales/{sale_id}"})


def _check_times(wanted: SaleRequest) -> None:
    """Raises Problem 422. The outermost years of the calendar have no epoch second in every time zone."""
    for field, time in (("opens_at", wanted.opens_at), ("closes_at", wanted.closes_at)):
        if not 2000 <= time.year <= 9000:
            raise _invalid(field, "must be between the years 2000 and 9000")
    if wanted.closes_at <= wanted.opens_at:
        raise _invalid("closes_at", "must be later than opens_at")


def _invalid(field: str, message: str) -> Problem:
    errors = [{"field": field, "message": message}]
    return Problem(422, "invalid-request", "The request is not valid.", errors=errors)


async def _offer(app: web.Application, sale: Sale) -> None:
    """Puts the stock on offer now. The outbox does the same with the same message id, so that it counts once."""
    if sale.initial == 0:
        return
    try:
        subject = topology.stock_subject(sale.sale_id)
        await app[keys.JS].increment(subject, sale.initial, message_id=f"init-{sale.sale_id}")
    except PeakclipError as exc:
        log.warning("stock_offer_left_to_outbox", sale=sale.sale_id, error=repr(exc))


async def get_sale(request: web.Request) -> web.Response:
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    sale = await app[keys.SALES].get(request.match_info["sale_id"])
    if sale is None or sale.tenant != credential.tenant:
        raise Problem(404, "sale-not-found", "There is no such sale.")
    return web.json_response(_shown(sale))


def _shown(sale: Sale) -> dict[str, Any]:
    return {
        "sale_id": sale.sale_id,
        "product": sale.product,
        "stock": sale.initial,
        "available": sale.available,
        "price_cents": sale.price_cents,
        "opens_at": sale.opens_at.isoformat(),
        "closes_at": sale.closes_at.isoformat(),
        "per_customer_limit": sale.per_customer_limit,
        "pay_within_seconds": sale.pay_within_seconds,
    }
