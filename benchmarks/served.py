"""The processes of the designs, each design on one port."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Final

from benchmarks.designs import Design
from benchmarks.environment import Environment
from benchmarks.errors import BenchmarkError
from benchmarks.load import Target
from peakclip.local import ports
from peakclip.local.process import ProcessSpec

_SYNC: Final = ("sync", "sync-tuned", "sync-one-call")
SALES: Final = dict.fromkeys(_SYNC, "bench-sync")  # their stock is the row in PostgreSQL
SALE: Final = "bench"
RELAY_NICE: Final = 5  # as `peakclip up` runs it
_PORT_TRIES: Final = 20


@contextlib.asynccontextmanager
async def served(
    env: Environment, designs: Sequence[Design], processes: int, connections: int
) -> AsyncIterator[dict[str, Target]]:
    """The designs' processes, each design on one port. `connections` are those of (a') and (a'') to PostgreSQL."""
    with contextlib.ExitStack() as held:
        specs: dict[str, list[ProcessSpec]] = {}
        for design in designs:
            holder = held.enter_context(_reserved_port())
            specs[design.name] = _specs(env, design, processes, connections, holder.getsockname()[1])
        async with env.running(*(spec for some in specs.values() for spec in some)) as pids:
            yield {name: _target(env, name, some, pids) for name, some in specs.items()}


def _specs(
    env: Environment, design: Design, processes: int, connections: int, port: int
) -> list[ProcessSpec]:
    variables = {
        "PEAKCLIP_HOST": ports.LOOPBACK,
        "PEAKCLIP_PORT": str(port),
        "PEAKCLIP_CONNECTIONS": str(connections),
    }
    if design.name == "lazy" and env.lazy_nats is not None:
        variables["PEAKCLIP_NATS_URL"] = env.lazy_nats.url
    peakclip = design.name == "peakclip"
    module, arguments = ("peakclip", ["api"]) if peakclip else ("benchmarks.variants", [design.name])
    specs = [
        env.process(f"{design.name}-{number}", module, arguments, env=variables)
        for number in range(1, processes + 1)
    ]
    if peakclip:  # nothing is switched off: the relay takes frames apart while more are accepted
        specs.append(env.process("relay", "peakclip", ["relay"], nice=RELAY_NICE))
    return specs


def _target(env: Environment, design: str, specs: Sequence[ProcessSpec], pids: dict[str, int]) -> Target:
    roles = {
        "api": [pids[spec.name] for spec in specs if spec.name != "relay"],
        "nats": [env.pid("nats-lazy" if design == "lazy" else "nats")],
        "postgres": [env.pid("postgres")],
    }
    if design == "peakclip":
        roles["relay"] = [pids["relay"]]
    url = f"http://{ports.LOOPBACK}:{specs[0].env['PEAKCLIP_PORT']}"
    return Target(url, SALES.get(design, SALE), env.service_key, roles)


def _reserved_port() -> socket.socket:
    """A port may still be remembered by closed connections of another server: then the next one."""
    for _ in range(_PORT_TRIES):
        with contextlib.suppress(OSError):
            return ports.reserve(ports.free_port())
    raise BenchmarkError("There is no free port.")
