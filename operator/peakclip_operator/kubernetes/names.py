"""Names of the resource, as the API server has them."""

from __future__ import annotations

from typing import Final

from peakclip_operator.kubernetes.api import path_to

GROUP: Final = "peakclip.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "WorkerPool"
WORKER_POOLS: Final = "workerpools"


def path_of(namespace: str, name: str = "", subresource: str = "") -> str:
    return path_to(API_VERSION, namespace, WORKER_POOLS, name, subresource)
