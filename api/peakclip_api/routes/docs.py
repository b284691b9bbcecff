"""`GET /openapi.json`, the description of this API, and `GET /docs`, a page on which to read it.

Both are open, as the description is: it names no customer and no order. The page and everything on it come from this
process, so it works without a way to the internet, under the dashboard's strict Content-Security-Policy.
"""

from __future__ import annotations

import base64
import re
from functools import cache
from importlib import resources
from typing import Final
from urllib.parse import unquote

import msgspec
from aiohttp import web

from peakclip_api import description
from peakclip_api.routes.dashboard import Asset, load_assets

_JSON: Final = "application/json"
SVG: Final = "image/svg+xml"
_IMAGE: Final = re.compile(
    r"""data:image/svg\+xml;(?:base64,(?P<base64>[A-Za-z0-9+/=]+)|charset=utf-8,(?P<plain><svg(?:[^"\\]|\\")*))"""
)
_SWAGGER_UI: Final = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}
DESCRIPTION: Final = web.AppKey("description", Asset)
ASSETS: Final = web.AppKey("docs_assets", dict[str, Asset])


def add_routes(app: web.Application) -> None:
    app[DESCRIPTION], app[ASSETS] = _load()
    app.add_routes(
        [
            web.get("/openapi.json", openapi),
            web.get("/docs", page),
            web.get("/docs/{file}", asset),
        ]
    )


@cache
def _load() -> tuple[Asset, dict[str, Asset]]:
    """The description, and the page's files by name: only what is in here is ever served."""
    document = description.load()
    assets = load_assets("peakclip_api.docs")
    assets["description.json"] = Asset(msgspec.json.encode(description.for_reading(document)), _JSON)
    [bundle] = (resources.files("swagger_ui_bundle") / "vendor").iterdir()
    for name, kind in _SWAGGER_UI.items():
        beside = (
            "" if name.endswith(".css") else "docs/"
        )  # a style sheet names files beside itself, a page beside it
        text, images = _images_as_files((bundle / name).read_text(), f"{name.replace('.', '-')}-", beside)
        assets |= {**images, name: Asset(text.encode(), kind)}
    return Asset(msgspec.json.encode(document), _JSON), assets


def _images_as_files(text: str, prefix: str, folder: str) -> tuple[str, dict[str, Asset]]:
    """Swagger UI's images are written into it as `data:`, which the Content-Security-Policy refuses."""
    images: dict[str, Asset] = {}

    def moved(found: re.Match[str]) -> str:
        name = f"{prefix}{len(images)}.svg"
        encoded, plain = found["base64"], (found["plain"] or "").replace('\\"', '"')
        images[name] = Asset(base64.b64decode(encoded) if encoded else unquote(plain).encode(), SVG)
        return folder + name

    return _IMAGE.sub(moved, text), images


async def openapi(request: web.Request) -> web.Response:
    return request.app[DESCRIPTION].answer(request)


async def page(request: web.Request) -> web.Response:
    return request.app[ASSETS]["index.html"].answer(request)


async def asset(request: web.Request) -> web.Response:
    found = request.app[ASSETS].get(request.match_info["file"])
    if found is None:
        raise web.HTTPNotFound
    return found.answer(request)
