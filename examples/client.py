"""A small client: one function for a request, over the standard library.

Two things that every client of Peakclip does: it sends an `Idempotency-Key` with what it creates, and when no answer
comes, or a 503, it sends the same again with the same key.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any


class Refused(Exception):  # noqa: N818 - what the API said, not a defect
    """An answer that is no success: `status`, and the problem as the API describes it."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('detail')}")
        self.status = status
        self.kind = str(problem.get("type", "")).rpartition("/")[2]


class Client:
    """Speaks with one key; a service names the customer it acts for."""

    def __init__(self, url: str, key: str, customer: str | None = None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if customer is not None:
            self._headers["Peakclip-Customer"] = customer

    def get(self, path: str) -> Any:
        return self._call("GET", path, None, {})

    def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        headers = {"Idempotency-Key": str(uuid.uuid4()), **headers}
        for seconds in (0.2, 0.5, 1, 2, 4):
            try:
                return self._call("POST", path, body or {}, headers)
            except Refused as refused:
                if refused.status != 503:
                    raise
            except (urllib.error.URLError, TimeoutError):
                pass
            time.sleep(seconds)
        return self._call("POST", path, body or {}, headers)

    def _call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {**self._headers, **headers}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise Refused(error.code, json.loads(error.read() or b"{}")) from None


def clients(data: str) -> tuple[Client, Client, str, dict[str, str]]:
    """An admin, a storefront that acts for a new customer, that customer's name, and the credentials themselves."""
    found: dict[str, str] = json.loads((Path(data) / "credentials.json").read_text())
    customer = f"customer-{uuid.uuid4().hex[:8]}"
    admin = Client(found["url"], found["admin"])
    return admin, Client(found["url"], found["service"], customer), customer, found


def wait_for(client: Client, order_id: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
    """Looks at the order until it has one of the statuses."""
    deadline = time.monotonic() + seconds
    while True:
        order: dict[str, Any] = client.get(f"/v1/orders/{order_id}")
        if order["status"] in statuses:
            return order
        if time.monotonic() > deadline:
            raise TimeoutError(f"the order is {order['status']}, not {' or '.join(statuses)}")
        time.sleep(min(2.0, max(0.1, (order.get("eta_seconds") or 0) / 2)))
