"""The shop window at `/shop`: the page and its files, and `GET /v1/me`, by which it learns whose key it holds.

The page itself is open and knows nothing; what it shows it asks for with the key that a person gives it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peakclip_api import keys
from peakclip_api.auth import credential_of
from peakclip_api.routes.dashboard import Asset, json_answer, load_assets

ASSETS: Final = web.AppKey("shop_assets", dict[str, Asset])


def add_routes(app: web.Application) -> None:
    app[ASSETS] = load_assets("peakclip_api.shop")
    app.add_routes(
        [web.get("/shop", page), web.get("/shop/{file}", asset), web.get("/v1/me", me)],
    )


async def page(request: web.Request) -> web.Response:
    return request.app[ASSETS]["index.html"].answer(request)


async def asset(request: web.Request) -> web.Response:
    found = request.app[ASSETS].get(request.match_info["file"])
    if found is None:
        raise web.HTTPNotFound
    return found.answer(request)


async def me(request: web.Request) -> web.Response:
    credential = await credential_of(request, request.app[keys.KEYS])
    return json_answer({"tenant": credential.tenant, "subject": credential.subject, "role": credential.role})
