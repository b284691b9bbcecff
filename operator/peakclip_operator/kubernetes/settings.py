"""Settings of `peakclip operator --kubernetes`. Read from PEAKCLIP_* variables and the pod's own POD_* ones."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Self

import pydantic
from pydantic_settings import NoDecode

from peakclip.settings import Settings


class ClusterSettings(Settings):
    """What is wanted of a pool stands in its WorkerPool; here is only what the process itself must know."""

    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Where WorkerPools are looked after, with commas in between, or `*` alone for everywhere. Absent: in the
    operator's own namespace only, so that the rights of one namespace are enough."""

    pod_name: str = pydantic.Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}", validation_alias="POD_NAME"
    )
    """Who holds the lease, and whom Events name. Absent: machine and process, so that no two are alike."""

    pod_namespace: str = pydantic.Field(default="default", validation_alias="POD_NAMESPACE")
    """Where the lease is."""

    lease_name: str = "peakclip-operator"
    """Only the operator that holds this Lease acts. Two operators for different namespaces need different names."""

    lease_seconds: float = pydantic.Field(default=10.0, ge=4, le=120)
    """How long a lease that nobody renews keeps others out: the pause after a leader was killed. It renews every
    fifth of it, and stops acting after two thirds without success."""

    tick_seconds: float = pydantic.Field(default=0.5, ge=0.1, le=10)
    """From one look to the next. A pod needs seconds to start, so a shorter one would gain nothing."""

    @pydantic.field_validator("namespaces", mode="before")
    @classmethod
    def _names(cls, given: object) -> object:
        return (
            [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given
        )

    @pydantic.model_validator(mode="after")
    def _own_namespace(self) -> Self:
        if not self.namespaces:
            object.__setattr__(self, "namespaces", (self.pod_namespace,))  # frozen for everybody else
        return self
