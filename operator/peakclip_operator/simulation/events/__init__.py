"""Event level: every message, ticket, look, fetch, start, acknowledgement and crash is an event on one heap.

The limiter is the real one, class and all, and so is the pull consumer: each worker is an event loop of its own on
the virtual clock (`kernel`), and the port to NATS (`link`) speaks to a model of the broker (`broker`, `queue`).
Nothing here waits, opens a socket or reads a clock; the same seed gives the same run to the last event.
`conditions` draws what happens in a run, `world` lets it happen, `judge` says which promise was broken.
"""
