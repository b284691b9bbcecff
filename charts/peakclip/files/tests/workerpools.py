"""`helm test`: every WorkerPool of the release says that it is ready. WORKER_POOLS names them."""

import json
import os
import ssl
import time
import urllib.request
from pathlib import Path

PATIENCE_SECONDS = 60
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def pool(name: str) -> dict[str, object]:
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    namespace = (ACCOUNT / "namespace").read_text()
    path = f"/apis/peakclip.dev/v1alpha1/namespaces/{namespace}/workerpools/{name}"
    request = urllib.request.Request(server + path)  # noqa: S310
    request.add_header("Authorization", f"Bearer {(ACCOUNT / 'token').read_text()}")
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
        found: dict[str, object] = json.load(answer)
    return found


def ready(name: str) -> tuple[bool, str]:
    status = pool(name).get("status", {})
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    for one in conditions:
        if one["type"] == "Ready":
            return one["status"] == "True", f"{one['reason']}: {one['message']}"
    return False, "the operator has not said anything"


def main() -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    for name in os.environ["WORKER_POOLS"].split():
        while not (found := ready(name))[0]:
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} is not ready: {found[1]}.")
            time.sleep(0.5)
        print(f"{name} is ready ({found[1]}).")


main()
