"""`peakclip operator --kubernetes`: stands by until it holds the lease, then looks after all WorkerPools."""

from __future__ import annotations

import asyncio

from peakclip.service import Service
from peakclip_operator.kubernetes.api import KubernetesApi
from peakclip_operator.kubernetes.lease import Lease
from peakclip_operator.kubernetes.link import NatsLink
from peakclip_operator.kubernetes.pools import Pools, Resource
from peakclip_operator.kubernetes.runner import PoolRunner, Surroundings
from peakclip_operator.kubernetes.settings import ClusterSettings
from peakclip_operator.kubernetes.watch import Watch, route_logs


async def operate(settings: ClusterSettings, service: Service) -> None:
    """Until the service is asked to stop. The workers stay as they are."""
    route_logs()
    api = await KubernetesApi.connect()
    lease = Lease(
        api,
        namespace=settings.pod_namespace,
        name=settings.lease_name,
        identity=settings.pod_name,
        seconds=settings.lease_seconds,
    )
    api.may_write = lease.held
    link = NatsLink(settings.nats_url)
    service.spawn("nats", link.run())
    around = Surroundings(api, link, settings.pod_name, settings.tick_seconds)
    service.ready()  # one that stands by is ready, too: to take over
    try:
        await lease.run(service.stopping, lambda: _lead(settings, around))
    finally:
        await api.close()


async def _lead(settings: ClusterSettings, around: Surroundings) -> None:
    """Until it is cancelled."""

    def runner(resource: Resource) -> PoolRunner:
        return PoolRunner(around, resource)

    pools = Pools(runner)
    sharing = asyncio.create_task(
        around.shared.run(around.link.connected, around.api.may_write), name="shared"
    )
    try:
        watch = Watch(around.api, settings.namespaces, seen=pools.seen, gone=pools.gone, listed=pools.listed)
        await watch.run()
    finally:
        sharing.cancel()
        await pools.close()
