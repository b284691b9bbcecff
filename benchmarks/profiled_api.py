"""`peakclip api` under observation: `python -m benchmarks.profiled_api FILE [--watched]`.

SIGUSR1 sets the counters to zero, SIGUSR2 writes them to FILE as JSON. Without `--watched` no stop watch runs and
only the CPU time of the process is counted: that is what an accept costs, stop watches add to it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from aiohttp.web_protocol import RequestHandler
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from prometheus_client import Histogram

from benchmarks.probes import Cost, Watch, calibrate
from peakclip import ingest, messages, outcomes, telemetry
from peakclip.jetstream import JetStream
from peakclip.service import Service, run_service
from peakclip_api import accept, auth, express, guarded, in_flight, lane, line, main, sales, wait
from peakclip_api.settings import ApiSettings

# (stage, where the name is looked up, names): in the words of the table.
PARSE: Final = "HTTP: read and parse the request (aiohttp)"
LANE: Final = "Express lane: which way, body of the answer"
WRITE: Final = "HTTP: write the answer to the socket"
AUTH: Final = "Authentication, customer"
VALIDATION: Final = "Validate the body"
IDEMPOTENCY: Final = "Idempotency: key, order id, fingerprint"
SALE: Final = "Sale, window, customer's limit"
BOOKKEEPING: Final = "Accept: checks in order, what is in flight"
METRICS: Final = "Metrics"
GROUP: Final = "Group commit: gather, encode the frame, tell the waiting"
LINE: Final = "Line: own frames, position, the log read back"
NATS: Final = "NATS client: reserve, publish, read"
STAGES: Final[tuple[tuple[str, Any, tuple[str, ...]], ...]] = (
    (PARSE, RequestHandler, ("data_received",)),
    (PARSE, guarded.Sieve, ("feed_data",)),
    (LANE, express.OrderConnection, ("_sift",)),
    (LANE, express, ("is_order",)),
    (LANE, lane.ExpressLane, ("begin", "answer")),
    (WRITE, express.OrderConnection, ("_ended",)),
    (AUTH, auth.Keys, ("remembered",)),
    (AUTH, lane, ("customer_of",)),
    (VALIDATION, lane, ("decode_body",)),
    (IDEMPOTENCY, lane, ("idempotency_key",)),
    (IDEMPOTENCY, messages, ("order_id",)),
    (IDEMPOTENCY, accept, ("fingerprint",)),
    (SALE, sales.Sales, ("remembered",)),
    (SALE, accept, ("check_window",)),
    (SALE, line.Line, ("bought",)),
    (BOOKKEEPING, accept.Acceptor, ("begin", "finish", "_put_in_line")),
    (BOOKKEEPING, in_flight.InFlight, ("has_room", "took_off", "landed")),
    (BOOKKEEPING, wait.Wait, ("seconds", "check")),
    (METRICS, Histogram, ("observe",)),
    (METRICS, telemetry.Gathered, ("write",)),
    (GROUP, ingest.Intake, ("submit", "_commit_groups", "_commit", "_reserve", "_store")),
    (GROUP, outcomes.Waiting, ("end",)),
    (GROUP, ingest, ("encode_frame",)),
    (LINE, line.Line, ("add_own_frame", "position", "find")),
    (LINE, line.Follower, ("_on_frame",)),
    (NATS, JetStream, ("publish", "increment", "request")),
    (NATS, Client, ("_read_loop", "_flusher")),
    (NATS, Subscription, ("_wait_for_msgs",)),
)
# (name, class, coroutine method), once a frame: how long it takes, answer of the server included.
WAITS: Final = (
    ("reserve", ingest.Intake, "_reserve"),
    ("publish", ingest.Intake, "_store"),
)


def install(watch: Watch) -> None:
    """Puts the stop watches on. Raises AttributeError when a function has another name by now."""
    for stage, owner, names in STAGES:
        for name in names:
            setattr(owner, name, watch.on(stage, getattr(owner, name)))
    for name, owner, method in WAITS:
        setattr(owner, method, watch.timed(name, getattr(owner, method)))


class Observer:
    """Counters between two signals."""

    def __init__(self, path: Path, watch: Watch | None, cost: Cost) -> None:
        self._path = path
        self._watch = watch
        self._cost = cost
        self._began = time.perf_counter()
        self._before = resource.getrusage(resource.RUSAGE_SELF)
        self._collecting = 0.0
        self._collected_seconds = 0.0

    def collector(self, phase: str, _: dict[str, int]) -> None:
        """For `gc.callbacks`: the time of garbage collections, which fall into whatever stage runs."""
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._collected_seconds += time.perf_counter() - self._collecting

    def begin(self) -> None:
        self._began = time.perf_counter()
        self._before = resource.getrusage(resource.RUSAGE_SELF)
        self._collected_seconds = 0.0
        if self._watch is not None:
            self._watch.reset()

    def write(self) -> None:
        now = resource.getrusage(resource.RUSAGE_SELF)
        before = self._before
        found: dict[str, Any] = {
            "seconds": time.perf_counter() - self._began,
            "user_seconds": now.ru_utime - before.ru_utime,
            "system_seconds": now.ru_stime - before.ru_stime,
            "preempted": now.ru_nivcsw - before.ru_nivcsw,
            "garbage_collection_seconds": self._collected_seconds,
        }
        if self._watch is not None:
            entries = sum(stage.entered for stage in self._watch.stages.values())
            found["stages"] = self._watch.own_seconds(self._cost)
            found["watch_seconds"] = entries * (self._cost.inside + self._cost.outside)
            found["waits_ms"] = {
                name: statistics.median(waits) * 1e3 for name, waits in self._watch.waits.items() if waits
            }
            found["frames"] = len(self._watch.waits["publish"])
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(json.dumps(found))
        unfinished.rename(self._path)


def command(path: Path, *, watched: bool) -> None:
    watch = Watch() if watched else None
    cost = calibrate() if watched else Cost()
    if watch is not None:
        install(watch)
    observer = Observer(path, watch, cost)
    gc.callbacks.append(observer.collector)
    settings = ApiSettings.load()

    async def serve(service: Service) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, observer.begin)
        loop.add_signal_handler(signal.SIGUSR2, observer.write)
        await main.serve(settings, service)

    run_service("api", settings, serve)


if __name__ == "__main__":
    command(Path(sys.argv[1]), watched="--watched" in sys.argv)
