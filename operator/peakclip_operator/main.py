"""`peakclip operator`: the control loops of all pools on one machine, with worker processes of their own.

With `--kubernetes`, those of the WorkerPools of a cluster: package `kubernetes`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence

import click
import structlog

from peakclip import telemetry, topology
from peakclip.errors import SettingsError
from peakclip.jetstream import JetStream
from peakclip.service import Service, run_service
from peakclip_operator import worker_process
from peakclip_operator.lanes import SharedRates
from peakclip_operator.pool import PoolOperator
from peakclip_operator.processes import ForkServer, ProcessScaler
from peakclip_operator.settings import OperatorSettings

log = structlog.get_logger()


@click.command()
@click.option("--pool", "pools", multiple=True, type=click.Choice(list(topology.POOLS)),
              help="A pool to look after; may be given several times.  [default: all]")  # fmt: skip
@click.option("--kubernetes", is_flag=True,
              help="Look after the WorkerPools of a cluster instead of processes on this machine.")  # fmt: skip
def command(pools: tuple[str, ...], kubernetes: bool) -> None:
    """Keep just enough workers for the rate of each pool, and say why."""
    if kubernetes:
        if pools:
            raise click.UsageError(
                "--pool is for one machine: on Kubernetes every WorkerPool is looked after."
            )
        return _on_kubernetes()
    settings = OperatorSettings.load(pools=pools or None)
    try:
        chosen = chosen_pools(settings, worker_process.served_pools())
    except SettingsError as exc:
        raise click.UsageError(str(exc)) from exc  # exit 2
    run_service("operator", settings, lambda service: operate(settings, service, chosen))


def _on_kubernetes() -> None:
    # Here and nowhere else: the images of workers and API have no client of Kubernetes.
    from peakclip_operator.kubernetes.main import operate as operate_cluster
    from peakclip_operator.kubernetes.settings import ClusterSettings

    settings = ClusterSettings.load()
    try:
        run_service("operator", settings, lambda service: operate_cluster(settings, service))
    except SettingsError as exc:  # neither a service account nor a KUBECONFIG
        raise click.UsageError(str(exc)) from exc  # exit 2


def chosen_pools(settings: OperatorSettings, served: Collection[str]) -> list[str]:
    """In the order of the topology. `served` are those that the installed worker can work for.

    Raises SettingsError when another one was asked for; unasked it is left out.
    """
    wanted = served if settings.pools is None else settings.pools
    if unserved := sorted(set(wanted) - set(served)):
        raise SettingsError(f"The installed worker does not work for {', '.join(unserved)}.")
    return [pool for pool in topology.POOLS if pool in wanted]


async def operate(
    settings: OperatorSettings,
    service: Service,
    pools: Sequence[str],
    *,
    worker: Callable[[str], None] = worker_process.run_worker,
) -> None:
    """Until the service is asked to stop; then the workers of all pools drain before this returns.

    `worker` runs in each worker process with the name of its pool.
    """
    # First of all: the fork server imports the worker while this process connects.
    forks = ForkServer(worker_process.worker_modules())
    scalers = {
        pool: ProcessScaler(pool, forks, target=worker, drain_seconds=settings.drain_seconds)
        for pool in pools
    }
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(forks.close)
        stack.push_async_callback(_close_all, scalers)
        js = await _connect(settings, service)
        if js is None:
            return
        stack.push_async_callback(js.close)
        service.check("nats", lambda: js.connected)
        await _run_all(settings, service, js, scalers)


async def _close_all(scalers: dict[str, ProcessScaler]) -> None:
    """At the same time: the pools share one deadline, that of this process."""
    await asyncio.gather(*(scaler.close() for scaler in scalers.values()))


async def _run_all(
    settings: OperatorSettings, service: Service, js: JetStream, scalers: dict[str, ProcessScaler]
) -> None:
    """Each pool begins when what it needs is there, and waits for no other; /readyz names those that still wait.

    What a pool does not expect ends the whole process: the next one starts from what is stored.
    """
    log.info("looks_after", pools=list(scalers))
    telemetry.LEADER.set(1)  # on one machine there is no other
    shared = SharedRates()
    operators = {pool: PoolOperator(pool, settings, js, scaler, shared) for pool, scaler in scalers.items()}
    for pool, one in operators.items():
        service.check(f"lag-{pool}", one.knows_its_lag)
    service.ready()
    async with asyncio.TaskGroup() as group:
        group.create_task(_share(service, js, shared), name="shared")
        for pool, one in operators.items():
            group.create_task(one.run(service.stopping), name=f"pool-{pool}")


async def _share(service: Service, js: JetStream, shared: SharedRates) -> None:
    sharing = asyncio.create_task(shared.run(lambda: js if js.connected else None))
    stopping = asyncio.create_task(service.stopping.wait())
    await asyncio.wait({sharing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    sharing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sharing


async def _connect(settings: OperatorSettings, service: Service) -> JetStream | None:
    """None when the service is asked to stop before NATS has answered."""
    connecting = asyncio.create_task(JetStream.connect(settings.nats_url, name="peakclip-operator"))
    stopping = asyncio.create_task(service.stopping.wait())
    await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not connecting.done():
        connecting.cancel()
        return None
    return connecting.result()
