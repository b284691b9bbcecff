"""Request-reply for other back ends: the micro service `peakclip` on NATS, in every API process.

    peakclip.orders.get      {"tenant": "…", "order_id": "…"}  ->  as GET /v1/orders/{order_id} answers an admin

Errors come in the headers Nats-Service-Error-Code (400 malformed, 404 unknown, 503 ask again) and
Nats-Service-Error. Nobody is asked for a credential here: who may send to these subjects is for the permissions of
NATS to say (docs/howto/request-reply.md).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from importlib import metadata
from typing import Annotated, Final, TypeVar

import msgspec
import structlog

from peakclip import tracing
from peakclip.errors import OutcomeUnknownError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.microservice import Endpoint, MicroService, RequestError, ServiceDescription
from peakclip.store import DATABASE_AWAY
from peakclip_api.lookup import Lookup, shown

log = structlog.get_logger()

SERVICE: Final = ServiceDescription(
    name="peakclip",
    version=metadata.version("peakclip"),
    description="Looks up orders, wherever they are: in line or in the database.",
    queue_group="peakclip",
)
ORDERS_SUBJECT: Final = "peakclip.orders.get"
RETRY_SECONDS: Final = 0.2

_Tenant = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Request = TypeVar("_Request")


class OrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    tenant: _Tenant
    order_id: uuid.UUID


class Rpc:
    """The handlers: unpack, one call, pack."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._order_decoder = msgspec.json.Decoder(OrderRequest)

    async def get_order(self, payload: bytes, headers: Mapping[str, str]) -> bytes:
        with tracing.span(ORDERS_SUBJECT, kind="server", parent=tracing.incoming(headers)):
            return await self._get_order(payload)

    async def _get_order(self, payload: bytes) -> bytes:
        wanted = _decode(payload, self._order_decoder)
        try:
            order = await self._lookup.order(str(wanted.order_id))
        except DATABASE_AWAY:
            raise RequestError(503, "PostgreSQL does not answer; ask again.") from None
        except (UnavailableError, OutcomeUnknownError):
            raise RequestError(503, "Whether there is such an order is not known yet; ask again.") from None
        if order is None or order["tenant"] != wanted.tenant:
            raise RequestError(404, "There is no such order.")
        return msgspec.json.encode(shown(order))

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "orders-get",
                ORDERS_SUBJECT,
                self.get_order,
                _described("One order of a tenant.", OrderRequest, "GET /v1/orders/{order_id}"),
            )
        ]


def _decode(payload: bytes, decoder: msgspec.json.Decoder[_Request]) -> _Request:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise RequestError(400, f"The request is not valid: {exc}") from None


def _described(text: str, request: type[msgspec.Struct], route: str) -> dict[str, str]:
    """What $SRV.INFO tells of an endpoint."""
    return {
        "description": text,
        "format": "application/json",
        "request_schema": msgspec.json.encode(msgspec.json.schema(request)).decode(),
        "response": f"The JSON with which {route} answers an admin; its schema is in /openapi.json.",
    }


async def start(js: JetStream, lookup: Lookup) -> MicroService:
    """Waits for NATS for as long as it takes."""
    while True:
        try:
            return await js.add_service(SERVICE, Rpc(lookup).endpoints())
        except UnavailableError:
            log.warning("request_reply_waiting")
            await asyncio.sleep(RETRY_SECONDS)
