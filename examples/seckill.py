"""A flash sale of two units: one customer pays, one does not, and the unit comes back for a third.

python examples/seckill.py DATA     # DATA: the folder of a running `peakclip up --data DATA`
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta

from client import Client, Refused, clients, wait_for

PAY_WITHIN_SECONDS = 8


def buy_when_there_is_one(shop: Client, sale_id: str, seconds: float = 60) -> str:
    """Whoever is told *sold out* may come again: units return when somebody does not pay."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            accepted = shop.post(f"/v1/sales/{sale_id}/orders", {"quantity": 1})
            return str(accepted["order_id"])
        except Refused as refused:
            if refused.kind != "sold-out" or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def pay(shop: Client, order_id: str) -> str:
    return str(shop.post(f"/v1/orders/{order_id}/pay")["status"])


def main(data: str) -> None:
    admin, ada, _, credentials = clients(data)
    url, key = credentials["url"], credentials["service"]
    bob, eve = (Client(url, key, f"{name}-{time.time_ns()}") for name in ("bob", "eve"))
    now = datetime.now(UTC)
    sale = admin.post("/v1/sales", {
        "product": "Night-time grooming", "stock": 2, "price_cents": 4900, "per_customer_limit": 1,
        "opens_at": (now - timedelta(seconds=1)).isoformat(), "closes_at": (now + timedelta(hours=1)).isoformat(),
        "pay_within_seconds": PAY_WITHIN_SECONDS,
    })  # fmt: skip
    path = f"/v1/sales/{sale['sale_id']}/orders"

    # 202: the order is on disk. `position` and `eta_seconds` are its place in line for the database.
    accepted = ada.post(path, {"quantity": 1})
    print(f"ada: {accepted['status']}, number {accepted['position']} in line")
    order = wait_for(ada, accepted["order_id"], "pending_payment")
    print(f"ada: {order['status']}, to be paid until {order['expires_at']}")
    print(f"ada: {pay(ada, order['order_id'])}")

    bobs = bob.post(path, {"quantity": 1})["order_id"]
    try:
        eve.post(path, {"quantity": 1})
    except Refused as refused:
        print("eve:", refused.status, refused.kind)

    order = wait_for(bob, bobs, "cancelled")
    print(f"bob: {order['status']}, {order['reason']}")
    try:
        pay(bob, bobs)
    except Refused as refused:
        print(f"bob pays too late: {refused}")

    eves = buy_when_there_is_one(eve, sale["sale_id"])
    wait_for(eve, eves, "pending_payment")
    print(f"eve: {pay(eve, eves)}")
    # What is left is remembered by the API for up to two seconds, so that a rush of readers costs the database nothing.
    time.sleep(2.5)
    print("left:", admin.get(f"/v1/sales/{sale['sale_id']}")["available"])


if __name__ == "__main__":
    main(sys.argv[1])
