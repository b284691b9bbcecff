"""Errors as `application/problem+json` (RFC 9457) with a stable `type`: what a client may rely on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from peakclip.errors import OutcomeUnknownError, UnavailableError
from peakclip.outcomes import BusyError, IntakeUnavailableError
from peakclip.store import DATABASE_AWAY

log = structlog.get_logger()

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX = "https://peakclip.dev/problems/"
_KINDS = {413: "body-too-large"}  # Python's own phrase for it is another one from 3.13 on
COME_AGAIN: Final = (429, 503)  # refusals with `Retry-After`
CLIENT_LEFT: Final = 499  # nginx's number for what nobody will read
KIND: Final = web.ResponseKey("problem", str)  # of a response: which kind of problem it is
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """Ends a request. `kind` is the last part of `type`; `errors` lists wrong fields as {field, message}; `more` are
    members beyond those of RFC 9457; `closes` ends the connection."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.more = more or {}
        self.closes = closes

    def body(self) -> bytes:
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind,
            "title": self.kind.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        if self.errors:
            body["errors"] = self.errors
        return msgspec.json.encode(body)

    def response(self) -> web.Response:
        response = web.Response(
            body=self.body(), status=self.status, content_type=CONTENT_TYPE, headers=self.headers
        )
        response[KIND] = self.kind
        if self.closes:
            response.force_close()
        return response

    def raw(self, headers: bytes = b"") -> bytes:
        """The whole response as it is written, with these lines of headers more."""
        body = self.body()
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return b"HTTP/1.1 %d %b\r\n%b%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            self.status, HTTPStatus(self.status).phrase.encode(), headers, lines.encode(),
            CONTENT_TYPE.encode(), len(body), body,
        )  # fmt: skip


def retry_later(kind: str, detail: str, seconds: int = 1) -> Problem:
    return Problem(503, kind, detail, headers={"Retry-After": str(seconds)})


def not_stored(why: IntakeUnavailableError) -> Problem:
    """What an order is told that was not accepted, and may come again."""
    return retry_later("too-busy" if isinstance(why, BusyError) else "queue-unavailable", str(why))


def invalid(field: str, message: str) -> Problem:
    """A field of the body or a query parameter that is wrong; an empty name is the whole."""
    errors = [{"field": field, "message": message}]
    return Problem(422, "invalid-request", "The request is not valid.", errors=errors)


def key_reused() -> Problem:
    return Problem(422, "idempotency-key-reused", "This Idempotency-Key was used with another request.")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Maps every error to a problem, here and nowhere else. A 500 is a defect and is logged as one."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as exc:
        if exc.status < 400:
            raise
        kind = _KINDS.get(exc.status) or HTTPStatus(exc.status).phrase.lower().replace(" ", "-")
        allow = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else None
        return Problem(exc.status, kind, exc.text or HTTPStatus(exc.status).phrase, headers=allow).response()
    except web.RequestPayloadError:
        return Problem(400, "malformed-body", "The body is not encoded as its headers say.").response()
    except DATABASE_AWAY:
        if request.transport is None:
            return web.Response(status=CLIENT_LEFT)  # its body has failed, and not the database
        return retry_later("database-unavailable", "PostgreSQL does not answer; retry.").response()
    except (UnavailableError, OutcomeUnknownError):
        return retry_later("queue-unavailable", "NATS does not answer; retry with the same key.").response()
    except Exception:
        log.exception("request_failed", method=request.method, path=request.path)
        return Problem(500, "internal-error", "Something is wrong on our side.").response()
