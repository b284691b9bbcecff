"""`helm test`: one order of a flash sale goes all the way through the API, NATS, the relay, a worker and PostgreSQL.

PEAKCLIP_URL says where the API is, PEAKCLIP_DATABASE_URL where the keys are made; they are taken back at the end.
"""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta

PATIENCE_SECONDS = 60


def keys(*words: str) -> dict[str, str]:
    command = ["peakclip", "keys", *words, "--json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    made: dict[str, str] = json.loads(answer.stdout)
    return made


def call(path: str, key: str, body: object = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {key}", "Peakclip-Customer": "helm-test"}
    if body is not None:
        headers |= {"Content-Type": "application/json", "Idempotency-Key": f"helm-test-{uuid.uuid4().hex}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["PEAKCLIP_URL"] + path, data, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:  # noqa: S310
            found: dict[str, str] = json.load(answer)
    except urllib.error.HTTPError as exc:
        raise SystemExit(
            f"{path} was refused ({exc.code}): {exc.read(500).decode(errors='replace')}"
        ) from None
    return found


def order(admin: str, service: str) -> str:
    """The order's state once it has left the line."""
    now = datetime.now(UTC)
    sale = {
        "product": "helm test",
        "stock": 1,
        "price_cents": 1,
        "opens_at": (now - timedelta(seconds=5)).isoformat(),
        "closes_at": (now + timedelta(minutes=5)).isoformat(),
        "pay_within_seconds": 60,
    }
    sale_id = call("/v1/sales", admin, sale)["sale_id"]
    order_id = call(f"/v1/sales/{sale_id}/orders", service, {"quantity": 1})["order_id"]
    print(f"Accepted: {order_id}.")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        status = call(f"/v1/orders/{order_id}", service)["status"]
        if status != "queued":
            return status
        time.sleep(0.2)
    raise SystemExit(f"The order is still in the line after {PATIENCE_SECONDS} s.")


def main() -> None:
    made: list[dict[str, str]] = []
    try:
        for role in ("admin", "service"):  # each is taken back, also when the next one could not be made
            made.append(keys("create", "--role", role, "--subject", "helm-test"))  # noqa: PERF401 - one by one
        status = order(*(one["key"] for one in made))
    finally:
        for one in made:
            keys("revoke", one["key_id"])
    if status != "pending_payment":
        raise SystemExit(f"The order is {status}, and should wait for its payment.")
    print("It is in the database, and waits for its payment.")


main()
