"""Where to send orders and in whose name: flags first, then the environment, then DIR/credentials.json."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from peakclip.errors import PeakclipError


class AccessError(PeakclipError):
    """There is no address or no key to send orders with."""


class _File(msgspec.Struct):
    url: str
    admin: str
    service: str


@dataclass(frozen=True, slots=True)
class Access:
    url: str
    service: str | None  # key with the role `service`
    admin: str | None  # key with the role `admin`: may create sales


def read_access(data: Path | None, *, url: str | None, key: str | None, admin: str | None) -> Access:
    """Raises AccessError with a sentence that says what is missing."""
    file: _File | None = None
    if data is not None:
        path = data / "credentials.json"
        try:
            file = msgspec.json.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            raise AccessError(
                f"{path} does not exist: is {data} the --data folder of `peakclip up`?"
            ) from None
        except OSError as exc:
            raise AccessError(f"{path} cannot be read: {exc.strerror}") from None
        except msgspec.DecodeError as exc:
            raise AccessError(f"{path} cannot be read: {exc}") from exc
    url = url or (file.url if file else None)
    if url is None:
        raise AccessError(
            "Say where to send orders: --url http://HOST:PORT, or --data DIR of a running stack."
        )
    return Access(
        url.rstrip("/"),
        service=key or (file.service if file else None),
        admin=admin or (file.admin if file else None),
    )


async def create_sale(url: str, admin_key: str, *, stock: int, now: datetime | None = None) -> str:
    """A sale of `stock` units that is open for an hour; returns its id. Raises AccessError if refused."""
    now = now or datetime.now(UTC)
    body = {
        "product": "Night-time grooming, limited edition",
        "stock": stock,
        "price_cents": 4900,
        # A second ago, so that a server whose clock is a little behind ours does not call the sale closed.
        "opens_at": (now - timedelta(seconds=1)).isoformat(),
        "closes_at": (now + timedelta(hours=1)).isoformat(),
        "per_customer_limit": 1,
        "pay_within_seconds": 600,
    }
    return str((await post(url, "/v1/sales", admin_key, body))["sale_id"])


async def post(
    url: str,
    path: str,
    key: str,
    body: Mapping[str, Any],
    *,
    customer: str | None = None,
    idempotency_key: str | None = None,
) -> dict[str, Any]:
    """Creates something through the API; returns the answer. Raises AccessError if it is refused."""
    idempotency_key = idempotency_key or f"cli-{secrets.token_hex(8)}"
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": idempotency_key}
    if customer is not None:
        headers["Peakclip-Customer"] = customer
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session,
            session.post(url + path, json=body, headers=headers) as response,
        ):
            answer = await response.read()
    except (aiohttp.ClientError, TimeoutError) as exc:
        why = exc.os_error.strerror if isinstance(exc, aiohttp.ClientConnectorError) else str(exc)
        raise AccessError(f"{url} does not answer: {why or type(exc).__name__}") from exc
    if response.status not in (200, 201):
        raise AccessError(f"{path} was refused ({response.status}): {answer[:300].decode(errors='replace')}")
    created: dict[str, Any] = msgspec.json.decode(answer)
    return created
