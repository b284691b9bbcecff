"""Request-reply for other back ends: the micro service `peakclip` on NATS, in every API process.

    peakclip.orders.get      {"tenant": "…", "order_id": "…"}     as GET /v1/orders/{order_id} answers an admin
    peakclip.providers.get   {"tenant": "…", "provider_id": "…"}  as GET /v1/providers/{provider_id} does

Errors come in the headers Nats-Service-Error-Code (400 malformed, 404 unknown, 503 ask again) and
Nats-Service-Error. Nobody is asked for a credential here: who may send to these subjects is for the permissions of
NATS to say (docs/howto/request-reply.md).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
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
    description="Looks up orders, wherever they are (in line or in the database), and providers.",
    queue_group="peakclip",
)
RETRY_SECONDS: Final = 0.2

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
_Request = TypeVar("_Request", bound=msgspec.Struct)


class OrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    tenant: _Name
    order_id: uuid.UUID


class ProviderRequest(msgspec.Struct, forbid_unknown_fields=True):
    tenant: _Name
    provider_id: _Name


class Rpc:
    """The handlers: unpack, one call, pack."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def get_order(self, wanted: OrderRequest) -> bytes:
        order = await self._lookup.order(str(wanted.order_id))
        if order is None or order["tenant"] != wanted.tenant:
            raise RequestError(404, "There is no such order.")
        return msgspec.json.encode(shown(order))

    async def get_provider(self, wanted: ProviderRequest) -> bytes:
        provider = await self._lookup.provider(wanted.tenant, wanted.provider_id)
        if provider is None:
            raise RequestError(404, "There is no such provider.")
        return msgspec.json.encode(provider)

    def endpoints(self) -> list[Endpoint]:
        return [
            _endpoint("orders", OrderRequest, self.get_order, "Order", "An order, wherever it is."),
            _endpoint(
                "providers", ProviderRequest, self.get_provider, "Provider", "A provider, with statistics."
            ),
        ]


def _endpoint(
    things: str,
    request: type[_Request],
    answer: Callable[[_Request], Awaitable[bytes]],
    schema: str,
    text: str,
) -> Endpoint:
    """`schema`: of the answer, in the API's description."""
    subject = f"peakclip.{things}.get"
    decoder = msgspec.json.Decoder(request)

    async def handle(payload: bytes, headers: Mapping[str, str]) -> bytes:
        refusal = None
        with tracing.span(subject, kind="server", parent=tracing.incoming(headers)) as span:
            try:
                return await answer(_decode(payload, decoder))
            except RequestError as exc:  # the asker's affair, and no failure of the span
                refusal = exc
            except DATABASE_AWAY:
                refusal = RequestError(503, "PostgreSQL does not answer; ask again.")
            except (UnavailableError, OutcomeUnknownError):
                refusal = RequestError(503, "This is not known at the moment; ask again.")
            span.set("rpc.response.status_code", str(refusal.code))
            if refusal.code >= 500:
                span.fail(str(refusal.code))
        raise refusal

    # What $SRV.INFO tells.
    described = {
        "description": text,
        "format": "application/json",
        "request_schema": msgspec.json.encode(msgspec.json.schema(request)).decode(),
        "response_schema": f"/openapi.json#/components/schemas/{schema}",
    }
    return Endpoint(f"{things}-get", subject, handle, described)


def _decode(payload: bytes, decoder: msgspec.json.Decoder[_Request]) -> _Request:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise RequestError(400, f"The request is not valid: {exc}") from None


async def start(js: JetStream, lookup: Lookup) -> MicroService:
    """Waits for NATS for as long as it takes."""
    while True:
        try:
            return await js.add_service(SERVICE, Rpc(lookup).endpoints())
        except UnavailableError:
            log.warning("request_reply_waiting")
            await asyncio.sleep(RETRY_SECONDS)
