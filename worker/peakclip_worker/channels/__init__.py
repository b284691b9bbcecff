"""Ways out of the system for a notification: one adapter per channel, all behind the port `Channel`.

An adapter makes one attempt and says how it ended: nothing (the far side has it), refused, or failed. Whether and when
there is another attempt is decided in `peakclip_worker.deliveries`; nothing here knows the database, NATS or a retry.
A push is no channel: it goes over Core NATS, at most once, and has no state.
"""
