"""What every Peakclip process shares: messages, topology, limiter, store, lifecycle, telemetry.

This package imports no unit (`peakclip_api`, `peakclip_worker`, `peakclip_operator`); the units import it.
"""
