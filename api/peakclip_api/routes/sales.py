"""Flash sales: an admin makes, changes and removes them; everybody reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from peakclip.store import query
from peakclip_api import fields as f
from peakclip_api import keys
from peakclip_api.auth import Credential, credential_of, require_role
from peakclip_api.body import decode_body, idempotency_key
from peakclip_api.paging import answer_page, page_of
from peakclip_api.problems import Problem, key_reused
from peakclip_api.sales import Sale, sale_from_row


class SaleRequest(msgspec.Struct, forbid_unknown_fields=True):
    product: f.Name
    stock: f.Count
    price_cents: f.Cents
    opens_at: f.Time
    closes_at: f.Time
    per_customer_limit: f.Limit = 1
    pay_within_seconds: f.PaySeconds = 600


class SalePatch(msgspec.Struct, forbid_unknown_fields=True):
    """The price stays: orders have been placed at it."""

    product: f.Name | UnsetType = UNSET
    stock: f.Count | UnsetType = UNSET
    opens_at: f.Time | UnsetType = UNSET
    closes_at: f.Time | UnsetType = UNSET
    per_customer_limit: f.Limit | UnsetType = UNSET
    pay_within_seconds: f.PaySeconds | UnsetType = UNSET


_decoder = msgspec.json.Decoder(SaleRequest)
_patch_decoder = msgspec.json.Decoder(SalePatch)


def add_routes(app: web.Application) -> None:
    app.router.add_post("/v1/sales", create_sale)
    app.router.add_get("/v1/sales", list_sales)
    app.router.add_get("/v1/sales/{sale_id}", get_sale)
    app.router.add_patch("/v1/sales/{sale_id}", change_sale)
    app.router.add_delete("/v1/sales/{sale_id}", remove_sale)


async def create_sale(request: web.Request) -> web.Response:
    """The row and the stock's way to the admission counter are one transaction; the answer waits for both."""
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    require_role(credential, "admin")
    key = idempotency_key(request.headers)
    wanted = decode_body(await request.read(), _decoder)
    f.check_times(wanted, "opens_at", "closes_at")
    f.check_window(wanted.opens_at, wanted.closes_at)
    sale_id = "s" + hashlib.blake2b(f"{credential.tenant}\0{key}".encode(), digest_size=10).hexdigest()
    fingerprint = hashlib.blake2b(msgspec.json.encode(wanted), digest_size=8).hexdigest()
    done = await app[keys.POOL].execute(
        query("create_sale"), sale_id, credential.tenant, wanted.product, wanted.price_cents, wanted.stock,
        wanted.opens_at, wanted.closes_at, wanted.per_customer_limit, wanted.pay_within_seconds, fingerprint,
    )  # fmt: skip
    sale = await app[keys.SALES].fresh(sale_id)
    if sale is None or sale.fingerprint != fingerprint:  # None: it was removed since
        raise key_reused()
    if done == "INSERT 0 1":  # a repeat, perhaps days later, offers nothing again
        await app[keys.STOCK].offer(sale_id, wanted.stock, f"init-{sale_id}")
    return web.json_response(_shown(sale), status=201, headers={"Location": f"/v1/sales/{sale_id}"})


async def list_sales(request: web.Request) -> web.Response:
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    page = page_of(request)
    rows = await app[keys.POOL].fetch(query("list_sales"), credential.tenant, *page.keys)
    return answer_page(rows, page, at="created_at", id_field="sale_id", show=_shown_row)


async def get_sale(request: web.Request) -> web.Response:
    return web.json_response(_shown(await _own(request)))


async def change_sale(request: web.Request) -> web.Response:
    sale = await _own(request, "admin")
    wanted = decode_body(await request.read(), _patch_decoder)
    f.check_times(wanted, "opens_at", "closes_at")
    f.check_window(
        sale.opens_at if wanted.opens_at is UNSET else wanted.opens_at,
        sale.closes_at if wanted.closes_at is UNSET else wanted.closes_at,
    )
    changes = msgspec.to_builtins(wanted)
    changed = await request.app[keys.STOCK].change(sale, changes, changes.pop("stock", None))
    if changed is None:
        raise _not_found()
    return web.json_response(_shown(changed))


async def remove_sale(request: web.Request) -> web.Response:
    sale = await _own(request, "admin")
    if not await request.app[keys.STOCK].remove(sale):
        raise _not_found()
    return web.Response(status=204)


async def _own(request: web.Request, *roles: str) -> Sale:
    """The sale that the path names, if it is the tenant's. Raises Problem 404, or 403 without one of the roles."""
    app = request.app
    credential: Credential = await credential_of(request, app[keys.KEYS])
    if roles:
        require_role(credential, *roles)
    sale = await app[keys.SALES].get(request.match_info["sale_id"])
    if sale is None or sale.tenant != credential.tenant:
        raise _not_found()
    return sale


def _not_found() -> Problem:
    return Problem(404, "sale-not-found", "There is no such sale.")


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


def _shown_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return _shown(sale_from_row({name: value for name, value in row.items() if name != "created_at"}))
