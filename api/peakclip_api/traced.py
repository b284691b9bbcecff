"""A span for each request, or at least the trace context that it brought, current while it is answered."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peakclip import tracing
from peakclip_api.problems import Handler

# A stream lasts for hours, and its span would be seen only then; the page asks for the status all the time.
_UNTRACED: Final = ("/stream", "/events", "/v1/status")


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not (tracing.is_on() or tracing.TRACEPARENT in request.headers):
        return await handler(request)
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else ""
    if not route.startswith("/v1/") or route.endswith(_UNTRACED):
        return await handler(request)
    parent = tracing.incoming(request.headers)
    with tracing.span(f"{request.method} {route}", kind="server", parent=parent) as span:
        response = await handler(request)
        span.set("http.request.method", request.method)
        span.set("http.route", route)
        set_status(span, response.status)
        return response


def set_status(span: tracing.Span, status: int) -> None:
    """A refusal is the client's affair and no failure of the span."""
    span.set("http.response.status_code", status)
    if status >= 500:
        span.fail(str(status))
