"""Typed keys of what the application carries."""

from __future__ import annotations

from typing import Final

import asyncpg
from aiohttp import web

from peakclip.ingest import Intake
from peakclip.jetstream import JetStream
from peakclip.service import Service
from peakclip_api.accept import Acceptor
from peakclip_api.auth import Keys
from peakclip_api.board import Board
from peakclip_api.bookings import Bookable
from peakclip_api.inboxes import Inboxes
from peakclip_api.line import Follower, Line
from peakclip_api.live import Readers
from peakclip_api.lookup import Lookup
from peakclip_api.sales import Sales
from peakclip_api.stock import Stock
from peakclip_api.trail import Trail

SERVICE: Final = web.AppKey("service", Service)
BOARD: Final = web.AppKey("board", Board)
JS: Final = web.AppKey("js", JetStream)
POOL: Final = web.AppKey("pool", asyncpg.Pool)
KEYS: Final = web.AppKey("keys", Keys)
SALES: Final = web.AppKey("sales", Sales)
STOCK: Final = web.AppKey("stock", Stock)
BOOKABLE: Final = web.AppKey("bookable", Bookable)
LINE: Final = web.AppKey("line", Line)
FOLLOWER: Final = web.AppKey("follower", Follower)
INTAKE: Final = web.AppKey("intake", Intake)
ACCEPTOR: Final = web.AppKey("acceptor", Acceptor)
LOOKUP: Final = web.AppKey("lookup", Lookup)
READERS: Final = web.AppKey("readers", Readers)
INBOXES: Final = web.AppKey("inboxes", Inboxes)
TRAIL: Final = web.AppKey("trail", Trail)
