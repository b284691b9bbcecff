"""Reviews: a customer's of a completed order, and the provider's reply."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec
from aiohttp import web

from peakclip.store import query
from peakclip.tracing import current_traceparent
from peakclip_api import fields as f
from peakclip_api import keys
from peakclip_api.auth import credential_of, customer_of, require_role
from peakclip_api.body import decode_body, idempotency_key, optional_key
from peakclip_api.ownership import order_not_found, sees
from peakclip_api.paging import answer_page, page_of
from peakclip_api.prints import derived_id, fingerprint
from peakclip_api.problems import Problem, key_reused
from peakclip_api.routes.transitions import still_queued

SHOWN: Final = (
    "review_id", "order_id", "customer_id", "provider_id", "rating", "comment", "created_at", "reply", "replied_at",
)  # fmt: skip


class ReviewRequest(msgspec.Struct, forbid_unknown_fields=True):
    order_id: uuid.UUID
    rating: f.Rating
    comment: f.OptionalText = None


class ReplyRequest(msgspec.Struct, forbid_unknown_fields=True):
    text: f.Text


_decoder: Final = msgspec.json.Decoder(ReviewRequest)
_reply_decoder: Final = msgspec.json.Decoder(ReplyRequest)


def add_routes(app: web.Application) -> None:
    app.router.add_post("/v1/reviews", create_review)
    app.router.add_get("/v1/reviews/{review_id}", get_review)
    app.router.add_post("/v1/reviews/{review_id}/reply", reply_to_review)
    app.router.add_get("/v1/providers/{provider_id}/reviews", list_provider_reviews)


async def create_review(request: web.Request) -> web.Response:
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    customer_id = customer_of(request.headers, credential)
    key = idempotency_key(request.headers)
    wanted = decode_body(await request.read(), _decoder)
    review_id = derived_id("rv", credential.tenant, "review", key)
    print_ = fingerprint(key, customer_id.encode() + b"\0" + msgspec.json.encode(wanted))
    row = await app[keys.POOL].fetchrow(
        query("create_review"), review_id, credential.tenant, wanted.order_id, customer_id, wanted.rating,
        wanted.comment, print_, current_traceparent(),
    )  # fmt: skip
    outcome = row["outcome"]
    if outcome == "not-found":
        order = await app[keys.LOOKUP].order(str(wanted.order_id))
        if order is None or not sees(order, request.headers, credential):
            raise order_not_found()
        if order["status"] == "queued":
            raise still_queued(order)
        outcome = "illegal"  # it has come out of the line this moment, so it is not completed
    if outcome == "illegal":
        raise Problem(409, "illegal-transition", "Only a completed order can be reviewed.")
    if outcome == "already-reviewed":
        raise Problem(409, "already-reviewed", "The order has its review.")
    if row["fingerprint"] != print_:
        raise key_reused()
    return _answer(row, status=201)


async def reply_to_review(request: web.Request) -> web.Response:
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    require_role(credential, "provider", "admin")
    optional_key(request.headers)
    wanted = decode_body(await request.read(), _reply_decoder)
    row = await app[keys.POOL].fetchrow(
        query("reply_to_review"),
        _review_id(request),
        credential.tenant,
        credential.subject if credential.role == "provider" else None,
        wanted.text,
        current_traceparent(),
    )
    if row["outcome"] == "not-found":
        raise _not_found()
    if row["outcome"] == "already-replied":
        raise Problem(409, "already-replied", "The review has its reply.")
    return _answer(row)


async def get_review(request: web.Request) -> web.Response:
    credential = await credential_of(request, request.app[keys.KEYS])
    row = await request.app[keys.POOL].fetchrow(query("find_review"), _review_id(request), credential.tenant)
    if row is None:
        raise _not_found()
    return _answer(row)


async def list_provider_reviews(request: web.Request) -> web.Response:
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    page = page_of(request)
    provider_id = request.match_info["provider_id"]
    if not provider_id.isprintable() or not await app[keys.LOOKUP].provider(credential.tenant, provider_id):
        raise Problem(404, "provider-not-found", "There is no such provider.")
    rows = await app[keys.POOL].fetch(
        query("list_provider_reviews"), credential.tenant, *page.keys, provider_id
    )
    return answer_page(rows, page, at="created_at", id_field="review_id", show=_shown)


def _review_id(request: web.Request) -> str:
    review_id = request.match_info["review_id"]
    if not review_id.isprintable():  # PostgreSQL takes no NUL
        raise _not_found()
    return review_id


def _not_found() -> Problem:
    return Problem(404, "review-not-found", "There is no such review.")


def _answer(row: Any, status: int = 200) -> web.Response:
    headers = {"Location": f"/v1/reviews/{row['review_id']}"} if status == 201 else None
    return web.Response(
        body=msgspec.json.encode(_shown(row)), status=status, content_type="application/json", headers=headers
    )


def _shown(row: Any) -> dict[str, Any]:
    return {name: str(row[name]) if name == "order_id" else row[name] for name in SHOWN}
