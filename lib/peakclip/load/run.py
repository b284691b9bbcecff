"""One run from options to result."""

from __future__ import annotations

import gc
import secrets
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from peakclip.errors import PeakclipError
from peakclip.load.driver import Driver
from peakclip.load.http import order_requests
from peakclip.load.outcome import LoadOptions, LoadResult, Progress, summarise


class TargetError(PeakclipError):
    """The load has no target."""


async def run_load(
    options: LoadOptions, *, progress: Callable[[Progress], None] | None = None, every: float = 0.25
) -> LoadResult:
    """Sends `options.orders` orders. Requests are built and connections opened before the clock starts.

    `progress` is called every `every` seconds. Raises TargetError if the URL is no URL or does not answer.
    """
    address = urlsplit(options.url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise TargetError(f"{options.url!r} is not an http:// or https:// address.")
    if options.orders < 1 or options.connections < 1 or (options.rate is not None and options.rate <= 0):
        raise TargetError("A load needs at least one order, one connection, and a rate above 0 if any.")
    path = f"{address.path.rstrip('/')}/v1/sales/{quote(options.sale, safe='')}/orders"
    requests = order_requests(
        host=address.netloc.rpartition("@")[2],
        path=path,
        key=options.key,
        run=secrets.token_hex(6),
        count=options.orders,
        quantity=options.quantity,
    )
    driver = Driver(options, address, requests)
    try:
        await driver.open()
    except OSError as exc:
        raise TargetError(
            f"{address.hostname}:{address.port or ''} cannot be reached: {exc.strerror or exc}"
        ) from exc
    # Nothing below makes reference cycles; a collection in the middle would be measured as the server's.
    gc.collect()
    gc.disable()
    cpu = time.process_time()
    try:
        await driver.run(progress, every)
    finally:
        cpu = time.process_time() - cpu
        gc.enable()
    return summarise(
        options,
        driver.answers,
        started_at=driver.started_at,
        causes=driver.causes,
        retries=driver.retries,
        cpu_seconds=cpu,
    )
