"""`peakclip shop`: something to sell, somebody to buy and somebody to serve, on a machine of one's own.

The keys it makes are shown once, in the links: behind `#`, where no server and no log sees them.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import click

from peakclip import store
from peakclip.cli.common import error_words, read_credentials
from peakclip.credentials import new_key, store_key
from peakclip.errors import PeakclipError
from peakclip.load.access import AccessError, post

_TENANT = "default"
_PLACE = (52.5163, 13.3777)  # of customer and provider alike, so that the one hears of the other's orders


@dataclass(frozen=True, slots=True)
class Links:
    customer: str
    provider: str
    sale_id: str
    pet_id: str
    service_package_id: str


def _check_customer(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,50}", value):  # it becomes an id, and part of an Idempotency-Key
        raise click.BadParameter("1 to 50 letters, digits, - and _ are needed.")
    return value


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder of a running `peakclip up`."
)
@click.option("--customer", default="ada", show_default=True, callback=_check_customer, help="Who buys.")
@click.option("--stock", type=click.IntRange(1, 1_000_000), default=20, show_default=True)
@click.option("--pay-within", type=click.IntRange(1, 86_400), default=120, show_default=True, help="Seconds.")
def command(data: Path, customer: str, stock: int, pay_within: int) -> None:
    """Open a sale to try by hand, with a link for a customer and one for a provider."""
    try:
        links = asyncio.run(open_shop(read_credentials(data), customer, stock, pay_within))
    except (PeakclipError, OSError) as exc:
        click.echo(f"peakclip shop: {error_words(exc)}", err=True)
        raise SystemExit(2) from exc
    click.echo(f"A sale of {stock} is open: pay within {pay_within} s, or it goes to somebody else.\n")
    click.echo(f"  Customer {customer}\n    {links.customer}\n")
    click.echo(f"  Provider, for a second tab\n    {links.provider}\n")
    click.echo("Each link holds a key that is shown only here. `peakclip keys list` and `revoke` end them.")


async def open_shop(credentials: dict[str, str], customer: str, stock: int, pay_within: int) -> Links:
    """Creates it all through the API: a new sale each time, the rest once. Raises AccessError."""
    if missing := {"url", "admin", "service", "database_url"} - credentials.keys():
        raise AccessError(f"credentials.json does not say: {', '.join(sorted(missing))}.")
    url, admin = credentials["url"], credentials["admin"]
    now = datetime.now(UTC)
    sale = await post(url, "/v1/sales", admin, {
        "product": "Night-time grooming, limited edition", "stock": stock, "price_cents": 4900,
        "opens_at": (now - timedelta(seconds=1)).isoformat(), "closes_at": (now + timedelta(days=1)).isoformat(),
        "per_customer_limit": min(5, stock), "pay_within_seconds": pay_within,
    })  # fmt: skip
    place = {"latitude": _PLACE[0], "longitude": _PLACE[1]}
    provider = await post(
        url, "/v1/providers", admin, {"name": "Grooming by Grace", "radius_m": 10_000, **place},
        idempotency_key="shop",
    )  # fmt: skip
    package = await post(
        url, "/v1/service-packages", admin,
        {"name": "A walk in the park", "price_cents": 2500, "duration_minutes": 45}, idempotency_key="shop",
    )  # fmt: skip
    pet = await post(
        url, "/v1/pets", credentials["service"], {"name": "Lovelace", "species": "dog"},
        customer=customer, idempotency_key=f"shop-{customer}",
    )  # fmt: skip
    profile = {"customer_id": customer, "name": customer.title(), **place}
    await post(url, "/v1/customers", admin, profile, idempotency_key=f"shop-{customer}")
    keys = {"customer": (new_key(), customer), "provider": (new_key(), provider["provider_id"])}
    pool = await store.connect(credentials["database_url"], max_size=1)
    try:
        for role, (key, subject) in keys.items():
            await store_key(pool, key, _TENANT, subject, role)
    finally:
        await pool.close()
    return Links(
        customer=_link(url, keys["customer"][0]),
        provider=_link(url, keys["provider"][0]),
        sale_id=sale["sale_id"],
        pet_id=pet["pet_id"],
        service_package_id=package["service_package_id"],
    )


def _link(url: str, key: str) -> str:
    # The number makes each link a page of its own: a browser does not load a page anew for another `#`.
    return f"{url}/shop?{secrets.randbelow(10_000)}#{urlencode({'key': key})}"
