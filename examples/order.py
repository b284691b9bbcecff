"""An ordinary order, from the pet to the completed service.

python examples/order.py DATA     # DATA: the folder of a running `peakclip up --data DATA`
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from client import Client, Refused, clients, wait_for


def new_order(admin: Client, shop: Client, **headers: str) -> tuple[str, str]:
    """What an order needs, and the order. Returns the ids of order and provider."""
    place = {"latitude": 52.5163, "longitude": 13.3777}
    provider = admin.post("/v1/providers", {"name": "Grace", "radius_m": 5000, **place})
    package = admin.post(
        "/v1/service-packages", {"name": "A walk in the park", "price_cents": 2500, "duration_minutes": 45}
    )
    pet = shop.post("/v1/pets", {"name": "Lovelace", "species": "dog"})
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body: dict[str, Any] = {
        "pet_id": pet["pet_id"],
        "service_package_id": package["service_package_id"],
        "service_date": tomorrow,
        **place,
    }
    order = shop.post("/v1/orders", body, **headers)
    return order["order_id"], provider["provider_id"]


def main(data: str) -> None:
    admin, shop, customer, _ = clients(data)
    order_id, provider_id = new_order(admin, shop)
    print(f"{customer} has ordered: {order_id} is {shop.get(f'/v1/orders/{order_id}')['status']}")

    # The provider does this with a key of its own; an admin may do it in its name.
    print("accept:  ", admin.post(f"/v1/orders/{order_id}/accept", {"provider_id": provider_id})["status"])
    try:
        admin.post(f"/v1/orders/{order_id}/complete")
    except Refused as refused:
        print("complete:", refused.status, refused.kind, "(it has not started)")
    print("start:   ", admin.post(f"/v1/orders/{order_id}/start")["status"])
    print("complete:", admin.post(f"/v1/orders/{order_id}/complete")["status"])
    order = shop.post(f"/v1/orders/{order_id}/pay")
    print(f"pay:      {order['status']}, paid at {order['paid_at']}")

    # In a rush an order can wait in line like those of a flash sale: it is on disk at once, and a row at the rate R.
    order_id, _ = new_order(admin, shop, Prefer="respond-async")
    print("async:   ", order_id, "is", wait_for(shop, order_id, "created")["status"])


if __name__ == "__main__":
    main(sys.argv[1])
