"""Puts the application together: resources as context managers, then routes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable

from aiohttp import hdrs, web

from peakclip import store
from peakclip.jetstream import JetStream
from peakclip.roles import API, ROLES
from peakclip.service import Service
from peakclip.streams import until_there
from peakclip_api import counted, keys, rpc
from peakclip_api.accepting import Accepting
from peakclip_api.auth import Keys
from peakclip_api.auth.signing import SigningKeys, Tokens
from peakclip_api.bookings import Bookable
from peakclip_api.deadline import within
from peakclip_api.inboxes import Inboxes
from peakclip_api.live import Readers
from peakclip_api.lookup import Lookup
from peakclip_api.problems import problems
from peakclip_api.routes import (
    dashboard,
    docs,
    masterdata,
    nats_metrics,
    notifications,
    order_events,
    orders,
    reports,
    reviews,
    sales,
    shop,
    tickets,
    transitions,
)
from peakclip_api.sales import Sales
from peakclip_api.settings import ApiSettings
from peakclip_api.stock import Stock
from peakclip_api.traced import traced
from peakclip_api.trail import Trail


def create_app(settings: ApiSettings, service: Service) -> web.Application:
    app = web.Application(
        middlewares=[counted.counted, traced, problems, within(settings.answer_within_seconds)],
        client_max_size=settings.max_body_bytes,
    )
    app[keys.SERVICE] = service
    app.on_response_prepare.append(_last_answer)
    app.cleanup_ctx.append(_resources(settings, service))
    for resource in (
        orders, order_events, transitions, reviews, notifications, tickets, reports, masterdata, sales, dashboard,
        nats_metrics, docs, shop,
    ):  # fmt: skip
        resource.add_routes(app)
    app.on_shutdown.append(_end_streams)
    return app


def _resources(settings: ApiSettings, service: Service) -> Callable[[web.Application], AsyncIterator[None]]:
    async def resources(app: web.Application) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            js = await stack.enter_async_context(
                await JetStream.connect(settings.nats_url, name="peakclip-api")
            )
            service.check("nats", lambda: js.connected)
            pool = await store.connect(settings.database_url, min_size=1, max_size=4)
            stack.push_async_callback(pool.close)
            await until_there(js, ROLES[API])
            accepting = Accepting(
                js, settings.remembered_orders, settings.longest_wait_seconds,
                most_in_flight=settings.max_in_flight_orders,
            )  # fmt: skip
            line, follower = accepting.line, accepting.follower
            service.check("order log", follower.caught_up.is_set)
            app[keys.JS], app[keys.POOL] = js, pool
            app[keys.LINE], app[keys.FOLLOWER] = line, follower
            app[keys.BOARD], app[keys.INTAKE] = accepting.board, accepting.intake
            app[keys.KEYS] = Keys(pool, time.monotonic, _tokens(settings, service))
            app[keys.SALES] = Sales(pool, time.monotonic)
            app[keys.STOCK] = Stock(js, pool, app[keys.SALES])
            app[keys.BOOKABLE] = Bookable(pool, time.monotonic)
            app[keys.ACCEPTOR] = accepting.acceptor
            app[keys.LOOKUP] = Lookup(pool, line, follower, accepting.wait.seconds)
            await _open_streams(app, js, service)
            stack.push_async_callback(accepting.board.stop)
            await accepting.begin(service)
            service.spawn("counts", counted.keep_writing())
            stack.push_async_callback((await rpc.start(js, app[keys.LOOKUP])).stop)
            yield

    return resources


async def _open_streams(app: web.Application, js: JetStream, service: Service) -> None:
    """What streams of events need; they end when the application begins to shut down."""
    app[keys.READERS], app[keys.INBOXES], app[keys.TRAIL] = Readers(), Inboxes(js), Trail(js)
    await app[keys.TRAIL].start()
    service.spawn("readers", app[keys.READERS].run(js))


async def _last_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Of a process that leaves: a connection that were kept would be cut, maybe with a request on its way."""
    if request.app[keys.SERVICE].stopping.is_set():
        response.force_close()
        response.headers[hdrs.CONNECTION] = "close"  # aiohttp's own headers are made by now


async def _end_streams(app: web.Application) -> None:
    if keys.READERS in app:
        app[keys.READERS].end_all()


def _tokens(settings: ApiSettings, service: Service) -> Tokens | None:
    """No condition of readiness: while the issuer is away, API keys work, and so do the tokens of known keys."""
    rules = settings.token_rules()
    if rules is None or settings.jwt_jwks is None:
        return None
    signing = SigningKeys.of(settings.jwt_jwks, time.monotonic)
    service.spawn("signing-keys", signing.run())
    return Tokens(rules, signing, time.time)
