"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds."""

    rounds: int = 5
    seconds: float = 3.0  # of each design in each round, about
    drain_seconds: float = 1.5
    processes: int = 2  # of each design, on one port
    connections: int = 256
    first_orders: int = 1_000  # of the first look at a design's speed
    half_load_rounds: int = 3
    half_load_seconds: float = 5.0
    profile_rounds: int = 3
    fixed_orders: int | None = None  # this many in every run, instead of as many as take the wanted time
    sync_connections: tuple[int, ...] = (1, 2, 4, 8, 16)  # of each process of (a'): the best is taken
    due_orders: int = 100_000  # that expire in the same second
    reaper_rate: float = 500.0
    expiry_rounds: int = 8
    expiry_seconds: float = 4.0  # of each load in each round
    expiry_load_rate: float = 1_000.0  # orders per second, open loop
    expiry_connections: int = 64
    chaos_rounds: int = 3
    chaos_rate: float = 50.0  # R: orders per second
    chaos_seconds: float = 6.0  # of the baseline, and of what comes afterwards
    chaos_whole_seconds: float = 100.0  # that R may take to be in force again
    chaos_fault_seconds: float = 5.0
    chaos_recovery_seconds: float = 2.0  # between the return of what was away and "afterwards"
    slow_connections: int = 1_000
    slow_rounds: int = 5
    slow_seconds: float = 10.0  # of each load in each round
    slow_rate: float = 1_000.0  # orders per second, open loop
    slow_clients: int = 64


QUICK = Options(
    rounds=1,
    seconds=0.2,
    drain_seconds=0.1,
    processes=1,
    connections=16,
    first_orders=50,
    half_load_rounds=1,
    half_load_seconds=0.3,
    profile_rounds=1,
    fixed_orders=200,
    sync_connections=(2,),
    due_orders=3_000,
    reaper_rate=500.0,
    expiry_rounds=1,
    expiry_seconds=0.3,
    expiry_load_rate=200.0,
    expiry_connections=8,
    chaos_rounds=1,
    chaos_rate=100.0,
    chaos_seconds=0.5,
    chaos_fault_seconds=0.5,
    chaos_recovery_seconds=1.0,
    chaos_whole_seconds=0.5,
    slow_connections=40,
    slow_rounds=1,
    slow_seconds=0.3,
    slow_rate=200.0,
    slow_clients=8,
)
