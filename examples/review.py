"""A review of a completed order: the provider's rating moves, a bad one opens a ticket, the provider answers.

python examples/review.py DATA     # DATA: the folder of a running `peakclip up --data DATA`
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from client import Refused, clients
from order import new_order


def until(look: Callable[[], Any], seconds: float = 30) -> Any:
    """Statistics and tickets are effects: they follow the review within moments, whatever its author waits for."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError("the effect did not come")
        time.sleep(0.1)
    return found


def main(data: str) -> None:
    admin, shop, _, _ = clients(data)
    order_id, provider_id = new_order(admin, shop)
    admin.post(f"/v1/orders/{order_id}/accept", {"provider_id": provider_id})
    admin.post(f"/v1/orders/{order_id}/start")
    admin.post(f"/v1/orders/{order_id}/complete")

    review = shop.post("/v1/reviews", {"order_id": order_id, "rating": 2, "comment": "Late, and it rained."})
    print(f"review {review['review_id']}: {review['rating']} of 5")
    try:
        shop.post("/v1/reviews", {"order_id": order_id, "rating": 5})
    except Refused as refused:
        print("a second one:", refused.status, refused.kind)

    provider = until(lambda: (found := admin.get(f"/v1/providers/{provider_id}"))["rating_count"] and found)
    print(f"{provider['name']}: {provider['rating_average']} from {provider['rating_count']} review")
    tickets = until(
        lambda: [one for one in admin.get("/v1/tickets")["items"] if one["review_id"] == review["review_id"]]
    )
    print(f"ticket for customer service: {tickets[0]['status']}")
    answered = admin.post(f"/v1/reviews/{review['review_id']}/reply", {"text": "The next walk is on me."})
    print(f"answer: {answered['reply']}")


if __name__ == "__main__":
    main(sys.argv[1])
